"""Compute that skipped batches saved: an estimate with a 95 % interval, from sums of stage times.

A skipped micro-batch saves its backward pass, a skipped optimizer step saves the optimizer. Both are priced
at the mean measured time. `docs/figures.md` has the formula and its assumptions.
`ockham/sql/views/run_savings.sql` is the same formula in SQL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

# Half width of a 95 % interval in standard errors.
Z_95 = 1.96
# With several ranks the time of the chain contains the waiting for other ranks. Above this share of the
# compute the stage times do not show what a batch costs.
MAX_CHAIN_SHARE_OF_RANKS = 0.1
# Why an estimate is unknown.
SAVINGS_REASONS = {
    "NO_BATCHES": "no batch was recorded",
    "NOTHING_UPDATED": "no batch was updated, so the time of an update was not measured",
    "NO_STAGE_TIMES": "the times of forward and backward were not recorded",
    "WAITED_FOR_RANKS": "the ranks waited for each other, so the stage times do not show the cost of a batch",
}
TIMED_STAGES = ("forward", "backward", "optimizer", "chain")


class Savings(NamedTuple):
    """Estimate of the compute that skips saved.

    Attributes:
        backward_over_forward: Cost of backward and optimizer divided by the cost of forward, per micro-batch.
        compute_saved: Saved share of the compute that updating on every batch would have cost.
        compute_saved_low: Lower end of its 95 % interval.
        compute_saved_high: Upper end of its 95 % interval.
        compute_saved_reason: Why `compute_saved` is None, as a stable code. None if it is known.
        seconds_saved: Seconds that the skips saved on one rank.
        chain_share: Time of the chain, divided by the compute that always updating would have cost. None
            with several ranks, because it contains waiting.

    """

    backward_over_forward: float | None = None
    compute_saved: float | None = None
    compute_saved_low: float | None = None
    compute_saved_high: float | None = None
    compute_saved_reason: str | None = None
    seconds_saved: float | None = None
    chain_share: float | None = None

    def recorded(self) -> dict[str, float | str | None]:
        """Return the fields of `run.finished`."""
        values = self._asdict()
        return {name: values[name] for name in self._fields[:5]}


class ForwardCosts(NamedTuple):
    """Cost of one backward pass and of one optimizer step, in forward passes of a micro-batch."""

    backward: float
    optimizer: float


@dataclass
class StageTimes:
    """Number, sum and sum of squares of the seconds of one stage."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, seconds: float) -> None:
        """Add one measurement."""
        self.count += 1
        self.total += seconds
        self.squares += seconds * seconds

    @property
    def mean(self) -> float:
        """Mean seconds. 0 without a measurement."""
        return self.total / self.count if self.count else 0.0

    def prediction_variance(self, number: int) -> float | None:
        """Return the variance of the total of *number* further measurements. None if it is unknown."""
        if number == 0 or self.count == 0:
            return 0.0
        if self.count == 1:
            return None
        variance = max(0.0, (self.squares - self.total * self.total / self.count) / (self.count - 1))
        return variance * number * (1 + number / self.count)


@dataclass
class SavingsCounter:
    """What the estimate needs of the batches of a run, over all its attempts.

    `batches` and `updated_batches` count micro-batches by their verdict, `steps` the complete steps, and
    `updated_steps` those with a micro-batch that the chain allowed to update.
    """

    batches: int = 0
    updated_batches: int = 0
    steps: int = 0
    updated_steps: int = 0
    world_size: int = 1
    stages: dict[str, StageTimes] = field(default_factory=lambda: {s: StageTimes() for s in TIMED_STAGES})
    _step: int | None = field(default=None, repr=False)
    _step_updated: bool = field(default=False, repr=False)

    def add_batch(
        self, iter_num: int, seconds: Mapping[str, float], *, updated: bool, ends_step: bool
    ) -> None:
        """Add one micro-batch that has ended."""
        if iter_num != self._step:
            self._step, self._step_updated = iter_num, False
        self._step_updated |= updated
        self.batches += 1
        self.updated_batches += updated
        if ends_step:
            self.steps += 1
            self.updated_steps += self._step_updated
        for name, stage in self.stages.items():
            if name in seconds:
                stage.add(seconds[name])

    def estimate(self) -> Savings:
        """Return the estimate."""
        skipped, skipped_steps = self.batches - self.updated_batches, self.steps - self.updated_steps
        forward, backward, optimizer, chain = (self.stages[name] for name in TIMED_STAGES)
        saved = skipped * backward.mean + skipped_steps * optimizer.mean
        spent = (
            self.batches * forward.mean
            + self.updated_batches * backward.mean
            + self.updated_steps * optimizer.mean
        )
        always = spent + saved
        costs = self.forward_costs()
        found = Savings()
        if costs is not None:
            ratio = costs.backward + costs.optimizer * self.steps / self.batches
            share = chain.total / always if self.world_size == 1 else None
            found = Savings(backward_over_forward=ratio, chain_share=share)
        reason = self._reason(costs is not None, chain.total / always if always else 0.0)
        if reason is not None:
            return found._replace(compute_saved_reason=reason)
        if not skipped:
            return found._replace(
                compute_saved=0.0, compute_saved_low=0.0, compute_saved_high=0.0, seconds_saved=0.0
            )
        low, high = _interval(spent, saved, backward, skipped, optimizer, skipped_steps)
        return found._replace(
            compute_saved=saved / always,
            compute_saved_low=low,
            compute_saved_high=high,
            seconds_saved=saved,
        )

    def forward_costs(self) -> ForwardCosts | None:
        """Return what a backward pass and an optimizer step cost. None without stage times."""
        forward, backward, optimizer, _ = (self.stages[name] for name in TIMED_STAGES)
        if forward.mean <= 0 or not backward.count:
            return None
        return ForwardCosts(backward.mean / forward.mean, optimizer.mean / forward.mean)

    def _reason(self, is_timed: bool, chain_share: float) -> str | None:
        if not self.batches:
            return "NO_BATCHES"
        if self.updated_batches == self.batches:
            return None
        if not self.updated_batches:
            return "NOTHING_UPDATED"
        if not is_timed:
            return "NO_STAGE_TIMES"
        if self.world_size > 1 and chain_share > MAX_CHAIN_SHARE_OF_RANKS:
            return "WAITED_FOR_RANKS"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, which ends a step."""
        state = asdict(self)
        return {name: value for name, value in state.items() if not name.startswith("_")}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SavingsCounter:
        """Return the counter of a checkpoint."""
        stages = {name: StageTimes(**values) for name, values in state["stages"].items()}
        return cls(**{**state, "stages": stages})


def _interval(
    spent: float,
    saved: float,
    backward: StageTimes,
    skipped: int,
    optimizer: StageTimes,
    skipped_steps: int,
) -> tuple[float | None, float | None]:
    """Return the 95 % interval of saved / (spent + saved) by the delta method. `spent` is known."""
    variances = backward.prediction_variance(skipped), optimizer.prediction_variance(skipped_steps)
    if variances[0] is None or variances[1] is None:
        return None, None
    always = spent + saved
    half = Z_95 * math.sqrt(variances[0] + variances[1]) * spent / (always * always)
    return max(0.0, saved / always - half), min(1.0, saved / always + half)
