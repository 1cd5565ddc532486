"""Folders of many events for benchmarks: one real segment, made by a real run, repeated with places, times and IDs of its own.

    python -m benchmarks.fleet FOLDER EVENTS        1 run a million events, segments of 20,000 as the writer makes them

The Parquet files are written by the code that writes a run's. Segments of all runs but the first are holes of the right
size: no reader opens a segment that has its Parquet, and the disk stays free.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from ockham.record.folder import RunFolder, segment_name, write_durably
from ockham.record.snapshots import complete_lines, parquet_bytes, tables
from tests.made import made_run

SEGMENT = 20_000
RUN_EVENTS = 1_000_000
_MOVED = {
    "run_id": "$run",
    "sequence": "sequence + $events",
    "first_decision": "first_decision + $events",
    "iter_num": "iter_num + $iters",
    "time": "time + to_milliseconds($ms)",
    # The first 48 bits of a UUIDv7 are milliseconds since 1970.
    "event_id": "printf('%08x-%04x', (epoch_ms(time) + $ms) >> 16, (epoch_ms(time) + $ms) & 65535) || substr(event_id, 14)",
}


def template(batches: int = 9_500) -> tuple[Path, list[bytes]]:
    """A real run, and the lines of its first whole segment."""
    runs = Path(tempfile.mkdtemp(prefix="ockham-template-"))
    run = made_run(runs, "template", batches)
    lines, _ = complete_lines(run.folder.segments(1, 0)[0])
    if len(lines) != SEGMENT:
        raise SystemExit(f"the template has {len(lines)} events, {SEGMENT} were wanted: raise batches")
    return run.folder.path, lines


def make(runs: Path, events: int, lines_too: bool = True) -> None:
    """Write `events` events below `runs`, a run for each million."""
    path, lines = template()
    found = tables(lines)
    iters = max(found["contexts"].column("iter_num").to_pylist()) + 1
    for number in range(0, events, RUN_EVENTS):
        run_id = f"run-{number // RUN_EVENTS:04d}"
        folder = RunFolder(runs, run_id)
        folder.create()
        shutil.copytree(path / "policies", folder.path / "policies")
        write_durably(folder.run_json, (path / "run.json").read_bytes())
        for k in range(min(events - number, RUN_EVENTS) // SEGMENT):
            moved = {
                "run": run_id,
                "events": k * SEGMENT,
                "iters": k * iters,
                "ms": (number // SEGMENT + k) * 60_000,
            }
            _segment(folder, found, lines if lines_too and number == 0 else [], moved)
    shutil.rmtree(path.parent)


def _segment(
    folder: RunFolder, found: dict[str, pa.Table], lines: list[bytes], moved: dict[str, Any]
) -> None:
    first = moved["events"]
    segment = folder.log(1, 0) / segment_name(first)
    segment.parent.mkdir(parents=True, exist_ok=True)
    if lines:
        segment.write_bytes(b"".join(_line(line, moved) for line in lines))
    else:
        with segment.open("wb") as file:
            file.truncate(SEGMENT * 830)
    about = orjson.dumps({"segment": segment.name, "segment_bytes": segment.stat().st_size})
    for kind, table in found.items():
        path = folder.derived(kind, "2026-11-24", 1, 0, first)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(_moved(table, moved)))
        path.with_suffix(".json").write_bytes(about)


def _moved(rows: pa.Table, moved: dict[str, Any]) -> pa.Table:
    columns = ", ".join(
        f'{_MOVED[name]} as "{name}"' if name in _MOVED else f'"{name}"' for name in rows.schema.names
    )
    used = {name: value for name, value in moved.items() if f"${name}" in columns}
    return duckdb.sql(f"select {columns} from rows", params=used).to_arrow_table().cast(rows.schema)


def _line(line: bytes, moved: dict[str, Any]) -> bytes:
    event = orjson.loads(line)
    data = event["data"]
    event["source"] = f"ockham://runs/{moved['run']}"
    data["sequence"] += moved["events"]
    if data.get("iter_num") is not None:
        data["iter_num"] += moved["iters"]
        event["subject"] = f"iter/{data['iter_num']}"
    return orjson.dumps(event) + b"\n"


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
