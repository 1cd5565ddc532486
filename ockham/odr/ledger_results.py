"""Events of the ledger as rows, and the newest attested result of each record.

An attestation names the digest of the record's file. It counts only as long as the file has this digest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import OckhamError
from ockham.event import event_kind
from ockham.odr.output_formats import result_json
from ockham.odr.verdict import CheckResult
from ockham.record.ledger import read_marked_entries

_OF_PAIRS = ("n_pairs", "interval_low", "interval_high", "p_value")
RESULT_FIELDS = ("value", "n", "state", "reason", *_OF_PAIRS)


class KnownResult(NamedTuple):
    """Result of a check. `constraints` are the `RESULT_FIELDS` by the ID of the constraint."""

    verdict: str | None
    oq_delta: float | None
    oq_delta_at: str | None
    constraints: Mapping[str, Mapping[str, Any]]
    attestation_id: str | None = None


def from_check(result: CheckResult) -> KnownResult:
    """Return a result of `check` that was not attested."""
    constraints = {one.constraint.id: _fields(result_json(one)) for one in result.results}
    place = None if result.oq is None else result.oq.place
    return KnownResult(result.verdict, result.oq_delta, place, constraints)


def _fields(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `RESULT_FIELDS` of a result as JSON. Interval and p are NULL for one pair."""
    statistics = result.get("statistics") or {}
    names = {"interval_low": "low", "interval_high": "high", "p_value": "p"}
    return {**result, **{name: statistics.get(names.get(name, name)) for name in _OF_PAIRS}}


def load_ledger(runs: Path | None) -> list[dict[str, Any]]:
    """Return the events of the ledger as rows in order. Empty without a ledger."""
    if runs is None:
        return []
    try:
        entries = read_marked_entries(runs)
    except (OckhamError, OSError):
        return []
    rows = (_row(position, line, signed=signed) for position, (line, signed) in enumerate(entries))
    return [row for row in rows if row is not None]


def _row(position: int, line: bytes, *, signed: bool) -> dict[str, Any] | None:
    """Return one event as a row. None if the line is not an event: `ockham verify` reports it."""
    try:
        event = orjson.loads(line)
        data = event["data"]
        return {
            "position": position,
            "event_id": str(event["id"]),
            "time": dt.datetime.fromisoformat(event["time"]).astimezone(dt.UTC).replace(tzinfo=None),
            "type": event["type"],
            "odr_id": data.get("odr_id"),
            "odr_sha256": data.get("odr_sha256"),
            "verdict": data.get("verdict"),
            "data": orjson.dumps(data).decode(),
            "signed": signed,
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def find_attested(rows: Sequence[Mapping[str, Any]], odr_id: str, sha256: str) -> KnownResult | None:
    """Return the newest attested result of a record whose file has this digest. Unsigned rows are ignored."""
    for row in reversed(rows):
        is_check = row["signed"] and event_kind(row["type"]) == "odr.checked"
        if is_check and (row["odr_id"], row["odr_sha256"]) == (odr_id, sha256):
            data = orjson.loads(row["data"])
            constraints = {str(one.get("constraint_id")): _fields(one) for one in data["constraints"]}
            place = data.get("oq_delta_at")
            return KnownResult(data["verdict"], data["oq_delta"], place, constraints, row["event_id"])
    return None
