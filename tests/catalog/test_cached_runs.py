"""Scans and packs of many runs that are used again: they never change the answer of a query."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ockham.catalog import Catalog, cache_folder, packs, run_stamps, scan_cache
from ockham.record.parquet.coverage import sidecar_path
from ockham.record.parquet.tables import parquet_bytes
from tests.helpers.runs import make_run

RUNS = ("r0", "r1", "r2")
# Longer than one tick of the clock of the file system.
TICK_SECONDS = 0.03
FIGURES = "select * from run_summary order by run_id"
ROWS = """
select r.run_id, r.created, r.user_name, r.verifier_key,
    (select count(*) from events e where e.run_id = r.run_id) as events,
    (select count(*) from events e where e.run_id = r.run_id and signed) as signed,
    (select count(*) from decisions d where d.run_id = r.run_id) as decisions,
    (select sum(observed) from decisions d where d.run_id = r.run_id) as observed,
    (select count(*) from contexts c where c.run_id = r.run_id) as contexts,
    (select list(content order by content) from policies p where p.run_id = r.run_id) as policies
from runs r order by r.run_id
"""


@pytest.fixture(scope="module")
def written_runs(tmp_path_factory):
    """Folder with three runs, and one in `spare` that a test can add."""
    folder = tmp_path_factory.mktemp("written")
    for name in RUNS:
        make_run(folder, name, 10)
    make_run(folder / "spare", "r9", 10)
    return folder


@pytest.fixture
def runs(written_runs, tmp_path, monkeypatch):
    """Copy of the runs that fills a cache of its own."""
    for module in (cache_folder, scan_cache):
        monkeypatch.setattr(module, "MIN_RUNS", 1)
    monkeypatch.setattr(scan_cache, "_MIN_NEW_SCANS", 1)
    monkeypatch.setattr(packs, "MIN_MEMBERS", 2)
    monkeypatch.setattr(run_stamps, "RECENT_NS", int(TICK_SECONDS * 5e8))
    monkeypatch.setenv("OCKHAM_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(written_runs, tmp_path / "runs")
    time.sleep(TICK_SECONDS)
    return tmp_path / "runs"


def cache_files(runs: Path) -> list[Path]:
    return sorted(path for path in (runs.parent / "cache").rglob("*") if path.is_file())


def answers(catalog: Catalog) -> list[list[dict]]:
    return [catalog.rows(FIGURES), catalog.rows(ROWS)]


def answers_without_cache(runs: Path, monkeypatch) -> list[list[dict]]:
    with monkeypatch.context() as patch:
        patch.setenv("OCKHAM_CACHE_DIR", "")
        return answers(Catalog(runs))


def count_lines(runs: Path) -> dict[str, int]:
    """Return run ID -> number of complete lines in its segments, independent of the catalog."""
    return {
        folder.name: sum(
            json.loads(line)["source"].endswith(f"/{folder.name}")
            for path in folder.glob("log/*/*.jsonl")
            for line in path.read_bytes().splitlines()
        )
        for folder in runs.iterdir()
        if (folder / "run.json").is_file()
    }


def keep_times(path: Path, data: bytes) -> None:
    """Overwrite a file and restore its modification time, as someone who hides a change would."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    keep_times(path, bytes(data))


def first(runs: Path, pattern: str) -> Path:
    return next(iter(sorted((runs / "r1").glob(pattern))))


def replace_decisions(runs: Path) -> None:
    """Replace a Parquet file and its sidecar by ones that match each other and contain other values."""
    path = first(runs, "decisions/*/*.parquet")
    table = pq.read_table(path)
    changed = pa.array([42.0] * table.num_rows, pa.float64())
    data = parquet_bytes(table.set_column(table.schema.get_field_index("observed"), "observed", changed))
    keep_times(path, data)
    sidecar = orjson.loads(sidecar_path(path).read_bytes())
    keep_times(sidecar_path(path), orjson.dumps({**sidecar, "sha256": hashlib.sha256(data).hexdigest()}))


def edit_run_json(runs: Path, **values: object) -> None:
    path = runs / "r1" / "run.json"
    keep_times(path, orjson.dumps({**orjson.loads(path.read_bytes()), **values}))


def change_policy(runs: Path) -> None:
    path = first(runs, "policies/*.json")
    keep_times(path, path.read_bytes().replace(b'"balanced"', b'"changed_"'))


def remove_heads(runs: Path) -> None:
    first(runs, "log/*/checkpoint").unlink()
    first(runs, "log/*/checkpoints").unlink()


def damage_heads(runs: Path) -> None:
    for path in sorted((runs / "r1").glob("log/*/checkpoint*")):
        keep_times(path, bytes(path.stat().st_size))


def append_line(runs: Path) -> None:
    path = first(runs, "log/*/*.jsonl")
    event = json.loads(path.read_bytes().splitlines()[-1])
    event["data"]["sequence"] += 1
    with path.open("ab") as file:
        file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")


CHANGES = {
    "added run": lambda runs: shutil.copytree(runs / "spare" / "r9", runs / "r9"),
    "removed run": lambda runs: shutil.rmtree(runs / "r1"),
    "renamed run": lambda runs: (runs / "r1").rename(runs / "r8"),
    "removed Parquet file": lambda runs: first(runs, "contexts/*/*.parquet").unlink(),
    "damaged Parquet file": lambda runs: flip_byte(first(runs, "events/*/*.parquet")),
    "other values": replace_decisions,
    "removed sidecar": lambda runs: first(runs, "sidecars/events/*/*.json").unlink(),
    "changed run.json": lambda runs: edit_run_json(runs, user="someone"),
    "other key": lambda runs: edit_run_json(runs, verifier_key="none"),
    "changed policy": change_policy,
    "removed tree heads": remove_heads,
    "damaged tree heads": damage_heads,
    "appended line": append_line,
}
CACHE_CHANGES = {
    "damaged": lambda runs: [flip_byte(path) for path in cache_files(runs)],
    "truncated": lambda runs: [path.write_bytes(b"") for path in cache_files(runs)],
    "removed packs": lambda runs: [path.unlink() for path in cache_files(runs) if path.suffix == ".parquet"],
    "removed lists": lambda runs: [path.unlink() for path in cache_files(runs) if not path.suffix],
}


def require_true_answers(runs: Path, catalog: Catalog, monkeypatch) -> None:
    """Compare the open catalog and a new one with a catalog without cache, and with the lines."""
    expected = answers_without_cache(runs, monkeypatch)
    assert answers(Catalog(runs)) == expected
    # The next one can use what this one has kept.
    time.sleep(TICK_SECONDS)
    assert answers(Catalog(runs)) == expected
    assert answers(catalog) == expected
    readable = {name: count for name, count in count_lines(runs).items() if name != "r8"}
    assert {row["run_id"]: row["events"] for row in expected[1]} == readable


@pytest.mark.parametrize("change", CHANGES)
def test_changed_run_with_filled_cache_changes_answer(runs, monkeypatch, change):
    """After each kind of change the answer is that of a catalog without cache."""
    catalog = Catalog(runs)
    before = answers(catalog)
    assert {path.suffix for path in cache_files(runs)} == {"", ".parquet"}
    CHANGES[change](runs)
    require_true_answers(runs, catalog, monkeypatch)
    # All others change only files that the lines replace.
    if change not in ("removed Parquet file", "damaged Parquet file", "removed sidecar"):
        assert answers(catalog) != before


@pytest.mark.parametrize("change", CACHE_CHANGES)
def test_changed_cache_keeps_answer(runs, monkeypatch, change):
    """A changed cache is not used, also by a catalog that has used it before."""
    catalog = Catalog(runs)
    before = answers(catalog)
    CACHE_CHANGES[change](runs)
    require_true_answers(runs, catalog, monkeypatch)
    assert answers(catalog) == before


def test_random_changes_keep_answer_true(runs, monkeypatch):
    """The answer stays true after each of several changes of runs and cache."""
    draw = random.Random(3)
    catalog = Catalog(runs)
    names = [name for name in CHANGES if name not in ("removed run", "renamed run", "removed tree heads")]
    for name in draw.sample(names, 4):
        CACHE_CHANGES[draw.choice([*CACHE_CHANGES])](runs)
        # An earlier change can have removed the file.
        with contextlib.suppress(StopIteration):
            CHANGES[name](runs)
        require_true_answers(runs, catalog, monkeypatch)


def test_unsigned_run_is_not_counted_from_cache(runs):
    """Once the tree heads are gone, no figure counts the events of the run."""
    signed = {row["run_id"]: row["signed"] for row in Catalog(runs).rows(ROWS)}
    assert signed == count_lines(runs)
    remove_heads(runs)
    rows = {row["run_id"]: row for row in Catalog(runs).rows(ROWS)}
    assert rows["r1"]["signed"] == 0
    assert rows["r1"]["events"] == count_lines(runs)["r1"]


def test_unchanged_runs_are_read_from_packs(runs, monkeypatch):
    """A new catalog opens no file of an unchanged run, and has the same answer."""
    before = answers(Catalog(runs))
    opened = []
    read_table = run_stamps.read_stamps
    monkeypatch.setattr(
        "ockham.catalog.run_reader.read_stamps", lambda run: opened.append(run) or read_table(run)
    )
    catalog = Catalog(runs)
    assert answers(catalog) == before
    assert opened == []
    view = catalog.rows("select sql from duckdb_views() where view_name = 'raw_contexts'")[0]["sql"]
    assert "/cache/" in view
    assert str(runs) not in view


def test_locked_catalog_reads_packs(runs):
    """A catalog whose file access is limited to the folder of runs still reads the packs."""
    expected = answers(Catalog(runs))
    catalog = Catalog(runs)
    catalog.lock_down("500MB", runs)
    assert answers(catalog) == expected


def test_cache_folder_that_others_can_write_is_not_used(runs, monkeypatch):
    """A cache that another user could have written is not read and not written."""
    expected = answers(Catalog(runs))
    folder = cache_files(runs)[0].parent
    folder.chmod(0o777)
    files = {path: path.read_bytes() for path in cache_files(runs)}
    loaded = []
    monkeypatch.setattr(scan_cache, "read_content", loaded.append)
    monkeypatch.setattr(packs, "read_content", loaded.append)
    assert answers(Catalog(runs)) == expected
    assert loaded == []
    assert {path: path.read_bytes() for path in cache_files(runs)} == files


def test_few_runs_have_no_cache(runs, monkeypatch):
    """A folder with fewer runs than the limit creates no file."""
    monkeypatch.setattr(scan_cache, "MIN_RUNS", 50)
    monkeypatch.setattr(packs, "MIN_MEMBERS", 64)
    answers(Catalog(runs))
    assert cache_files(runs) == []


def test_recent_run_is_not_kept(runs, monkeypatch):
    """A run that changed a moment ago is scanned again, because a second change could have the same stamp."""
    monkeypatch.setattr(run_stamps, "RECENT_NS", 3_600_000_000_000)
    answers(Catalog(runs))
    assert [path for path in cache_files(runs) if path.suffix == ".parquet"] == []
    assert not (scan_cache.ScanCache(runs, persistent=True)).get("r1")
