"""Verdicts, losses and costs of one run, read from its recorded contexts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ockham.errors import CheckpointError, LogError, UnverifiableError
from ockham.event import parse_number
from ockham.policy import Policy
from ockham.record.checkpoints import read_signed_run_json
from ockham.record.evidence import read_evidence, select_kinds
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import own_keys
from ockham.replay.log_reader import Step
from ockham.replay.trajectory import AttemptTrajectory, count_savings, load_trajectory
from ockham.savings import ForwardCosts, SavingsCounter

_NAMES_RUN_JSON = select_kinds("run.started", "run.resumed")


@dataclass
class RunData:
    """A run as studies read it. `about` is its run.json."""

    run_id: str
    about: dict[str, Any]
    legs: list[AttemptTrajectory]

    @property
    def policy(self) -> Policy:
        """Last policy of the run."""
        return self.legs[-1].policy

    @property
    def settings(self) -> dict[str, Any]:
        """Last settings of the trainer."""
        return self.legs[-1].settings

    @cached_property
    def batches(self) -> list[Step]:
        """Every batch in order."""
        return [step for leg in self.legs for step in leg.steps if step.hook == "batch"]

    @cached_property
    def evaluations(self) -> list[Step]:
        """Every evaluation in order."""
        return [step for leg in self.legs for step in leg.steps if step.hook == "on_evaluate"]

    @cached_property
    def losses(self) -> dict[int, float]:
        """Finite validation losses by iteration, in nats/token."""
        found = {step.iter_num: parse_number(step.data["given"].get("val_loss")) for step in self.evaluations}
        return {at: loss for at, loss in found.items() if loss is not None and math.isfinite(loss)}

    @cached_property
    def verdicts(self) -> dict[tuple[int, int], bool]:
        """Whether each batch updated, by (iteration, micro-step)."""
        return {(s.iter_num, s.data["micro_step"]): updated(s) for s in self.batches}

    @property
    def updated_batches(self) -> int:
        """Number of micro-batches with a finite loss that the chain allowed to update."""
        return sum(updated(step) for step in self.batches if _finite(step))

    @cached_property
    def steps(self) -> dict[int, bool]:
        """Whether the optimizer took a step, by iteration. Without a measurement the verdict is used."""
        iterations: dict[int, list[Step]] = {}
        for step in self.batches:
            iterations.setdefault(step.iter_num, []).append(step)
        return {at: _stepped(steps) for at, steps in iterations.items()}

    @property
    def optimizer_steps(self) -> int:
        """Number of iterations in which the optimizer took a step."""
        return sum(self.steps.values())

    @cached_property
    def savings_counter(self) -> SavingsCounter:
        """Sums of the stage times, over all attempts."""
        return count_savings(self.legs)

    @property
    def refused(self) -> int:
        """Number of evaluations that an acting memory refused."""
        return sum(
            not step.data["left"].get("accepted", False)
            for leg in self.legs
            if any(e["use"] == "memory" and not e["shadow"] for e in leg.policy.content["plugins"])
            for step in leg.steps
            if step.hook == "on_evaluate"
        )

    @property
    def update_rate(self) -> float | None:
        """Updated batches / finite batches. None without one."""
        finite = sum(map(_finite, self.batches))
        return self.updated_batches / finite if finite else None

    @property
    def accepted(self) -> int:
        """Number of evaluations whose weights were accepted."""
        return sum(bool(step.data["left"].get("accepted", False)) for step in self.evaluations)

    @property
    def quotient(self) -> float | None:
        """Occam Quotient at the last evaluation."""
        return (
            parse_number(self.evaluations[-1].data["given"].get("occam_quotient"))
            if self.evaluations
            else None
        )

    @property
    def quotient_spec(self) -> tuple[Any, ...]:
        """Inputs of the quotient. Only quotients with equal specs are comparable."""
        given = self.batches[-1].data["given"]
        memories = [e["settings"] for e in self.policy.content["plugins"] if e["use"] == "memory"]
        kind = memories[0]["performance"] if memories else "inverse_loss"
        measured = given.get("inference_flops", 0.0) > 0 and given.get("memory_footprint_mb", 0.0) > 0
        tokens = given.get("inference_tokens", 0) if measured else 1
        return kind, measured, tokens, given.get("vocab_size", 0) if kind == "bits_saved" else 0

    @property
    def tokens_per_step(self) -> int | None:
        """Tokens of one optimizer step on all ranks, skipped ones included. None if the settings lack it."""
        names = ("batch_size", "block_size", "gradient_accumulation_steps")
        sizes = [self.settings.get(name) for name in names]
        known = [size for size in sizes if isinstance(size, int) and size > 0]
        return math.prod(known) * self.legs[-1].world_size if len(known) == len(sizes) else None

    def compute_by_iteration(self, costs: ForwardCosts) -> dict[int, float]:
        """Return the compute in forwards up to each iteration.

        A micro-batch costs 1, one that the chain allowed to update its backward pass, a step its optimizer.
        """
        spent: dict[int, float] = {}
        total = 0.0
        for (at, _), is_updated in self.verdicts.items():
            if at not in spent:
                total += costs.optimizer * self.steps[at]
            total += 1 + costs.backward * is_updated
            spent[at] = total
        return spent

    def compute_cost(self, costs: ForwardCosts, until: int | None = None) -> float:
        """Return the compute of the batches up to an iteration in forwards."""
        spent = self.compute_by_iteration(costs)
        return max((total for at, total in spent.items() if until is None or at <= until), default=0.0)

    def loss_at_compute(self, budget: float, costs: ForwardCosts) -> float | None:
        """Return the interpolated validation loss after `budget` forwards.

        None outside of the evaluations.
        """
        total = self.compute_by_iteration(costs)
        return interpolate([(total[at], loss) for at, loss in self.losses.items() if at in total], budget)

    def loss_at_tokens(self, tokens: float) -> float | None:
        """Return the interpolated validation loss after a number of tokens.

        None outside of the evaluations, or if the tokens of a step are unknown.
        """
        step = self.tokens_per_step
        if step is None:
            return None
        return interpolate([((at + 1) * step, loss) for at, loss in self.losses.items()], tokens)


def interpolate(curve: Sequence[tuple[float, float]], x: float) -> float | None:
    """Return the value of a curve of increasing points at *x*. None outside of it."""
    if len(curve) == 1 and math.isclose(curve[0][0], x):
        return curve[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 <= x <= x1 * (1 + 1e-9):
            return y0 + (y1 - y0) * (min(x, x1) - x0) / (x1 - x0) if x1 > x0 else y1
    return None


def load_run_data(runs: Any, run_id: str) -> RunData:
    """Load a run.

    Raises:
        RunError: If the run does not exist.
        UnverifiableError: If its log or run.json cannot be read or was changed, or if it has no batch.

    """
    folder = RunFolder(runs, run_id).require_exists()
    try:
        about = read_signed_run_json(folder, read_evidence(folder, own_keys(folder), select=_NAMES_RUN_JSON))
    except (CheckpointError, LogError) as error:
        raise UnverifiableError(str(error)) from None
    seen = RunData(run_id, about, load_trajectory(folder))
    if not seen.batches:
        raise UnverifiableError(f"run {run_id!r} has no recorded batch")
    return seen


def _finite(step: Step) -> bool:
    return math.isfinite(parse_number(step.data["given"]["task_loss"]) or 0.0)


def _stepped(steps: Sequence[Step]) -> bool:
    """Return True if the optimizer took the step of these micro-batches."""
    measured = [step.data["applied"].get("updated") for step in steps]
    if any(measured):
        return True
    last = steps[-1].data
    is_complete = last["micro_step"] + 1 >= last["given"].get("micro_steps", 1)
    is_allowed = any(map(updated, steps)) and last["left"].get("step", True)
    return is_complete and measured[-1] is None and is_allowed


def updated(step: Step) -> bool:
    """Return True if the chain allowed a batch to update."""
    return bool(step.data["left"].get("updated", step.data["given"].get("updated", True)))
