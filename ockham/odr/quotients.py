"""The Occam Quotients of the two sides: which decisions carry them, and the relative gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ockham.event import number
from ockham.odr.evidence import Cut
from ockham.odr.record import Record
from ockham.quotient import improvement


def oq_delta(record: Record, cuts: Sequence[Cut]) -> float | None:
    """(candidate - baseline) / baseline; None where a side has no single quotient. Notes what is wrong with citations."""
    quotients: dict[str, float] = {}
    for one in cuts:
        accepting = [
            found
            for prefix in one.side.decisions
            if (found := _decision(record, one, cuts, prefix)) is not None
        ]
        values = [value for data in accepting if (value := _quotient(data)) is not None]
        if len(values) == 1:
            quotients[one.side.name] = values[0]
        elif record.claims.oq_delta is not None:
            message = f"evidence.{one.side.name} cites {len(values)} accepting decisions of the memory with a quotient, not one"
            record.add_at("ODR407", message, ("evidence", one.side.name, "decisions"))
    if quotients.keys() != {"baseline", "candidate"}:
        return None
    delta = improvement(quotients["candidate"], quotients["baseline"])
    return delta if math.isfinite(delta) else None


def _decision(record: Record, one: Cut, cuts: Sequence[Cut], prefix: str) -> dict[str, Any] | None:
    """The data of a cited decision, None (and a finding) where it is none of this side."""
    at = one.side.decisions.index(prefix)
    path = ("evidence", one.side.name, "decisions", at)
    found = [c for c in one.cited[prefix] if c.event.get("type") == "ockham.decision.made.v1"]
    before = [c for c in found if c.sequence < one.size]
    if len(found) > 1:
        record.add_at(
            "ODR403", f"{prefix} is the beginning of {len(found)} decisions of {one.side.run}", path
        )
    elif before:
        data = before[0].event["data"]
        return data if isinstance(data, dict) else None
    elif found:
        message = f"{prefix} is event {found[0].sequence} of {one.side.run}, behind through_sequence"
        record.add_at("ODR410", message, path)
    elif other := next((c for c in cuts if c.side.run != one.side.run and _holds(c, prefix)), None):
        record.add_at("ODR405", f"{prefix} is a decision of {other.side.run}, not of {one.side.run}", path)
    else:
        record.add_at("ODR403", f"{prefix} is no decision in the log of {one.side.run}", path)
    return None


def _holds(other: Cut, prefix: str) -> bool:
    """Whether the other side's log has a decision with this ID; it is searched only now, in the rare case."""
    needle = f'"id":"{prefix}'.encode()
    return any(needle in segment.read_bytes() for segment, _ in other.parts)


def _quotient(data: dict[str, Any]) -> float | None:
    """The quotient that an accepting decision of the memory was made by; None for any other decision.

    In shadow it was measured all the same, so a run under `observe` can be a baseline.
    """
    if data.get("plugin") != "memory" or data.get("action") != "ACCEPT":
        return None
    value = number(data.get("numbers", {}).get("oq"))
    return value if value is not None and math.isfinite(value) else None
