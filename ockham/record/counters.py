"""Counts: what an attempt and those before it have done, and the rates that follow."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass
class RunCounters:
    """Of one run, over all its attempts.

    `finite` are the batches with a finite loss, `updated` those of them that the chain let through, `updates` the optimizer's
    steps;
    `evaluations` are those with a finite loss, `accepted` those that memory took.
    """

    batches: int = 0
    finite: int = 0
    updated: int = 0
    updates: int = 0
    evaluations: int = 0
    accepted: int = 0

    def add_batch(self, task_loss: float, *, updated: bool, stepped: bool) -> None:
        """One more batch has ended."""
        finite = math.isfinite(task_loss)
        self.batches += 1
        self.finite += finite
        self.updated += updated and finite  # where `finite` is in shadow, the chain lets a NaN through
        self.updates += stepped

    def add_evaluation(self, val_loss: float, *, accepted: bool) -> None:
        """One more evaluation was judged."""
        self.evaluations += math.isfinite(val_loss)
        self.accepted += accepted

    def rates(self) -> dict[str, float | None]:
        """`update_rate` of finite batches and `accept_rate` of finite evaluations; None before the first."""
        return {
            "update_rate": _ratio(self.updated, self.finite),
            "accept_rate": _ratio(self.accepted, self.evaluations),
        }

    def summary(self) -> dict[str, float | None]:
        """The fields of `run.finished` that are counts and rates."""
        return {
            "batches": self.batches,
            "updates": self.updates,
            "skips": self.batches - self.updated,
            "evaluations": self.evaluations,
            "accepted": self.accepted,
            **self.rates(),
        }

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps; `Counts(**state)` takes it up."""
        return asdict(self)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
