"""The Occam Quotient: OQ = performance / (inference FLOPs x memory in decimal MB).

Units: performance is 1/nats by default, so an OQ is in 1/(nat FLOP MB). Real values are near 1e-17. Compare
them by ratio only (`relative_improvement`), never by difference, and only if their specs are equal. At a
fixed architecture OQ is 1/loss times a constant. Across sizes it falls with the square of the size while the
loss falls slowly, so it favours tiny models. Use the performance `bits_saved` to compare sizes: an untrained
model has the value 0.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Literal

from ockham.errors import BadInputError

Performance = Literal["inverse_loss", "bits_saved"]
Cost = Literal["measured", "from_params"]


@dataclass(frozen=True, slots=True)
class QuotientSpec:
    """Inputs from which an OQ was computed. Two OQs are comparable only if their specs have the same digest.

    Attributes:
        performance: `inverse_loss` (1/loss) or `bits_saved` ((ln V - loss)/ln V).
        cost: `measured` if FLOPs and MB were given, `from_params` if both were estimated from the number of
            parameters (2 N FLOPs per token, 4 bytes per parameter). The two are not comparable.
        tokens: Number of tokens of the FLOPs. 0 if unknown.
        vocab_size: V of `bits_saved`, otherwise 0.

    """

    performance: Performance = "inverse_loss"
    cost: Cost = "measured"
    tokens: int = 0
    vocab_size: int = 0

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the spec's fields in alphabetical order."""
        text = ";".join(f"{key}={value}" for key, value in sorted(asdict(self).items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def compute_performance(loss: float, kind: Performance = "inverse_loss", vocab_size: int = 0) -> float:
    """Return the performance of a loss in nats. NaN if the loss is not finite and positive.

    Args:
        loss: Loss in nats per token.
        kind: `inverse_loss` or `bits_saved`.
        vocab_size: Size of the vocabulary, required for `bits_saved`.

    Raises:
        BadInputError: If `bits_saved` has no vocabulary size.

    """
    if not (math.isfinite(loss) and loss > 0):
        return math.nan
    if kind == "inverse_loss":
        return 1.0 / loss
    if vocab_size < 2:
        raise BadInputError(f"performance 'bits_saved' needs vocab_size >= 2, got {vocab_size}")
    uniform = math.log(vocab_size)
    return (uniform - loss) / uniform


def occam_quotient(performance: float, flops: float, megabytes: float) -> float:
    """Return the Occam Quotient in performance / (FLOP MB).

    Raises:
        BadInputError: If FLOPs or megabytes are not finite and positive.

    Example:
        >>> occam_quotient(performance=0.5, flops=2e9, megabytes=10)
        2.5e-11

    """
    for name, value in (("inference_flops", flops), ("memory_footprint_mb", megabytes)):
        if not (math.isfinite(value) and value > 0):
            raise BadInputError(f"the Occam Quotient needs {name} > 0, got {value!r}")
    return performance / (flops * megabytes)


def relative_improvement(candidate: float, baseline: float) -> float:
    """Return the relative change candidate / baseline - 1. NaN if the baseline is not finite and positive."""
    if not (math.isfinite(baseline) and baseline > 0 and math.isfinite(candidate)):
        return math.nan
    return candidate / baseline - 1.0
