"""Metrics of an optimizer step, from the device to the host.

A host read in the middle of a step makes the host wait for the device, and then the device for the host.
So the device itself decides whether a step is refused and how far the weights are pulled back. Its
measurements are copied to pinned memory after the step. When the next batch's loss has been read, they have
already arrived and nothing waits. On a CPU they are available at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from ockham.applied_step import GRADIENT_DROPPED, NONFINITE_GRADIENT, AppliedStep
from ockham.nano.anchor import Drift, to_float64


class StepResult(NamedTuple):
    """Measurement at the optimizer, and the gauges of the step."""

    applied: AppliedStep
    gauges: dict[str, Any]


class BatchResult(NamedTuple):
    """Measurement at the optimizer after a batch, the gauges, and the seconds of each stage."""

    applied: AppliedStep
    gauges: dict[str, Any]
    seconds: dict[str, float]


class PendingStep(Protocol):
    """Optimizer step whose metrics can be read later."""

    def result(self) -> StepResult:
        """Return the result. Waits for the device if necessary."""
        ...


class CompletedStep(NamedTuple):
    """Step whose result is known already, such as one that was not taken."""

    step_result: StepResult

    def result(self) -> StepResult:
        """Return the result."""
        return self.step_result


# After a micro-batch that is not the last one of its step.
NO_STEP = CompletedStep(StepResult(AppliedStep(stepped=False), gauges={}))
# After the last micro-batch of a step, if the chain skipped all of them.
SKIPPED_STEP = CompletedStep(StepResult(AppliedStep(stepped=False), gauges={"kl_to_anchor": None}))


class PendingStepMetrics:
    """Metrics of one step on their way to the host.

    Args:
        norm: L2 norm of the gradient before clipping.
        clipped: L2 norm of the gradient after clipping.
        distance: Absolute distance of the weights from the anchor before pull and projection. None without
            an anchor.
        kl: KL divergence from the anchor in nats per token. None if it was not measured.
        drift: Computes the drift from the distance and from whether a step was taken. None without an anchor.
        learning_rates: Learning rate of each parameter group at the step.
        on_result: Called with whether the step was taken, as soon as that is known.
        is_refused: Whether a plugin has refused the step.

    """

    def __init__(
        self,
        norm: torch.Tensor,
        clipped: torch.Tensor,
        distance: torch.Tensor | None,
        kl: torch.Tensor | None,
        drift: Callable[[float, bool], Drift] | None,
        learning_rates: tuple[float, ...],
        on_result: Callable[[bool], None],
        *,
        is_refused: bool = False,
    ) -> None:
        self._drift = drift
        self._learning_rates = learning_rates
        self._on_result = on_result
        self._has_kl = kl is not None
        self._is_refused = is_refused
        self._read = copy_to_host([value for value in (norm, clipped, distance, kl) if value is not None])

    def result(self) -> StepResult:
        """Return whether a step was taken, and the gauges. Waits if they have not arrived yet."""
        values = iter(self._read())
        norm, clipped = next(values), next(values)
        stepped = math.isfinite(norm) and not self._is_refused
        drift = Drift(0.0, 0.0, 0.0) if self._drift is None else self._drift(next(values), stepped)
        kl = next(values) if self._has_kl else None
        self._on_result(stepped)
        gauges = {
            "grad_norm": norm,
            "complexity_cost": drift.after,
            "drift_raw": drift.raw,
            "drift_sq": drift.squared,
            "kl_to_anchor": kl if stepped else None,
        }
        if not stepped:
            cause = GRADIENT_DROPPED if math.isfinite(norm) else NONFINITE_GRADIENT
            return StepResult(AppliedStep(stepped=False, cause=cause), gauges)
        measured_clipped = clipped if math.isfinite(clipped) else None
        return StepResult(AppliedStep(True, self._learning_rates, measured_clipped), gauges)


def copy_to_host(values: Sequence[torch.Tensor]) -> Callable[[], list[float]]:
    """Start to copy scalars to the host. The returned function waits for them and returns them."""
    stacked = torch.stack([to_float64(value) for value in values])
    if stacked.device.type != "cuda":
        return stacked.tolist
    on_host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
    on_host.copy_(stacked, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> list[float]:
        copied.synchronize()
        numbers: list[float] = on_host.tolist()
        return numbers

    return read
