"""Arrow tables of lines, one per kind, and their Parquet bytes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ockham.arrow_values import columns_with_statistics
from ockham.context import FIELDS
from ockham.event import event_kind
from ockham.record.fast_decode import DecisionData
from ockham.record.parquet.fast_columns import (
    CHANGE,
    MIN_LINES,
    context_columns,
    decision_columns,
    decode_lines,
    leading_columns,
)
from ockham.record.parquet.rows import FACT_COLUMNS, common_columns, context_row, decision_row
from ockham.record.run_folder import PARQUET_TABLES

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
    ("event_id", pa.string()),
    ("run_id", pa.string()),
    ("attempt", pa.int32()),
    ("rank", pa.int32()),
    ("sequence", pa.int64()),
    ("time", pa.timestamp("us")),
    ("iter_num", pa.int64()),
    ("micro_step", pa.int64()),
]
DECISIONS = pa.schema(
    [
        *_WHERE,
        ("hook", pa.string()),
        ("plugin", pa.string()),
        ("order", pa.int32()),
        ("shadow", pa.bool_()),
        ("action", pa.string()),
        ("reason_code", pa.string()),
        ("observed", pa.float64()),
        ("threshold", pa.float64()),
        ("changes", pa.list_(CHANGE)),
        ("numbers", _NUMBERS),
        ("policy_revision", pa.string()),
    ]
)
CONTEXTS = pa.schema(
    [
        *_WHERE,
        ("hook", pa.string()),
        ("policy_revision", pa.string()),
        *((f.name, _ARROW[f.kind]) for f in FACT_COLUMNS),
        *((f"base_{f.name}", _ARROW[f.kind]) for f in FIELDS if f.role == "knob"),
        *((f.name, _ARROW[f.kind]) for f in FIELDS if f.role == "knob"),
        *((f.name, _ARROW[f.kind]) for f in FIELDS if f.role == "gauge"),
        ("measured_gauges", pa.list_(pa.string())),
        ("applied_update", pa.bool_()),
        ("applied_learning_rates", pa.list_(pa.float64())),
        ("clipped_grad_norm", pa.float64()),
        ("weights_changed", pa.bool_()),
        ("refusal_cause", pa.string()),
        ("seconds", _NUMBERS),
        ("custom", _NUMBERS),
        ("first_decision", pa.int64()),
        ("decisions", pa.int32()),
        ("data_position", pa.int64()),
        ("data_indices", pa.list_(pa.int64())),
        ("data_digest", pa.string()),
    ]
)
EVENTS = pa.schema([*_WHERE, ("type", pa.string()), ("subject", pa.string()), ("data", pa.string())])
SCHEMAS: Mapping[str, pa.Schema] = dict(zip(PARQUET_TABLES, (CONTEXTS, DECISIONS, EVENTS), strict=True))
_REPEATED = frozenset({"run_id", "hook", "plugin", "action", "reason_code", "policy_revision", "type"})
# Lines as Python objects; with more of them the collector walks them over and over.
LINES_PER_CHUNK = 1_000
# A segment has 20,000 events.
ROWS_PER_ROW_GROUP = 60_000


def tables_from_lines(lines: Iterable[bytes]) -> dict[str, pa.Table]:
    """Return complete lines as one table per kind.

    `events` contains the envelopes of all events.

    Raises:
        ValueError: If a line is not an event. Untrusted lines can contain anything, at any depth.

    """
    try:
        return _tables(lines)
    except (KeyError, TypeError, AttributeError, OverflowError, pa.ArrowException) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def tables_from_readable_lines(lines: Sequence[bytes]) -> tuple[dict[str, pa.Table], list[int], str]:
    """Return the lines that are events as one table per kind, and the positions of all others.

    The last value is the error of one line that is not an event, or empty.
    """
    try:
        return tables_from_lines(lines), [], ""
    except ValueError as error:
        message = str(error)
    readable = _convertible_lines(lines, [at for at, line in enumerate(lines) if _has_rows(line)])
    dropped = sorted(set(range(len(lines))).difference(readable))
    return tables_from_lines(lines[at] for at in readable), dropped, message


def _has_rows(line: bytes) -> bool:
    """Return True if a line has the parts of an event. Their types can still be wrong."""
    try:
        return bool(_rows([line]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False


def _convertible_lines(lines: Sequence[bytes], positions: list[int]) -> list[int]:
    """Return the positions of the lines that can be rows of the tables."""
    try:
        tables_from_lines(lines[at] for at in positions)
    except ValueError:
        middle = len(positions) // 2
        if not middle:
            return []
        first, second = positions[:middle], positions[middle:]
        return _convertible_lines(lines, first) + _convertible_lines(lines, second)
    return positions


def _tables(lines: Iterable[bytes]) -> dict[str, pa.Table]:
    parts: dict[str, list[pa.Table]] = {kind: [schema.empty_table()] for kind, schema in SCHEMAS.items()}
    waiting = iter(lines)
    while some := list(itertools.islice(waiting, LINES_PER_CHUNK)):
        for kind, table in _chunk_tables(some).items():
            parts[kind].append(table)
    return {kind: pa.concat_tables(tables).combine_chunks() for kind, tables in parts.items()}


def _chunk_tables(lines: list[bytes]) -> dict[str, pa.Table]:
    """Return one table per kind, from decoded structs if possible, else row by row."""
    if len(lines) >= MIN_LINES:
        # Where the fast path fails, the slow path reports the error.
        with contextlib.suppress(
            ValueError, KeyError, TypeError, AttributeError, OverflowError, pa.ArrowException
        ):
            if (tables := _fast_tables(lines)) is not None:
                return tables
    return {kind: _table(rows, SCHEMAS[kind]) for kind, rows in _rows(lines).items()}


def _fast_tables(lines: list[bytes]) -> dict[str, pa.Table] | None:
    """Return one table per kind, or None if a decision or context is not in the usual form."""
    decoded = decode_lines(lines)
    slow = [at for at, line in enumerate(decoded) if line is None]
    others = _rows([lines[at] for at in slow])
    if others["decisions"] or others["contexts"]:
        return None
    accepted = [line for line in decoded if line is not None]
    is_decision = [type(line.data) is DecisionData for line in accepted]
    places = {
        "decisions": [at for at, decision in enumerate(is_decision) if decision],
        "contexts": [at for at, decision in enumerate(is_decision) if not decision],
    }
    where = pa.record_batch(leading_columns(accepted, EVENTS), schema=pa.schema(_WHERE))
    made = {
        kind: [*where.take(pa.array(at, pa.int64())).columns, *columns([accepted[i].data for i in at])]
        for (kind, at), columns in zip(places.items(), (decision_columns, context_columns), strict=True)
    }
    own = [[line.type for line in accepted], [line.subject for line in accepted], [None] * len(accepted)]
    made["events"] = [*where.columns, *own]
    tables = {kind: _columns_table(columns, SCHEMAS[kind]) for kind, columns in made.items()}
    if slow:
        whole = pa.concat_tables([tables["events"], _table(others["events"], EVENTS)])
        fast = [at for at, line in enumerate(decoded) if line is not None]
        order = sorted(range(len(lines)), key=[*fast, *slow].__getitem__)
        tables["events"] = whole.combine_chunks().take(pa.array(order, pa.int64()))
    return tables


def _columns_table(columns: Iterable[Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _rows(lines: Iterable[bytes]) -> dict[str, list[Sequence[Any]]]:
    rows: dict[str, list[Sequence[Any]]] = {kind: [] for kind in SCHEMAS}
    for line in lines:
        event = orjson.loads(line)
        kind, data = event_kind(event["type"]), event["data"]
        where, own = common_columns(event), None
        if kind == "decision.made":
            rows["decisions"].append((*where, *decision_row(data)))
        elif kind == "context.recorded":
            rows["contexts"].append((*where, *context_row(data)))
        else:
            own = orjson.dumps(data).decode()
        rows["events"].append((*where, event["type"], event["subject"], own))
    return rows


def _table(rows: list[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as Parquet bytes. Equal rows give equal bytes."""
    writer = ParquetBuffer(table.schema)
    writer.add(table)
    return writer.close()[0]


def row_range(table: pa.Table) -> dict[str, int | None]:
    """Return the number of rows, and the first and the last sequence number."""
    sequences = table.column("sequence")
    ends = (sequences[0].as_py(), sequences[-1].as_py()) if table.num_rows else (None, None)
    return {"rows": table.num_rows, "first_sequence": ends[0], "last_sequence": ends[1]}


def merge_row_ranges(before: dict[str, int | None], more: dict[str, int | None]) -> dict[str, int | None]:
    """Return the row range of two consecutive tables."""
    if not before["rows"] or not more["rows"]:
        return more if more["rows"] else before
    return {**more, "rows": before["rows"] + more["rows"], "first_sequence": before["first_sequence"]}


class ParquetBuffer:
    """One Parquet file in memory, built from consecutive tables. At most one row group waits."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            # The stubs accept only a bool here.
            use_dictionary=[name for name in schema.names if name in _REPEATED],  # type: ignore[arg-type]
            write_statistics=columns_with_statistics(schema),
        )
        self._waiting = schema.empty_table()
        self._rows: dict[str, int | None] = row_range(self._waiting)

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        self._rows = merge_row_ranges(self._rows, row_range(table))
        self._waiting = pa.concat_tables([self._waiting, table])
        while self._waiting.num_rows >= ROWS_PER_ROW_GROUP:
            self._write(ROWS_PER_ROW_GROUP)

    def close(self) -> tuple[bytes, dict[str, int | None]]:
        """Return the file and its row range."""
        if self._waiting.num_rows or not self._rows["rows"]:
            self._write(ROWS_PER_ROW_GROUP)
        self._writer.close()
        return self._sink.getvalue().to_pybytes(), self._rows

    def _write(self, count: int) -> None:
        self._writer.write_table(
            self._waiting.slice(0, count).combine_chunks(), row_group_size=ROWS_PER_ROW_GROUP
        )
        self._waiting = self._waiting.slice(count)
