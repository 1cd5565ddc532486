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
from ockham.odr.verdict import CheckResult
from ockham.record.ledger import read_entries


class KnownResult(NamedTuple):
    """Result of a check. `constraints` contains the fields of each constraint by its ID.

    `oq_delta_at` is not part of an attestation.
    """

    verdict: str | None
    oq_delta: float | None
    constraints: Mapping[str, Mapping[str, Any]]
    attestation_id: str | None = None
    oq_delta_at: str | None = None


def from_check(result: CheckResult) -> KnownResult:
    """Return a result of `check` that was not attested."""
    constraints = {
        one.constraint.id: {
            "value": one.value,
            "n": one.n,
            "state": one.state,
            "reason": one.reason,
            "statistics": None if one.statistics is None else one.statistics._asdict(),
        }
        for one in result.results
    }
    place = None if result.oq is None else result.oq.place
    return KnownResult(result.verdict, result.oq_delta, constraints, oq_delta_at=place)


def load_ledger(runs: Path | None) -> list[dict[str, Any]]:
    """Return the events of the ledger as rows in order. Empty without a ledger."""
    if runs is None:
        return []
    try:
        lines = read_entries(runs)
    except (OckhamError, OSError):
        return []
    rows = (_row(position, line) for position, line in enumerate(lines))
    return [row for row in rows if row is not None]


def _row(position: int, line: bytes) -> dict[str, Any] | None:
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
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def find_attested(rows: Sequence[Mapping[str, Any]], odr_id: str, sha256: str) -> KnownResult | None:
    """Return the newest attested result of a record whose file has this digest."""
    for row in reversed(rows):
        if event_kind(row["type"]) == "odr.checked" and (row["odr_id"], row["odr_sha256"]) == (
            odr_id,
            sha256,
        ):
            data = orjson.loads(row["data"])
            constraints = {str(one.get("constraint_id")): one for one in data["constraints"]}
            return KnownResult(data["verdict"], data["oq_delta"], constraints, row["event_id"])
    return None
