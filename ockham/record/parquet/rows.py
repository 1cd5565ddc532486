"""Rows: one event as the values of the Parquet columns in order.

A line omits default values, so a row starts from the defaults. Columns are built from rows with `zip`.
Building dictionaries row by row and then columns cost four times as much.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from ockham.context import FIELDS, GAUGES, KNOBS, REQUIRED
from ockham.event import parse_number

FACT_COLUMNS = [f for f in FIELDS if f.role == "fact" and f.name not in {"iter_num", "micro_step", "run_id"}]
KNOB_COLUMNS = [f for f in FIELDS if f.role == "knob"]
GAUGE_COLUMNS = [f for f in FIELDS if f.role == "gauge"]
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
ColumnReader = Callable[[Any], Any]


def common_columns(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the first columns of every table, from event ID to micro-step."""
    data = event["data"]
    return (
        event["id"],
        event["source"].rsplit("/", 1)[-1],
        data["attempt"],
        data["rank"],
        data["sequence"],
        _microseconds(event["time"]),
        data.get("iter_num"),
        data.get("micro_step"),
    )


def decision_row(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the further columns of `decisions`."""
    changes = [
        (
            change["field"],
            orjson.dumps(change["before"]).decode(),
            orjson.dumps(change["after"]).decode(),
            _scalar(change["before"]),
            _scalar(change["after"]),
        )
        for change in data["changes"]
    ]
    return (
        data["hook"],
        data["plugin"],
        data["order"],
        data["shadow"],
        data["action"],
        data["reason_code"],
        parse_number(data["observed"]),
        parse_number(data["threshold"]),
        changes,
        _numbers(data["numbers"]),
        data["policy_revision"],
    )


def context_row(data: Mapping[str, Any]) -> list[Any]:
    """Return the further columns of `contexts`: facts, knobs as given and as left, gauges, and batch data."""
    if data["iter_num"] is None or data["micro_step"] is None:
        raise KeyError("iter_num")
    given, measured = data["given"], data["measured"]
    row = _DEFAULTS.copy()
    for name, value in given.items():
        slot = _SLOTS.get(name)
        if slot is not None:
            row[slot.given] = row[slot.left] = _read(value, slot.read)
    for name, value in data["left"].items():
        if name in KNOBS:
            row[_SLOTS[name].left] = _read(value, _SLOTS[name].read)
    for name, value in measured.items():
        if name in GAUGES:
            row[_SLOTS[name].left] = _read(value, _SLOTS[name].read)
    applied = data["applied"]
    rows = data.get("rows", {})
    custom = measured["custom"] if "custom" in measured else given.get("custom", {})
    return [
        data["hook"],
        data["policy_revision"],
        *row,
        [name for name in measured if name in GAUGES],
        applied.get("updated"),
        _floats(applied.get("learning_rates", ())),
        parse_number(applied.get("clipped_grad_norm")),
        applied.get("weights_changed"),
        applied.get("cause"),
        _numbers(data["seconds"]),
        _numbers(custom),
        data["decisions"]["first"],
        data["decisions"]["count"],
        rows.get("position"),
        rows.get("indices"),
        rows.get("digest"),
    ]


class _Slot(NamedTuple):
    """Positions of a field's value in a row, and its reader.

    A knob has two positions: as given and as left.
    """

    given: int
    left: int
    read: ColumnReader | None


def _read(value: Any, read: ColumnReader | None) -> Any:
    return value if read is None or type(value) is float else read(value)


def _floats(value: Iterable[Any]) -> list[float | None]:
    return [parse_number(item) for item in value]


_READ: Mapping[str, ColumnReader | None] = {
    "float": parse_number,
    "floats": _floats,
    "int": None,
    "bool": None,
    "str": None,
}


def _slots() -> tuple[dict[str, _Slot], list[Any]]:
    """Return the slot of each field, and the row of a line that omits all fields."""
    facts, knobs = len(FACT_COLUMNS), len(KNOB_COLUMNS)
    slots = {f.name: _Slot(i, i, _READ[f.kind]) for i, f in enumerate(FACT_COLUMNS)}
    slots |= {f.name: _Slot(facts + i, facts + knobs + i, _READ[f.kind]) for i, f in enumerate(KNOB_COLUMNS)}
    at = facts + 2 * knobs
    slots |= {f.name: _Slot(at + i, at + i, _READ[f.kind]) for i, f in enumerate(GAUGE_COLUMNS)}
    columns = [*FACT_COLUMNS, *KNOB_COLUMNS, *KNOB_COLUMNS, *GAUGE_COLUMNS]
    return slots, [None if f.name in REQUIRED else _read(f.default, _READ[f.kind]) for f in columns]


_SLOTS, _DEFAULTS = _slots()


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    return [(key, parse_number(value)) for key, value in values.items()]


def _scalar(value: Any) -> float | None:
    return None if isinstance(value, list) else parse_number(value)


def _microseconds(text: str) -> int:
    """Return an RFC 3339 time as microseconds since 1970."""
    return (dt.datetime.fromisoformat(text) - _EPOCH) // dt.timedelta(microseconds=1)
