"""Counters of a run over all attempts, and the rates computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ockham.context import OccamContext
from ockham.savings import SavingsCounter


@dataclass
class RunCounters:
    """Counters of one run over all its attempts.

    Attributes:
        batches: Micro-batches.
        finite: Micro-batches with a finite loss.
        updated: Micro-batches with a finite loss that the chain did not skip.
        iterations: Optimizer steps, taken or not.
        steps: Optimizer steps that were taken.
        evaluations: Evaluations.
        finite_evaluations: Evaluations with a finite loss.
        accepted: Evaluations whose weights were accepted.
        savings: What the estimate of the saved compute needs.

    """

    batches: int = 0
    finite: int = 0
    updated: int = 0
    iterations: int = 0
    steps: int = 0
    evaluations: int = 0
    finite_evaluations: int = 0
    accepted: int = 0
    savings: SavingsCounter = field(default_factory=SavingsCounter)
    _iteration: int | None = field(default=None, repr=False)
    _is_stepped: bool = field(default=False, repr=False)

    def add_batch(self, ctx: OccamContext, seconds: Mapping[str, float], *, stepped: bool) -> None:
        """Count one micro-batch that has ended."""
        finite = math.isfinite(ctx.task_loss)
        self.batches += 1
        self.finite += finite
        # Where `finite` is in shadow, the chain lets a NaN through.
        self.updated += ctx.updated and finite
        if ctx.iter_num != self._iteration:
            self._iteration, self._is_stepped = ctx.iter_num, False
            self.iterations += 1
        if stepped and not self._is_stepped:
            self._is_stepped = True
            self.steps += 1
        self.savings.add_batch(ctx.iter_num, seconds, updated=ctx.updated, ends_step=ctx.ends_step)

    def add_evaluation(self, val_loss: float, *, accepted: bool) -> None:
        """Count one evaluation."""
        self.evaluations += 1
        self.finite_evaluations += math.isfinite(val_loss)
        self.accepted += accepted

    def rates(self) -> dict[str, float | None]:
        """Return `update_rate` of finite batches and `accept_rate` of finite evaluations.

        None before the first.
        """
        return {
            "update_rate": _ratio(self.updated, self.finite),
            "accept_rate": _ratio(self.accepted, self.finite_evaluations),
        }

    def summary(self) -> dict[str, float | str | None]:
        """Return the counts, rates and savings of `run.finished`."""
        return {
            "batches": self.batches,
            "updated_batches": self.updated,
            "skipped_batches": self.batches - self.updated,
            "optimizer_steps": self.steps,
            "skipped_steps": self.iterations - self.steps,
            "evaluations": self.evaluations,
            "accepted": self.accepted,
            **self.rates(),
            **self.savings.estimate().recorded(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, which ends a step. `from_state` restores it."""
        counts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**counts, "savings": self.savings.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], world_size: int) -> RunCounters:
        """Return the counters of a checkpoint, continued by *world_size* ranks."""
        savings = SavingsCounter.from_state(state["savings"])
        savings.world_size = max(savings.world_size, world_size)
        return cls(**{**state, "savings": savings})


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
