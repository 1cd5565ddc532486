"""The column `signed`, summaries that count signed rows only, and verified catalogs."""

from __future__ import annotations

import shutil

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.catalog.views import load_question, question_names
from ockham.cli import build_app
from ockham.errors import RunError, UnverifiableError
from ockham.guard import Guard
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import parse_head, split_history
from tests.helpers.log_edits import replace_data, sign_log
from tests.helpers.runs import make_run

SIGNED = "select count(*) filter (signed) as signed, count(*) filter (not signed) as unsigned from {view}"
VIEWS = (
    "events",
    "decisions",
    "contexts",
    "evaluations",
    "gate_decisions",
    "memory_decisions",
    "checkpoints",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return the folder of a finished run whose private key is withheld from the attacks."""
    runs = tmp_path_factory.mktemp("original")
    make_run(runs, "a", batches=60)
    return runs


@pytest.fixture
def run(original, tmp_path):
    """Return a copy of the run."""
    shutil.copytree(original, tmp_path / "runs")
    return RunFolder(tmp_path / "runs", "a")


def remove_parquet(run):
    for kind in PARQUET_TABLES:
        shutil.rmtree(run.path / kind, ignore_errors=True)


def segment_lines(run):
    return run.segments(1, 0)[0].read_bytes().splitlines()


def append_forged_lines(run, *, sequence=None, count=3):
    """Append copies of an evaluation with a false loss. *sequence* None continues the log."""
    present = segment_lines(run)
    evaluation = next(line for line in present if b"evaluation.recorded" in line)
    with run.segments(1, 0)[-1].open("ab") as file:
        for i in range(count):
            number = len(present) + i if sequence is None else sequence
            file.write(replace_data(evaluation, sequence=number, val_loss=0.001) + b"\n")


def answers(catalog):
    names = [name for name in question_names() if not load_question(name).parameters]
    summary = catalog.rows("select * exclude (unsigned_events) from run_summary")
    runs = catalog.rows("select * from runs")
    return [summary, runs, *(catalog.ask(name).to_pylist() for name in names)]


@pytest.mark.parametrize("has_parquet", [False, True])
@pytest.mark.parametrize("sequence", [None, 5])
def test_unsigned_lines_change_no_summary(run, original, has_parquet, sequence):
    """Lines after the newest tree head are unsigned, also with the sequence number of a signed line."""
    expected = answers(Catalog(original))
    before = len(segment_lines(run))
    append_forged_lines(run, sequence=sequence)
    remove_parquet(run)
    if has_parquet:
        update_parquet(run, 1, 0, last=True)
    catalog = Catalog(run.runs)
    assert answers(catalog) == expected
    assert catalog.rows(SIGNED.format(view="events")) == [{"signed": before, "unsigned": 3}]
    assert catalog.rows("select min(val_loss) as loss from evaluations") == [{"loss": 0.001}]
    assert catalog.rows("select unsigned_events from run_summary") == [{"unsigned_events": 3}]
    for words in (["runs"], ["show", "a"]):
        result = CliRunner().invoke(build_app(), ["--runs", str(run.runs), *words])
        assert "a: 3 unsigned events not counted" in result.stderr
        assert "0.001" not in result.stdout


@given(size=st.integers(0, 400))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("has_parquet", [False, True])
def test_signed_is_true_below_the_size_of_the_head(original, tmp_path, has_parquet, size):
    """For every size, in every view: compared with the lines of the log."""
    run = RunFolder(tmp_path / "runs", "a")
    if not run.path.exists():
        shutil.copytree(original, run.runs)
    if not has_parquet:
        remove_parquet(run)
    total = len(segment_lines(run))
    size = min(size, total)
    sign_log(run, size=size)
    catalog = Catalog(run.runs)
    for view in VIEWS:
        wrong = f"select count(*) as n from {view} where signed is distinct from (sequence < {size})"
        assert catalog.rows(wrong) == [{"n": 0}], view
    assert catalog.rows(SIGNED.format(view="events")) == [{"signed": size, "unsigned": total - size}]


def test_run_without_tree_head_has_unsigned_rows_only(run):
    """The run is listed, with no counted batch."""
    for name in ("checkpoint", "checkpoints"):
        (run.log_dir(1, 0) / name).unlink()
    [row] = Catalog(run.runs).rows("select state, batches, unsigned_events from run_summary")
    assert row == {"state": "UNFINISHED", "batches": 0, "unsigned_events": len(segment_lines(run))}


def test_head_of_another_key_or_log_signs_nothing(run, tmp_path, monkeypatch):
    """The key must be that of run.json, and the origin that of the log."""
    total = len(segment_lines(run))
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "stolen"))
    sign_log(run)
    assert Catalog(run.runs).rows(SIGNED.format(view="events")) == [{"signed": 0, "unsigned": total}]


def test_planted_segment_is_not_signed(run):
    """A segment between the signed ones moves no line below the signed size."""
    remove_parquet(run)
    evaluation = next(line for line in segment_lines(run) if b"evaluation.recorded" in line)
    for first in (5, 500):
        planted = run.log_dir(1, 0) / f"{first:012d}.jsonl"
        planted.write_bytes(replace_data(evaluation, sequence=first, val_loss=0.001) + b"\n")
        catalog = Catalog(run.runs)
        rows = catalog.rows("select signed from evaluations where val_loss = 0.001")
        assert rows == [{"signed": False}]
        planted.unlink()


def test_unsigned_resume_supersedes_nothing(run, original):
    """A planted attempt whose run.resumed is not signed."""
    expected = answers(Catalog(original))
    first = orjson.loads(segment_lines(run)[0])
    data = {**first["data"], "attempt": 2, "sequence": 0, "iter_num": 0}
    line = orjson.dumps({**first, "type": "ockham.run.resumed.v1", "data": data})
    run.log_dir(2, 0).mkdir()
    (run.log_dir(2, 0) / "000000000000.jsonl").write_bytes(line + b"\n")
    catalog = Catalog(run.runs)
    assert answers(catalog) == expected
    assert catalog.rows("select count(*) as n from decisions where superseded") == [{"n": 0}]


def test_verified_catalog_reads_signed_lines_only(run):
    """Rows of Parquet files and unsigned lines are not read."""
    plain = Catalog(run.runs).rows("select event_id from events order by sequence")
    append_forged_lines(run)
    update_parquet(run, 1, 0, last=True)
    for keys in ((), (load_or_create_signer().verifier,)):
        verified = Catalog(run.runs, verified=True, keys=keys)
        assert verified.rows("select event_id from events where signed order by sequence") == plain
        assert verified.rows("select count(*) as n from events") == [{"n": len(plain)}]
    with Guard(run.runs, verified=True) as guard:
        table = guard.query("select min(val_loss) as loss from evaluations").table
    assert table.to_pylist()[0]["loss"] > 0.001


@pytest.mark.parametrize("nth", [0, 7, -1])
def test_verified_catalog_of_a_tampered_run_is_an_error(run, nth):
    """The error names the run."""
    present = segment_lines(run)
    present[nth] = present[nth].replace(b'"time":"2', b'"time":"1')
    run.segments(1, 0)[0].write_bytes(b"".join(line + b"\n" for line in present))
    with pytest.raises(UnverifiableError, match=r"run a is tampered with: .*/log/1-0: the first"):
        Catalog(run.runs, verified=True)
    result = CliRunner().invoke(
        build_app(), ["--runs", str(run.runs), "query", "--verified", "select 1 as x from runs"]
    )
    assert isinstance(result.exception, UnverifiableError)
    assert "run a is tampered with: " in str(result.exception)


def test_renamed_run_folder_is_named(run):
    """Every reader names the folder and its run. Other runs are still read."""
    shutil.copytree(run.path, run.runs / "x")
    problem = "folder 'x' contains run 'a'"
    assert Catalog(run.runs).rows("select run_id from runs") == [{"run_id": "a"}]
    with pytest.raises(RunError, match=problem):
        Catalog(run.runs, run_ids=["x"])
    for words in (["runs"], ["doctor"], ["show", "x"], ["query", "select 1 as x from runs", "--run", "x"]):
        result = CliRunner().invoke(build_app(), ["--runs", str(run.runs), *words])
        assert problem in f"{result.stdout}{result.stderr}{result.exception}", words


def test_why_marks_unsigned_lines(run):
    """The batch after the newest tree head is shown as such, and its decisions too."""
    log = run.log_dir(1, 0)
    notes, _ = split_history((log / "checkpoints").read_bytes())
    head = next(note for note in notes if parse_head(note.decode())[1].size > 10)
    signed = parse_head(head.decode())[1].size
    (log / "checkpoint").write_bytes(head)
    (log / "checkpoints").write_bytes(head + b"\n")
    iterations = {
        orjson.loads(line)["data"]["iter_num"]: at
        for at, line in enumerate(segment_lines(run))
        if b'"ockham.context.recorded.v1"' in line and b'"hook":"batch"' in line
    }
    first, last = min(iterations), max(iterations)
    assert iterations[first] < signed <= iterations[last]
    texts = {
        number: CliRunner().invoke(build_app(), ["--runs", str(run.runs), "why", "a", str(number)]).stdout
        for number in (first, last)
    }
    assert "unsigned" not in texts[first].lower()
    assert "UNSIGNED: no tree head covers this batch" in texts[last]
    assert "(unsigned: no tree head covers it)" in texts[last]
