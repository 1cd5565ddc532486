"""What an optimizer step measured, on its way to the host.

A host read in the middle of a step makes the host wait for the device, and then the device for the host. So the device
decides by itself whether a step is refused and how far weights are pulled back, and what it measured travels to pinned
memory behind the step. Read after the next batch's loss, it is there already and nothing waits; on a CPU it is there at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ockham.nano.anchor import Drift, to_float64


class PendingStepMetrics:
    """Gauges of one step.

    Args:
        norm: L2 norm of the gradient before the clip.
        distance: of the weights from the anchor before pull and projection, absolute; None without an anchor.
        kl: to the anchor, nats/token; None: not measured.
        drift: makes the gauges of drift from the distance and whether a step was taken; None without an anchor.
        told: called with whether the step was taken, once that is known.

    """

    def __init__(
        self, norm: torch.Tensor, distance: torch.Tensor | None, kl: torch.Tensor | None,
        drift: Callable[[float, bool], Drift] | None, on_result: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._drift, self._told, self._kl = drift, on_result, kl is not None
        given = [to_float64(norm), *(to_float64(value) for value in (distance, kl) if value is not None)]
        values = torch.stack(given)
        self._arrived: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._values = values

    def result(self) -> tuple[bool, dict[str, Any]]:
        """Whether a step was taken, and the gauges; waits where they have not arrived yet."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values = iter(self._values.tolist())
        norm = next(values)
        stepped = math.isfinite(norm)
        drift = Drift(0.0, 0.0, 0.0) if self._drift is None else self._drift(next(values), stepped)
        kl = next(values) if self._kl else None
        self._told(stepped)
        return stepped, {
            "grad_norm": norm, "complexity_cost": drift.after, "drift_raw": drift.raw, "drift_sq": drift.squared,
            "kl_to_anchor": kl if stepped else None,
        }  # fmt: skip


def no_step_metrics() -> tuple[bool, dict[str, Any]]:
    """Of a batch that no step followed."""
    return False, {"kl_to_anchor": None}
