"""Columns of decoded lines: the fast path from lines to Arrow tables.

Structs are read field by field, so that a column is one list. The slow path builds a row for each line, at
several times the cost. Only chunks whose decisions and contexts all pass the fast decoder are accepted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import orjson
import pyarrow as pa
from msgspec import UNSET

from ockham.context import GAUGES
from ockham.event import parse_number
from ockham.record.fast_decode import FastDecoder
from ockham.record.parquet.rows import FACT_COLUMNS, GAUGE_COLUMNS, KNOB_COLUMNS

CHANGE = pa.struct(
    [
        ("field", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("before_value", pa.float64()),
        ("after_value", pa.float64()),
    ]
)
Columns = list[Any]
# Below, building a decoder costs more than it saves.
MIN_LINES = 200
_UTC = pa.timestamp("us", "UTC")
_DECISION_TEXTS = ("hook", "plugin", "order", "shadow", "action", "reason_code")
_facts: Callable[[Any], tuple[Any, ...]] = attrgetter(*(f.name for f in FACT_COLUMNS))
_knobs: Callable[[Any], tuple[Any, ...]] = attrgetter(*(f.name for f in KNOB_COLUMNS))
_gauges: Callable[[Any], tuple[Any, ...]] = attrgetter(*(f.name for f in GAUGE_COLUMNS))


@functools.lru_cache(maxsize=16)
def _decoder(source: str, attempt: int, rank: int) -> FastDecoder:
    return FastDecoder(source, attempt, rank)


def decode_lines(lines: Sequence[bytes]) -> list[Any]:
    """Return the struct of each line that the fast decoder accepts, and None for all others."""
    event = orjson.loads(lines[0])
    data = event["data"]
    place = (event["source"], data["attempt"], data["rank"], data["sequence"])
    if tuple(map(type, place)) != (str, int, int, int):
        return [None] * len(lines)
    return _decoder(*place[:3]).lines(lines, place[3])


def leading_columns(lines: Sequence[Any], schema: pa.Schema) -> list[pa.Array[Any]]:
    """Return the first columns of every table, from event ID to micro-step."""
    datas = [line.data for line in lines]
    run_id = lines[0].source.rsplit("/", 1)[-1] if lines else ""
    place = (run_id, datas[0].attempt, datas[0].rank) if lines else ("", 0, 0)
    constants = [
        pa.repeat(pa.scalar(value, schema.field(name).type), len(lines))
        for name, value in zip(("run_id", "attempt", "rank"), place, strict=True)
    ]
    times = pa.array([line.time for line in lines], pa.string()).cast(_UTC).cast(pa.timestamp("us"))
    return [
        pa.array([line.id for line in lines], pa.string()),
        *constants,
        pa.array([data.sequence for data in datas], pa.int64()),
        times,
        pa.array([data.iter_num for data in datas], pa.int64()),
        pa.array([data.micro_step for data in datas], pa.int64()),
    ]


def decision_columns(datas: Sequence[Any]) -> Columns:
    """Return the further columns of `decisions`."""
    return [
        *zip(*map(attrgetter(*_DECISION_TEXTS), datas), strict=True),
        _floats([data.observed for data in datas]),
        _floats([data.threshold for data in datas]),
        _changes([data.changes for data in datas]),
        _numbers([data.numbers for data in datas]),
        [data.policy_revision for data in datas],
    ]


def context_columns(datas: Sequence[Any]) -> Columns:
    """Return the further columns of `contexts`: facts, knobs as given and as left, gauges, and batch data."""
    given, measured = [data.given for data in datas], [data.measured for data in datas]
    gauges = list(map(_gauges, measured))
    base = list(zip(*map(_knobs, given), strict=True))
    left = zip(*map(_knobs, [data.left for data in datas]), strict=True)
    carried = zip(*map(_gauges, given), strict=True)
    values = [
        *zip(*map(_facts, given), strict=True),
        *base,
        *map(_override, base, left),
        *map(_override, carried, zip(*gauges, strict=True)),
    ]
    fields = (*FACT_COLUMNS, *KNOB_COLUMNS, *KNOB_COLUMNS, *GAUGE_COLUMNS)
    customs = [
        part.custom if part.custom is not UNSET else other.custom
        for part, other in zip(measured, given, strict=True)
    ]
    return [
        [data.hook for data in datas],
        [data.policy_revision for data in datas],
        *[_READ[field.kind](column) for field, column in zip(fields, values, strict=True)],
        _gauge_names(gauges),
        *_applied_columns([data.applied for data in datas]),
        _numbers([data.seconds for data in datas]),
        _numbers([{} if custom is UNSET else custom for custom in customs]),
        [data.decisions.first for data in datas],
        [data.decisions.count for data in datas],
        *_batch_rows([data.rows for data in datas]),
    ]


def _applied_columns(applied: Sequence[Any]) -> Columns:
    rates = [() if each.learning_rates is UNSET else each.learning_rates for each in applied]
    return [
        [each.updated for each in applied],
        _float_lists(rates),
        _floats(_optional([each.clipped_grad_norm for each in applied])),
        _optional([each.weights_changed for each in applied]),
        _optional([each.cause for each in applied]),
    ]


def _batch_rows(rows: Sequence[Any]) -> Columns:
    """Return position, indices and digest of the rows of each batch."""
    return [
        _optional([UNSET if row is UNSET else getattr(row, name) for row in rows])
        for name in ("position", "indices", "digest")
    ]


def _optional(values: Sequence[Any]) -> list[Any]:
    return [None if value is UNSET else value for value in values]


def _override(values: Sequence[Any], later: Sequence[Any]) -> Sequence[Any]:
    """Return the later values, and the earlier ones where they are UNSET."""
    if later.count(UNSET) == len(later):
        return values
    return [old if new is UNSET else new for old, new in zip(values, later, strict=True)]


def _unchanged(values: Sequence[Any]) -> Sequence[Any]:
    return values


def _floats(values: Sequence[Any]) -> Any:
    """Return numbers as an array. Only non-finite and large whole numbers are read one by one."""
    try:
        return pa.array(values, pa.float64())
    except pa.ArrowException:
        return pa.array([None if value is None else parse_number(value) for value in values], pa.float64())


def _float_lists(values: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if not any(values):
        return values
    return [[parse_number(item) for item in value] for value in values]


_READ: Mapping[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    "float": _floats,
    "floats": _float_lists,
    "int": _unchanged,
    "bool": _unchanged,
    "str": _unchanged,
}


def _offsets(values: Sequence[Any]) -> Any:
    return pa.array(accumulate(map(len, values), initial=0), pa.int32())


def _numbers(values: Sequence[Mapping[str, Any]]) -> Any:
    names = pa.array(chain.from_iterable(values), pa.string())
    numbers = _floats(list(chain.from_iterable([value.values() for value in values])))
    return pa.MapArray.from_arrays(_offsets(values), names, numbers)


def _changes(values: Sequence[Sequence[Any]]) -> Any:
    changes = list(chain.from_iterable(values))
    before, after = [change.before for change in changes], [change.after for change in changes]
    columns = [
        [change.field for change in changes],
        [orjson.dumps(value).decode() for value in before],
        [orjson.dumps(value).decode() for value in after],
        _scalars(before),
        _scalars(after),
    ]
    fields = list(CHANGE)
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, fields, strict=True)
    ]
    return pa.ListArray.from_arrays(_offsets(values), pa.StructArray.from_arrays(arrays, fields=fields))


def _scalars(values: Sequence[Any]) -> Any:
    """Return the numbers among the values of knobs, and null for lists."""
    return _floats([None if isinstance(value, list) else value for value in values])


def _gauge_names(rows: Sequence[tuple[Any, ...]]) -> list[list[str]]:
    """Return the names of the measured gauges of each context."""
    known: dict[tuple[bool, ...], list[str]] = {}
    found = []
    for row in rows:
        key = tuple([value is UNSET for value in row])
        if key not in known:
            known[key] = [name for name, missing in zip(GAUGES, key, strict=True) if not missing]
        found.append(known[key])
    return found
