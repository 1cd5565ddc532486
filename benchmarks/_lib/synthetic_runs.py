"""Folders with many events for benchmarks, built from one segment of a real run.

    python -m benchmarks._lib.synthetic_runs FOLDER EVENTS [--small]

Writes one run per million events, in segments of 20,000 events. Each copy of the segment has other sequences,
times and IDs. The Parquet files are written by the code that writes those of real runs: compacted to one file
of each kind per 50 segments, or with --small one file per segment. Segments of all runs except the first are
sparse files of the correct size, because no reader opens a segment that Parquet files cover.

A tree head covers all events, because figures count only signed rows. In runs with sparse files its root is
the root of an empty log.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from ockham.record.durable_io import atomic_write
from ockham.record.parquet.builder import COMPACTED_SEGMENTS
from ockham.record.parquet.coverage import COLUMNS
from ockham.record.parquet.tables import ParquetBuffer, tables_from_lines
from ockham.record.run_folder import RunFolder, segment_name
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, TreeHead, checkpoint_body, origin
from tests.helpers.runs import make_run

SEGMENT = 20_000
RUN_EVENTS = SEGMENT * COMPACTED_SEGMENTS
DAY = "2026-11-24"
_SHIFTED_COLUMNS = {
    "run_id": "$run",
    "sequence": "sequence + $events",
    "first_decision": "first_decision + $events",
    "iter_num": "iter_num + $iters",
    "time": "time + to_milliseconds($ms)",
    # The first 48 bits of a UUIDv7 are milliseconds since 1970.
    "event_id": (
        "printf('%08x-%04x', (epoch_ms(time) + $ms) >> 16, (epoch_ms(time) + $ms) & 65535)"
        " || substr(event_id, 14)"
    ),
}
Tables = dict[str, pa.Table]


def template(batches: int = 9_500) -> tuple[Path, list[bytes]]:
    """Return the folder of a real run, and the lines of its first complete segment."""
    runs = Path(tempfile.mkdtemp(prefix="ockham-template-"))
    run = make_run(runs, "template", batches)
    lines, _ = read_complete_lines(run.folder.segments(1, 0)[0])
    if len(lines) != SEGMENT:
        raise SystemExit(f"template: {len(lines)} events, expected {SEGMENT}; increase batches")
    return run.folder.path, lines


def make_runs(runs: Path, events: int, *, small: bool = False, first: int = 0) -> None:
    """Write *events* events below *runs*, one run per million events, numbered from *first*."""
    path, lines = template()
    tables = tables_from_lines(lines)
    iters = max(tables["contexts"].column("iter_num").to_pylist()) + 1
    for number in range(first * RUN_EVENTS, first * RUN_EVENTS + events, RUN_EVENTS):
        folder = RunFolder(runs, f"run-{number // RUN_EVENTS:04d}")
        folder.create()
        shutil.copytree(path / "policies", folder.path / "policies")
        metadata = orjson.loads((path / "run.json").read_bytes())
        atomic_write(folder.run_json, orjson.dumps({**metadata, "run_id": folder.run_id}))
        count = min(events + first * RUN_EVENTS - number, RUN_EVENTS) // SEGMENT
        shifts = [
            {
                "run": folder.run_id,
                "events": k * SEGMENT,
                "iters": k * iters,
                "ms": (number // SEGMENT + k) * 60_000,
            }
            for k in range(count)
        ]
        segments = [_segment(folder, lines if number == 0 else [], shift) for shift in shifts]
        _sign(folder, count * SEGMENT, complete=number == 0)
        for start in range(0, count, 1 if small else COMPACTED_SEGMENTS):
            part = slice(start, start + (1 if small else COMPACTED_SEGMENTS))
            _parquet(folder, tables, shifts[part], segments[part])
    shutil.rmtree(path.parent)


def _segment(folder: RunFolder, lines: list[bytes], shift: dict[str, Any]) -> dict[str, Any]:
    path = folder.log_dir(1, 0) / segment_name(shift["events"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if lines:
            file.write(b"".join(_line(line, shift) for line in lines))
        else:
            file.truncate(SEGMENT * 830)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": None}


def _sign(folder: RunFolder, size: int, *, complete: bool) -> None:
    """Write the tree head of *size* events, with the root of the lines if the segments are *complete*."""
    tree = CompactRange()
    if complete:
        for path in folder.segments(1, 0):
            for line in path.read_bytes().splitlines():
                tree.append(leaf_hash(line))
    signer = load_or_create_signer()
    note = signer.sign(checkpoint_body(origin(folder.run_id, 1, 0), TreeHead(size, tree.root())))
    atomic_write(folder.log_dir(1, 0) / CHECKPOINT, note)
    atomic_write(folder.log_dir(1, 0) / HISTORY, note + b"\n")


def _parquet(
    folder: RunFolder, tables: Tables, shifts: list[dict[str, Any]], segments: list[dict[str, Any]]
) -> None:
    first = shifts[0]["events"]
    last = None if len(shifts) == 1 else shifts[-1]["events"] + SEGMENT - 1
    for kind, table in tables.items():
        path = folder.parquet_path(kind, DAY, 1, 0, first, last)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = ParquetBuffer(table.schema)
        for shift in shifts:
            writer.add(_shift_rows(table, shift))
        path.write_bytes(writer.close()[0])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sidecar = {"sha256": digest, "columns": COLUMNS, "segments": segments}
        path.with_suffix(".json").write_bytes(orjson.dumps(sidecar))


def _shift_rows(rows: pa.Table, shift: dict[str, Any]) -> pa.Table:
    """Return the rows with shifted sequences, iterations, times and IDs. Other columns are not copied."""
    names = [name for name in rows.schema.names if name in _SHIFTED_COLUMNS]
    columns = ", ".join(f'{_SHIFTED_COLUMNS[name]} as "{name}"' for name in names)
    used = {name: value for name, value in shift.items() if f"${name}" in columns}
    shifted = duckdb.sql(f"select {columns} from rows", params=used).to_arrow_table()
    for name in names:
        position = rows.schema.get_field_index(name)
        field = rows.schema.field(position)
        rows = rows.set_column(position, field, shifted.column(name).cast(field.type))
    return rows


def _line(line: bytes, shift: dict[str, Any]) -> bytes:
    event = orjson.loads(line)
    data = event["data"]
    event["source"] = f"ockham://runs/{shift['run']}"
    data["sequence"] += shift["events"]
    if data.get("iter_num") is not None:
        data["iter_num"] += shift["iters"]
        event["subject"] = f"iter/{data['iter_num']}"
    return orjson.dumps(event) + b"\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("events", type=int)
    parser.add_argument("--small", action="store_true", help="Write one Parquet file per segment.")
    parser.add_argument(
        "--first", type=int, default=0, help="Number of the first run, to add runs to a folder."
    )
    options = parser.parse_args()
    make_runs(options.runs, options.events, small=options.small, first=options.first)
