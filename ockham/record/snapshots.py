"""Parquet snapshots: the lines of a segment as typed columns, one file for each kind and segment.

Derived and rebuildable: the lines are the record. Beside each file stands a `.json` with its digest, the range of
sequences and the size of the segment that it was made from; a reader takes the Parquet of a segment if that size is
still the segment's, and the lines otherwise. A crash leaves a `.tmp` that nobody reads.

    python -P -m ockham.record.snapshots RUNS RUN_ID     makes what is missing for all sealed segments
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ockham.context import FIELDS, GAUGES, KNOBS
from ockham.event import kind_of, number
from ockham.record.folder import DERIVED, RunFolder, first_sequence, write_durably

_ARROW: Mapping[str, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "str": pa.string(),
    "floats": pa.list_(pa.float64()),
}
_NUMBERS: pa.DataType = pa.map_(pa.string(), pa.float64())
Columns = list[tuple[str, pa.DataType]]
_WHERE: Columns = [
    ("event_id", pa.string()), ("run_id", pa.string()), ("attempt", pa.int32()), ("rank", pa.int32()),
    ("sequence", pa.int64()), ("time", pa.timestamp("us")), ("iter_num", pa.int64()), ("micro_step", pa.int64()),
]  # fmt: skip
_CHANGE = pa.struct([
    ("field", pa.string()), ("before", pa.string()), ("after", pa.string()),
    ("before_value", pa.float64()), ("after_value", pa.float64()),
])  # fmt: skip
DECISIONS = pa.schema([
    *_WHERE, ("hook", pa.string()), ("plugin", pa.string()), ("order", pa.int32()), ("shadow", pa.bool_()),
    ("action", pa.string()), ("reason_code", pa.string()), ("observed", pa.float64()), ("threshold", pa.float64()),
    ("changes", pa.list_(_CHANGE)), ("numbers", _NUMBERS), ("policy_revision", pa.string()),
])  # fmt: skip
_FACT_COLUMNS = [f for f in FIELDS if f.role == "fact" and f.name not in {"iter_num", "micro_step", "run_id"}]
CONTEXTS = pa.schema([
    *_WHERE, ("hook", pa.string()), ("policy_revision", pa.string()),
    *((f.name, _ARROW[f.kind]) for f in _FACT_COLUMNS),
    *((f"base_{f.name}", _ARROW[f.kind]) for f in FIELDS if f.role == "knob"),
    *((f.name, _ARROW[f.kind]) for f in FIELDS if f.role == "knob"),
    *((f.name, _ARROW[f.kind]) for f in FIELDS if f.role == "gauge"),
    ("applied_update", pa.bool_()), ("seconds", _NUMBERS), ("custom", _NUMBERS),
    ("first_decision", pa.int64()), ("decisions", pa.int32()),
])  # fmt: skip
EVENTS = pa.schema([*_WHERE, ("type", pa.string()), ("subject", pa.string()), ("data", pa.string())])
SCHEMAS: Mapping[str, pa.Schema] = dict(zip(DERIVED, (CONTEXTS, DECISIONS, EVENTS), strict=True))
Row = dict[str, Any]
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


class Coverage(NamedTuple):
    """What a reader of one log reads: Parquet files by kind, and segments that have none yet."""

    parquet: dict[str, list[Path]]
    segments: list[Path]


def tables(lines: Iterable[bytes]) -> dict[str, pa.Table]:
    """Complete lines as one table for each kind: `contexts`, `decisions`, `events` (all events' envelopes)."""
    columns: dict[str, dict[str, list[Any]]] = {
        kind: {name: [] for name in s.names} for kind, s in SCHEMAS.items()
    }
    for line in lines:
        event = orjson.loads(line)
        kind = kind_of(event["type"])
        where = _where(event)
        if kind == "decision.made":
            _add(columns["decisions"], {**where, **_decision(event["data"])})
        elif kind == "context.recorded":
            _add(columns["contexts"], {**where, **_context(event["data"])})
        own = kind in {"decision.made", "context.recorded"}
        data = None if own else orjson.dumps(event["data"]).decode()
        _add(columns["events"], {**where, "type": event["type"], "subject": event["subject"], "data": data})
    return {kind: pa.table(columns[kind], schema=schema) for kind, schema in SCHEMAS.items()}


def complete_lines(segment: Path, upto: int | None = None) -> tuple[list[bytes], int]:
    """The lines of a segment that end in a newline, and the number of their bytes; a torn tail is left alone."""
    with segment.open("rb") as file:
        data = file.read() if upto is None else file.read(upto)
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], end


def coverage(folder: RunFolder, attempt: int, rank: int) -> Coverage:
    """Which Parquet files stand for the segments of a log, and which segments must be read as lines."""
    found = Coverage({kind: [] for kind in DERIVED}, [])
    for segment in folder.segments(attempt, rank):
        files = derived_files(folder, segment, attempt, rank)
        if len(files) == len(DERIVED):
            for kind, path in files.items():
                found.parquet[kind].append(path)
        else:
            found.segments.append(segment)
    return found


def derived_files(folder: RunFolder, segment: Path, attempt: int, rank: int) -> dict[str, Path]:
    """The Parquet files of a segment that were made from as many bytes as it has now."""
    files: dict[str, Path] = {}
    size = segment.stat().st_size
    name = f"{attempt}-{rank}-{first_sequence(segment):012d}.parquet"
    for kind in DERIVED:
        for path in (folder.path / kind).glob(f"day=*/{name}"):
            about = sidecar(path)
            if about is not None and about.get("segment_bytes") == size:
                files[kind] = path
    return files


def sidecar(parquet: Path) -> dict[str, Any] | None:
    """What stands beside a Parquet file, None where it is missing or unreadable."""
    try:
        about = orjson.loads(parquet.with_suffix(".json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return about if isinstance(about, dict) else None


def derive(folder: RunFolder, attempt: int, rank: int, *, last: bool = False) -> int:
    """Write the Parquet files that are missing; returns how many segments were done.

    The last segment is still being written, so it is done only where `last` says that its writer is gone.
    """
    segments = folder.segments(attempt, rank)
    todo = segments if last else segments[:-1]
    done = 0
    for segment in todo:
        if len(derived_files(folder, segment, attempt, rank)) < len(DERIVED):
            _derive_segment(folder, segment, attempt, rank)
            done += 1
    return done


def _derive_segment(folder: RunFolder, segment: Path, attempt: int, rank: int) -> None:
    lines, size = complete_lines(segment)
    if not lines or size != segment.stat().st_size:
        return  # a torn tail: recovery decides about it, the lines are read meanwhile
    for kind, table in tables(lines).items():
        day = str(orjson.loads(lines[0])["time"])[:10]
        path = folder.derived(kind, day, attempt, rank, first_sequence(segment))
        data = parquet_bytes(table)
        write_durably(path, data)
        write_durably(path.with_suffix(".json"), sidecar_bytes(table, data, segment.name, lines))


def sidecar_bytes(table: pa.Table, parquet: bytes, segment: str, lines: list[bytes]) -> bytes:
    """What stands beside a Parquet file: its digest, its rows, and the lines that it was made from."""
    sequences = table.column("sequence")
    whole = b"".join(line + b"\n" for line in lines)
    about = {
        "sha256": hashlib.sha256(parquet).hexdigest(),
        "rows": table.num_rows,
        "first_sequence": sequences[0].as_py() if table.num_rows else None,
        "last_sequence": sequences[-1].as_py() if table.num_rows else None,
        "segment": segment,
        "segment_bytes": len(whole),
        "segment_sha256": hashlib.sha256(whole).hexdigest(),
    }
    return orjson.dumps(about, option=orjson.OPT_INDENT_2)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the Parquet file that is written for it: the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    repeated = [
        n
        for n in table.schema.names
        if n in {"run_id", "hook", "plugin", "action", "reason_code", "policy_revision", "type"}
    ]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=repeated,  # type: ignore[arg-type]  # the stubs know only a bool
        row_group_size=20_000,
    )
    return sink.getvalue().to_pybytes()


def _add(columns: dict[str, list[Any]], row: Row) -> None:
    for name, values in columns.items():
        values.append(row.get(name))


def _where(event: Mapping[str, Any]) -> Row:
    data = event["data"]
    return {
        "event_id": event["id"],
        "run_id": event["source"].rsplit("/", 1)[-1],
        "attempt": data["attempt"],
        "rank": data["rank"],
        "sequence": data["sequence"],
        "time": _microseconds(event["time"]),
        "iter_num": data.get("iter_num"),
        "micro_step": data.get("micro_step"),
    }


def _decision(data: Mapping[str, Any]) -> Row:
    row = {
        key: data[key]
        for key in ("hook", "plugin", "order", "shadow", "action", "reason_code", "policy_revision")
    }
    changes = [
        {
            "field": change["field"],
            "before": orjson.dumps(change["before"]).decode(),
            "after": orjson.dumps(change["after"]).decode(),
            "before_value": _scalar(change["before"]),
            "after_value": _scalar(change["after"]),
        }
        for change in data["changes"]
    ]
    judged = {"observed": number(data["observed"]), "threshold": number(data["threshold"])}
    return {**row, **judged, "changes": changes, "numbers": _numbers(data["numbers"])}


def _context(data: Mapping[str, Any]) -> Row:
    given: Mapping[str, Any] = data["given"]
    row: Row = {"hook": data["hook"], "policy_revision": data["policy_revision"]}
    for field in FIELDS:
        value = _READ[field.kind](given.get(field.name, field.default))
        row[f"base_{field.name}" if field.role == "knob" else field.name] = value
        if field.name in KNOBS:
            row[field.name] = (
                _READ[field.kind](data["left"][field.name]) if field.name in data["left"] else value
            )
        elif field.name in GAUGES and field.name in data["measured"]:
            row[field.name] = _READ[field.kind](data["measured"][field.name])
    return {
        **row,
        "iter_num": data["iter_num"],
        "micro_step": data["micro_step"],
        "applied_update": data["applied"].get("updated"),
        "seconds": _numbers(data["seconds"]),
        "custom": _numbers(data["measured"].get("custom", given.get("custom", {}))),
        "first_decision": data["decisions"]["first"],
        "decisions": data["decisions"]["count"],
    }


def _floats(value: Iterable[Any]) -> list[float | None]:
    return [number(item) for item in value]


_READ: Mapping[str, Callable[[Any], Any]] = {
    "float": number, "floats": _floats, "int": lambda v: v, "bool": lambda v: v, "str": lambda v: v,
}  # fmt: skip


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    return [(key, number(value)) for key, value in values.items()]


def _scalar(value: Any) -> float | None:
    return None if isinstance(value, list) else number(value)


def _microseconds(text: str) -> int:
    """RFC 3339 as microseconds since 1970."""
    return (dt.datetime.fromisoformat(text) - _EPOCH) // dt.timedelta(microseconds=1)


def main(arguments: list[str]) -> int:
    """Derive what is missing for all logs of a run, at low priority."""
    os.nice(10)
    folder = RunFolder(arguments[0], arguments[1])
    for attempt, rank in folder.logs():
        derive(folder, attempt, rank)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
