"""Payload objects of events, their encoding as `data`, and decoding of lines.

The training thread appends one small object. All functions of this module run on the writer's thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from ockham.context import FIELDS, GAUGES, KNOBS
from ockham.event import Decision, Value, to_json_value
from ockham.fields import DEFAULTS

FIELD_NAMES = tuple(field.name for field in FIELDS)
field_values = attrgetter(*FIELD_NAMES)
gauge_values = attrgetter(*GAUGES)
# A line has at most 65,535 bytes; a larger state is stored in a blob.
INLINE_STATE_BYTES = 16_384
# brackets: orjson writes what is nested 254 deep, and reads 1,024.
_MAX_UNCHECKED_BRACKETS = 250
_KNOB_INDEXES = tuple(FIELD_NAMES.index(name) for name in KNOBS)


class ContextRecord(NamedTuple):
    """Inputs of a hook and the knobs after it: everything that a replay needs.

    `given` contains every field in the order of `FIELD_NAMES`, `measured` the gauges that this batch or
    evaluation measured, `left` the knobs after the last plugin. `gradients` contains the knobs of the step
    and `custom`, where they differ from those of this batch. It is None if `on_gradients` was not run.
    `rows` is where the rows of a batch came from. A replay does not use it.
    """

    iter_num: int
    micro_step: int
    hook: str
    given: tuple[Value, ...]
    given_custom: Mapping[str, float]
    measured: Mapping[str, Value]
    measured_custom: Mapping[str, float]
    left: tuple[Value, ...]
    applied: Mapping[str, Value]
    seconds: Mapping[str, float]
    first_decision: int
    decisions: int
    gradients: Mapping[str, Any] | None = None
    rows: Mapping[str, Any] | None = None


class StateRecord(NamedTuple):
    """A key frame: the state of every plugin before the next batch."""

    iter_num: int
    micro_step: int
    trigger: str
    state: Mapping[str, Mapping[str, Any]]


Payload = Decision | ContextRecord | StateRecord | Mapping[str, Any]


def encode_payload(payload: Payload, policy_revision: str) -> tuple[dict[str, Any], bytes | None]:
    """Return the event's `data` without its position, and the bytes of a blob that it names, or None."""
    if isinstance(payload, Decision):
        return _decision(payload, policy_revision), None
    if isinstance(payload, ContextRecord):
        return _context(payload, policy_revision), None
    if isinstance(payload, StateRecord):
        return _state(payload)
    return {key: to_json_value(value) for key, value in payload.items()}, None


def decode_line(line: bytes) -> Any:
    """Decode a line. Nesting that no writer produces is rejected here for all readers.

    Raises:
        ValueError: If it is not JSON, or nested too deep.

    """
    value = orjson.loads(line)
    if line.count(b"[") + line.count(b"{") > _MAX_UNCHECKED_BRACKETS:
        try:
            orjson.dumps(value)
        except TypeError:
            raise ValueError("nested deeper than any writer writes") from None
    return value


def _decision(made: Decision, policy_revision: str) -> dict[str, Any]:
    return {
        "iter_num": made.iter_num,
        "micro_step": made.micro_step,
        "hook": made.hook,
        "plugin": made.plugin,
        "order": made.order,
        "shadow": made.shadow,
        "action": made.action,
        "reason_code": made.reason_code,
        "observed": to_json_value(made.observed),
        "threshold": to_json_value(made.threshold),
        "changes": [
            {
                "field": change.field,
                "before": to_json_value(change.before),
                "after": to_json_value(change.after),
            }
            for change in made.changes
        ],
        "numbers": {key: v if isfinite(v) else to_json_value(v) for key, v in made.numbers.items()},
        "policy_revision": policy_revision,
    }


def _context(record: ContextRecord, policy_revision: str) -> dict[str, Any]:
    required = ("iter_num", "task_loss")
    given = {
        name: to_json_value(value)
        for name, value in zip(FIELD_NAMES, record.given, strict=True)
        if name in required or not _same(value, DEFAULTS[name])
    }
    if record.given_custom:
        given["custom"] = to_json_value(record.given_custom)
    measured: dict[str, Any] = {name: to_json_value(value) for name, value in record.measured.items()}
    if record.measured_custom != record.given_custom:
        measured["custom"] = to_json_value(record.measured_custom)
    knobs = zip(KNOBS, _KNOB_INDEXES, record.left, strict=True)
    data = {
        "iter_num": record.iter_num,
        "micro_step": record.micro_step,
        "hook": record.hook,
        "policy_revision": policy_revision,
        "given": given,
        "measured": measured,
        "left": {
            name: to_json_value(value) for name, at, value in knobs if not _same(value, record.given[at])
        },
        "applied": to_json_value(record.applied),
        "seconds": to_json_value(record.seconds),
        "decisions": {
            "first": record.first_decision if record.decisions else None,
            "count": record.decisions,
        },
    }
    if record.gradients is not None:
        data["gradients"] = to_json_value(record.gradients)
    if record.rows is not None:
        data["rows"] = record.rows
    return data


def _state(record: StateRecord) -> tuple[dict[str, Any], bytes | None]:
    state = to_json_value(record.state)
    encoded = orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
    inline = len(encoded) <= INLINE_STATE_BYTES
    data = {
        "iter_num": record.iter_num,
        "micro_step": record.micro_step,
        "trigger": record.trigger,
        "state": state if inline else None,
        "state_sha256": hashlib.sha256(encoded).hexdigest(),
    }
    return data, None if inline else encoded


def _same(value: Value, other: Value) -> bool:
    """Return True if two values are equal and have the same sign: -0.0 differs from 0.0 in bits.

    NaN is never equal.
    """
    return value == other and (value != 0 or not isinstance(value, float) or str(value) == str(other))
