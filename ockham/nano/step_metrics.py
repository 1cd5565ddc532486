"""Metrics of an optimizer step, from the device to the host.

A host read in the middle of a step makes the host wait for the device, and then the device for the host.
So the device itself decides whether a step is refused and how far the weights are pulled back. Its
measurements are copied to pinned memory after the step. When the next batch's loss has been read, they have
already arrived and nothing waits. On a CPU they are available at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from ockham.nano.anchor import Drift, to_float64


class StepResult(NamedTuple):
    """Whether the optimizer took a step, and the gauges of the step."""

    stepped: bool
    gauges: dict[str, Any]


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
NO_STEP = CompletedStep(StepResult(stepped=False, gauges={}))
# After the last micro-batch of a step, if the chain skipped all of them.
SKIPPED_STEP = CompletedStep(StepResult(stepped=False, gauges={"kl_to_anchor": None}))


class PendingStepMetrics:
    """Metrics of one step on their way to the host.

    Args:
        norm: L2 norm of the gradient before clipping.
        distance: Absolute distance of the weights from the anchor before pull and projection. None without
            an anchor.
        kl: KL divergence from the anchor in nats per token. None if it was not measured.
        drift: Computes the drift from the distance and from whether a step was taken. None without an anchor.
        on_result: Called with whether the step was taken, as soon as that is known.

    """

    def __init__(
        self,
        norm: torch.Tensor,
        distance: torch.Tensor | None,
        kl: torch.Tensor | None,
        drift: Callable[[float, bool], Drift] | None,
        on_result: Callable[[bool], None],
    ) -> None:
        self._drift = drift
        self._on_result = on_result
        self._has_kl = kl is not None
        measured = [to_float64(norm), *(to_float64(value) for value in (distance, kl) if value is not None)]
        values = torch.stack(measured)
        self._copied: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        else:
            self._values = values

    def result(self) -> StepResult:
        """Return whether a step was taken, and the gauges. Waits if they have not arrived yet."""
        if self._copied is not None:
            self._copied.synchronize()
        values = iter(self._values.tolist())
        norm = next(values)
        stepped = math.isfinite(norm)
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
        return StepResult(stepped, gauges)
