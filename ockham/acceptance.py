"""Explanation of why a memory accepted nothing, with the setting that decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context

# With fewer batches or evaluations, a rate is not reliable.
MIN_BATCHES = 200
MIN_EVALUATIONS = 10

_OTHER_CAUSES: Mapping[str, str] = {
    "REJECTED_NONFINITE": "The loss or the drift is not finite: lower learning_rate.",
    "REJECTED_NO_COST": "The model's cost is unknown: set model_params in the facts of the run.",
    "REJECTED_NO_PERFORMANCE": "The model is not better than guessing: change learning_rate.",
}


def explain_no_acceptance(
    rejections: Mapping[str, int],
    closest: Mapping[str, tuple[float, float]],
    settings: Mapping[str, float | None],
    name: str = "memory",
) -> str:
    """Return how often nothing was accepted, the most frequent reason, and the setting to change.

    Args:
        rejections: Number of evaluations by reason code. At least one.
        closest: Lowest value that was rejected, and its limit, by reason code.
        settings: Settings of the memory by name.
        name: Name of the memory in its chain.

    """
    total = sum(rejections.values())
    reason = max(sorted(rejections), key=lambda code: rejections[code])
    text = f"{name} accepted none of {total} evaluations; {rejections[reason]} of {total}: {reason}."
    if reason not in ("REJECTED_QUALITY", "REJECTED_COMPLEXITY"):
        return f"{text} {_OTHER_CAUSES.get(reason, '')}".rstrip()
    if reason == "REJECTED_QUALITY":
        setting = "quality_fraction" if settings.get("quality_threshold") is None else "quality_threshold"
        what, remedy = "loss", "train longer"
    else:
        setting, what, remedy = "complexity_threshold", "drift", "lower learning_rate"
    # After a resume, the values of the earlier attempt are not known.
    value, limit = closest.get(reason, (math.nan, math.nan))
    present = settings.get(setting) or limit
    if math.isnan(value):
        return f"{text} Set {name}.{setting} higher (now {present:.4g}), or {remedy}."
    # quality_fraction is in units of ln(vocab_size): the required value has the ratio of value and limit.
    required = _round_up(present * value / limit)
    return (
        f"{text} The lowest {what} was {value:.4g}, the limit is {limit:.4g}: "
        f"set {name}.{setting} to {required:g} or more (now {present:.4g}), or {remedy}."
    )


def _round_up(value: float) -> float:
    """Return *value* rounded up to four digits, so that the rejected value passes."""
    # The quotient above can be one rounding error too small.
    return float(Context(prec=4, rounding=ROUND_CEILING).create_decimal(value * (1 + 1e-12)))
