"""Result of a what-if analysis: counts, the point of divergence, and a row per batch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ockham.policy import Policy


class WhatIfRow(NamedTuple):
    """One batch under the other policy and as recorded. `exact` is True before the divergence."""

    iter_num: int
    micro_step: int
    task_loss: float
    recorded: str
    whatif: str
    reason_code: str
    exact: bool


@dataclass(slots=True)
class WhatIfResult:
    """Decisions of another policy.

    Attributes:
        diverged_iter: First iteration at which it would have changed the weights differently. None means
            never.
        diverged_by: Knob that differed, or measurement that is missing.
        exact_batches: Batches before that. Their verdicts are certain.
        transitions: `UPDATE>SKIP` and similar -> number of batches.
        backward_over_forward: b of the recorded run.
        unanswered: Consolidations that it requested without a recorded validation loss.
        halted_iter: Iteration at which it would have ended the run.
        notes: Further limits of the result, as sentences.

    """

    label: str
    policy: Policy
    batches: int = 0
    finite: int = 0
    exact_batches: int = 0
    diverged_iter: int | None = None
    diverged_by: str = ""
    transitions: Counter[str] = field(default_factory=Counter)
    evaluations: int = 0
    accepted: int = 0
    recorded_accepted: int = 0
    consolidated: int = 0
    recorded_consolidated: int = 0
    backward_over_forward: float | None = None
    unanswered: int = 0
    halted_iter: int | None = None
    notes: list[str] = field(default_factory=list)
    rows: list[WhatIfRow] = field(default_factory=list)

    def update_rate(self, *, recorded: bool = False) -> float | None:
        """Return the update rate of finite batches under the other policy, or as recorded."""
        finite = (row for row in self.rows if math.isfinite(row.task_loss))
        updated = sum((row.recorded if recorded else row.whatif) == "UPDATE" for row in finite)
        return updated / self.finite if self.finite else None

    def compute_saved(self, *, recorded: bool = False) -> float | None:
        """Return the estimated share of compute saved by skipping: (1 - u) b/(1+b), never 1 - u."""
        rate, b = self.update_rate(recorded=recorded), self.backward_over_forward
        return None if rate is None or b is None else (1 - rate) * b / (1 + b)

    def summary(self) -> dict[str, float | int | str | None]:
        """Return one row: the counts, and where the result stops being exact."""
        moves = {
            f"{one}_to_{other}": self.transitions[f"{one}>{other}".upper()]
            for one in ("update", "skip")
            for other in ("update", "skip")
        }
        return {
            "policy": self.label,
            "batches": self.batches,
            "exact_batches": self.exact_batches,
            "diverged_iter": self.diverged_iter,
            "diverged_by": self.diverged_by,
            "recorded_update_rate": self.update_rate(recorded=True),
            "update_rate": self.update_rate(),
            **moves,
            "recorded_compute_saved": self.compute_saved(recorded=True),
            "compute_saved": self.compute_saved(),
            "evaluations": self.evaluations,
            "recorded_accepted": self.recorded_accepted,
            "accepted": self.accepted,
            "recorded_consolidated": self.recorded_consolidated,
            "consolidated": self.consolidated,
            "unanswered": self.unanswered,
            "halted_iter": self.halted_iter,
        }
