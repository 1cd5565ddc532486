"""Snapshots: lines as typed columns, a table for each kind, and the bytes of a Parquet file of one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ockham.context import FIELDS, GAUGES, KNOBS
from ockham.event import kind_of, number
from ockham.record.folder import DERIVED, open_file

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
_REPEATED = frozenset({"run_id", "hook", "plugin", "action", "reason_code", "policy_revision", "type"})
ROW_GROUP = 60_000  # a segment has 20,000 events
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


def tables(lines: Iterable[bytes]) -> dict[str, pa.Table]:
    """Complete lines as one table for each kind: `contexts`, `decisions`, `events` (all events' envelopes).

    Raises:
        ValueError: if a line is no event of ours: what a stranger wrote may be anything, at any depth.

    """
    try:
        return _tables(lines)
    except (KeyError, TypeError, AttributeError, OverflowError, pa.ArrowException) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _tables(lines: Iterable[bytes]) -> dict[str, pa.Table]:
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
    with open_file(segment) as file:
        data = file.read() if upto is None else file.read(upto)
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], end


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the Parquet file that is written for it: the same rows give the same bytes."""
    writer = Writer(table.schema)
    writer.add(table)
    return writer.close()[0]


def rows_of(table: pa.Table) -> dict[str, int | None]:
    """How many rows, and the sequences of the first and the last."""
    sequences = table.column("sequence")
    ends = (sequences[0].as_py(), sequences[-1].as_py()) if table.num_rows else (None, None)
    return {"rows": table.num_rows, "first_sequence": ends[0], "last_sequence": ends[1]}


def rows_together(before: dict[str, int | None], more: dict[str, int | None]) -> dict[str, int | None]:
    """What `rows_of` says of the rows of two tables, one behind the other."""
    if not before["rows"] or not more["rows"]:
        return more if more["rows"] else before
    return {**more, "rows": before["rows"] + more["rows"], "first_sequence": before["first_sequence"]}


class Writer:
    """One Parquet file in memory, from tables that come one after the other; never more than a row group waits."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name in _REPEATED],  # type: ignore[arg-type]  # the stubs know only a bool
        )
        self._waiting = schema.empty_table()
        self._rows: dict[str, int | None] = rows_of(self._waiting)

    def add(self, table: pa.Table) -> None:
        """Further rows."""
        self._rows = rows_together(self._rows, rows_of(table))
        self._waiting = pa.concat_tables([self._waiting, table])
        while self._waiting.num_rows >= ROW_GROUP:
            self._write(ROW_GROUP)

    def close(self) -> tuple[bytes, dict[str, int | None]]:
        """The file, and what `rows_of` says of all its rows."""
        if self._waiting.num_rows or not self._rows["rows"]:
            self._write(ROW_GROUP)
        self._writer.close()
        return self._sink.getvalue().to_pybytes(), self._rows

    def _write(self, count: int) -> None:
        self._writer.write_table(self._waiting.slice(0, count).combine_chunks(), row_group_size=ROW_GROUP)
        self._waiting = self._waiting.slice(count)


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
