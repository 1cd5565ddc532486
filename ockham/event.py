"""The event: one line of the log, a CloudEvents 1.0 envelope around `data`.

    {"specversion":"1.0","id":UUIDv7,"source":"ockham://runs/<run_id>","type":"ockham.decision.made.v1",
     "subject":"iter/1200","time":RFC 3339 UTC,"dataschema":"urn:ockham:decision.made.v1","data":{...}}

`data` always contains `sequence`, `attempt` and `rank`: the position of the event in the record. The ID of a
decision event is its decision ID. Numbers that are not finite are the strings "NaN", "Infinity" and
"-Infinity".
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

SPECVERSION = "1.0"
# Entry bundles of C2SP tlog-tiles have 16-bit lengths.
MAX_LINE_BYTES = 65_535
TYPES: tuple[str, ...] = (
    "run.started",
    "run.resumed",
    "run.finished",
    "policy.loaded",
    "context.recorded",
    "decision.made",
    "plugin_state.recorded",
    "plugin.failed",
    "evaluation.recorded",
    "checkpoint.saved",
    "checkpoint.pruned",
    "anchor.consolidated",
    "rollback.performed",
    "data.skipped",
    "rank.diverged",
    "verdict.not_applied",
    "adapter.enabled",
    "adapter.reverted",
    "log.recovered",
    "log.halted",
    "log.gap",
    "log.sealed",
    "run.managed",
    "odr.registered",
    "odr.checked",
    "replay.attested",
    "note.added",
    "intervention.applied",
    "stop.requested",
    "checkpoint.approved",
    "waiver.granted",
    "request.refused",
)
# Reason code of the end of a run that a person has requested; see `ockham stop`.
STOPPED_BY_USER = "STOPPED_BY_USER"
NONFINITE: Mapping[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_AS_IS = frozenset({int, bool, str, type(None)})
Value = float | int | bool | str | tuple[float, ...] | None


class Change(NamedTuple):
    """One knob change by one plugin."""

    field: str
    before: Value
    after: Value


class Decision(NamedTuple):
    """One decision of the chain. The log adds its ID, time and position."""

    iter_num: int
    micro_step: int
    hook: str
    plugin: str
    order: int
    shadow: bool
    action: str
    reason_code: str
    observed: float | None
    threshold: float | None
    changes: tuple[Change, ...]
    numbers: Mapping[str, float]


def event_type(kind: str) -> str:
    """Return the CloudEvents type of an event kind: `decision.made` -> `ockham.decision.made.v1`."""
    return f"ockham.{kind}.v1"


def event_kind(type_: str) -> str:
    """Return the kind of a CloudEvents type: `ockham.decision.made.v1` -> `decision.made`."""
    return type_.removeprefix("ockham.").rsplit(".", 1)[0]


def event_id(time_ns: int, sequence: int, nonce: int) -> str:
    """Return a UUIDv7 (RFC 9562) built from time, sequence number and a random number of the attempt.

    The fields are 48 bits of milliseconds, 12 bits of the fraction below them, 30 random bits of the attempt
    and 32 bits of the sequence number. IDs are unique within an attempt and sort by time across attempts.

    Args:
        time_ns: Time in nanoseconds since the epoch.
        sequence: Sequence number of the event in its log.
        nonce: Random number of the attempt. Its lower 30 bits are used.

    """
    milliseconds, rest = divmod(time_ns, 1_000_000)
    high = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | (rest * 4096 // 1_000_000)
    low = 0b10 << 62 | (nonce & 0x3FFF_FFFF) << 32 | sequence & 0xFFFF_FFFF
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def timestamp(time_ns: int) -> str:
    """Return a time in nanoseconds as RFC 3339 text in UTC with microseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def to_json_value(value: Any) -> Any:
    """Return *value* as JSON stores it: non-finite floats as strings, tuples as lists."""
    if type(value) in _AS_IS or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item) for item in value]
    return value


def from_json_value(value: Any) -> Any:
    """Return the inverse of `to_json_value` for a state: the three strings become floats again."""
    if isinstance(value, str):
        return NONFINITE.get(value, value)
    if isinstance(value, Mapping):
        return {key: from_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [from_json_value(item) for item in value]
    return value


def parse_number(value: Any) -> float | None:
    """Return a number field read from JSON. The three non-finite strings become floats; None stays None."""
    if value is None:
        return None
    return NONFINITE[value] if isinstance(value, str) else float(value)


def envelope(
    kind: str, run_id: str, subject: str, time_ns: int, id_: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the complete event. *data* must already consist of JSON values."""
    return {
        "specversion": SPECVERSION,
        "id": id_,
        "source": f"ockham://runs/{run_id}",
        "type": event_type(kind),
        "subject": subject,
        "time": timestamp(time_ns),
        "dataschema": f"urn:ockham:{kind}.v1",
        "data": data,
    }
