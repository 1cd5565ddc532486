"""OQ delta of two sides: the decisions that contain the quotients, their inputs, and the relative gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ockham.event import parse_number
from ockham.odr.pinned_log import CitedEvent, PinnedLog
from ockham.odr.record import DecisionRecord
from ockham.quotient import Cost, Performance, QuotientSpec, compute_performance, relative_improvement

# relative: the quotient was computed from these very doubles.
_SAME = 1e-9
_NAMES: tuple[Performance, ...] = ("inverse_loss", "bits_saved")


def compute_oq_delta(record: DecisionRecord, cuts: Sequence[PinnedLog]) -> float | None:
    """Return (candidate - baseline) / baseline.

    None if a side has no single quotient, or they are not comparable.

    Problems of the citations are added as findings.
    """
    found: dict[str, CitedEvent] = {}
    for one in cuts:
        cited = [
            c for prefix in one.side.decisions if (c := _decision(record, one, cuts, prefix)) is not None
        ]
        carrying = [c for c in cited if _quotient(c) is not None]
        if len(carrying) == 1:
            found[one.side.name] = carrying[0]
        elif record.claims.oq_delta is not None:
            message = f"evidence.{one.side.label} cites {len(carrying)} accepting decisions with a quotient"
            record.add_finding_at("ODR407", message, (*one.side.path, "decisions"))
    if found.keys() != {"baseline", "candidate"}:
        return None
    specs = {name: infer_quotient_spec(cited) for name, cited in found.items()}
    if specs["baseline"] is None or specs["baseline"] != specs["candidate"]:
        if record.claims.oq_delta is not None:
            differences = ", ".join(
                f"{n}: {spec or 'from what, the log does not say'}" for n, spec in sorted(specs.items())
            )
            record.add_finding_at(
                "ODR603", f"the two quotients do not compare: {differences}", ("outcome", "oq_delta")
            )
        return None
    delta = relative_improvement(*(_quotient(found[name]) or math.nan for name in ("candidate", "baseline")))
    return delta if math.isfinite(delta) else None


def infer_quotient_spec(cited: CitedEvent) -> QuotientSpec | None:
    """Return the spec of a quotient by recomputing it from the recorded facts.

    None if no spec reproduces it.
    """
    data, given = cited.event["data"], cited.given
    loss, quotient = parse_number(data.get("numbers", {}).get("loss")), _quotient(cited)
    if loss is None or quotient is None:
        return None
    fact = {key: _fact(given, key) for key in ("inference_flops", "memory_footprint_mb", "model_params")}
    measured = fact["inference_flops"] > 0 and fact["memory_footprint_mb"] > 0
    flops = fact["inference_flops"] if measured else 2.0 * fact["model_params"]
    megabytes = fact["memory_footprint_mb"] if measured else 4e-6 * fact["model_params"]
    vocabulary = int(_fact(given, "vocab_size"))
    for kind in _NAMES:
        if kind == "bits_saved" and vocabulary < 2:
            continue
        if math.isclose(
            compute_performance(loss, kind, vocabulary), quotient * flops * megabytes, rel_tol=_SAME
        ):
            tokens = int(_fact(given, "inference_tokens")) if measured else 1
            cost: Cost = "measured" if measured else "from_params"
            return QuotientSpec(kind, cost, tokens, vocabulary if kind == "bits_saved" else 0)
    return None


def _fact(given: Mapping[str, Any], name: str) -> float:
    value = given.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _decision(
    record: DecisionRecord, one: PinnedLog, cuts: Sequence[PinnedLog], prefix: str
) -> CitedEvent | None:
    """Return a cited decision, or None after adding a finding if it does not belong to this side."""
    path = (*one.side.path, "decisions", one.side.decisions.index(prefix))
    found = [c for c in one.cited[prefix] if c.event.get("type") == "ockham.decision.made.v1"]
    if len(found) > 1:
        record.add_finding_at(
            "ODR403", f"{prefix} is the beginning of {len(found)} decisions of {one.side.run}", path
        )
    elif found and found[0].sequence < one.size:
        return found[0] if isinstance(found[0].event.get("data"), dict) else None
    elif found:
        message = f"{prefix} is event {found[0].sequence} of {one.side.run}, after through_sequence"
        record.add_finding_at("ODR410", message, path)
    elif other := next(
        (c for c in cuts if c.side.run != one.side.run and _contains_decision(c, prefix)), None
    ):
        record.add_finding_at(
            "ODR405", f"{prefix} is a decision of {other.side.run}, not of {one.side.run}", path
        )
    else:
        record.add_finding_at("ODR403", f"{prefix} is not a decision in the log of {one.side.run}", path)
    return None


def _contains_decision(other: PinnedLog, prefix: str) -> bool:
    """Return True if the other side's log contains a decision with this ID.

    Rarely needed, so it is read here.
    """
    needle = f'"id":"{prefix}'.encode()
    return any(needle in segment.read_bytes() for segment, _ in other.parts)


def _quotient(cited: CitedEvent) -> float | None:
    """Return the quotient of an accepting decision of the memory. None for any other decision.

    In shadow it was measured too, so a run under `observe` can be a baseline.
    """
    data = cited.event["data"]
    if data.get("plugin") != "memory" or data.get("action") != "ACCEPT":
        return None
    value = parse_number(data.get("numbers", {}).get("oq"))
    return value if value is not None and math.isfinite(value) else None
