"""Counters of a run over all attempts, and the rates computed from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass
class RunCounters:
    """Counters of one run over all its attempts.

    `finite` counts batches with a finite loss, `updated` the ones that the chain did not skip, `updates`
    optimizer steps. `evaluations` counts evaluations with a finite loss, `accepted` the ones that the memory
    accepted.
    """

    batches: int = 0
    finite: int = 0
    updated: int = 0
    updates: int = 0
    evaluations: int = 0
    accepted: int = 0

    def add_batch(self, task_loss: float, *, updated: bool, stepped: bool) -> None:
        """Count one batch that has ended."""
        finite = math.isfinite(task_loss)
        self.batches += 1
        self.finite += finite
        # Where `finite` is in shadow, the chain lets a NaN through.
        self.updated += updated and finite
        self.updates += stepped

    def add_evaluation(self, val_loss: float, *, accepted: bool) -> None:
        """Count one evaluation."""
        self.evaluations += math.isfinite(val_loss)
        self.accepted += accepted

    def rates(self) -> dict[str, float | None]:
        """Return `update_rate` of finite batches and `accept_rate` of finite evaluations.

        None before the first.
        """
        return {
            "update_rate": _ratio(self.updated, self.finite),
            "accept_rate": _ratio(self.accepted, self.evaluations),
        }

    def summary(self) -> dict[str, float | None]:
        """Return the counts and rates of `run.finished`."""
        return {
            "batches": self.batches,
            "updates": self.updates,
            "skips": self.batches - self.updated,
            "evaluations": self.evaluations,
            "accepted": self.accepted,
            **self.rates(),
        }

    def state_dict(self) -> dict[str, int]:
        """Return the state for a checkpoint. `RunCounters(**state)` restores it."""
        return asdict(self)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
