"""What one run shows, read from its contexts: verdicts, losses, costs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from ockham.errors import UnverifiableError
from ockham.event import parse_number
from ockham.policy import Policy
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.replay.log_reader import Step
from ockham.replay.trajectory import AttemptTrajectory, load_trajectory


@dataclass
class RunData:
    """A run as studies look at it; `about` is its run.json."""

    run_id: str
    about: dict[str, Any]
    legs: list[AttemptTrajectory]

    @property
    def policy(self) -> Policy:
        """The policy that it was last under."""
        return self.legs[-1].policy

    @property
    def settings(self) -> dict[str, Any]:
        """The trainer's settings that it was last under."""
        return self.legs[-1].settings

    @cached_property
    def batches(self) -> list[Step]:
        """Every batch, in order."""
        return [step for leg in self.legs for step in leg.steps if step.hook == "batch"]

    @cached_property
    def evaluations(self) -> list[Step]:
        """Every evaluation, in order."""
        return [step for leg in self.legs for step in leg.steps if step.hook == "on_evaluate"]

    @cached_property
    def losses(self) -> dict[int, float]:
        """Validation loss by iteration, nats/token; those that are not finite are left out."""
        found = {step.iter_num: parse_number(step.data["given"].get("val_loss")) for step in self.evaluations}
        return {at: loss for at, loss in found.items() if loss is not None and math.isfinite(loss)}

    @cached_property
    def verdicts(self) -> dict[tuple[int, int], bool]:
        """Whether each batch updated, by (iteration, micro-step)."""
        return {(s.iter_num, s.data["micro_step"]): updated(s) for s in self.batches}

    @property
    def updates(self) -> int:
        """Batches with a finite loss that updated."""
        return sum(updated(step) for step in self.batches if _finite(step))

    @property
    def update_rate(self) -> float | None:
        """Updated batches / finite batches."""
        finite = sum(map(_finite, self.batches))
        return self.updates / finite if finite else None

    @property
    def accepted(self) -> int:
        """Evaluations whose weights were kept."""
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
        """What the quotient was computed with; only equal ones compare."""
        given = self.batches[-1].data["given"]
        memories = [e["settings"] for e in self.policy.content["plugins"] if e["use"] == "memory"]
        kind = memories[0]["performance"] if memories else "inverse_loss"
        measured = given.get("inference_flops", 0.0) > 0 and given.get("memory_footprint_mb", 0.0) > 0
        tokens = given.get("inference_tokens", 0) if measured else 1
        return kind, measured, tokens, given.get("vocab_size", 0) if kind == "bits_saved" else 0

    def stage_seconds(self) -> dict[str, float]:
        """Seconds of each stage over all batches, measured."""
        totals: dict[str, float] = {}
        for step in self.batches:
            for name, seconds in step.data["seconds"].items():
                totals[name] = totals.get(name, 0.0) + (parse_number(seconds) or 0.0)
        return totals

    def compute_cost(self, b: float, until: int | None = None) -> float:
        """Cost of the batches up to an iteration, in forwards: 1 for each, b more for each that updated."""
        return sum(1 + b * up for (at, _), up in self.verdicts.items() if until is None or at <= until)

    def loss_at_compute(self, budget: float, b: float) -> float | None:
        """Validation loss when `budget` forwards were spent, between evaluations by a straight line; None outside."""
        spent, total = 0.0, dict[int, float]()
        for (at, _), up in self.verdicts.items():
            spent += 1 + b * up
            total[at] = spent
        curve = [(total[at], loss) for at, loss in self.losses.items() if at in total]
        for (x0, y0), (x1, y1) in itertools.pairwise(curve):
            if x0 <= budget <= x1 * (1 + 1e-9):
                return y0 + (y1 - y0) * (min(budget, x1) - x0) / (x1 - x0) if x1 > x0 else y1
        return None


def load_run_data(runs: Any, run_id: str) -> RunData:
    """Read a run.

    Raises:
        RunError: if there is no such run.
        UnverifiableError: if its log can't be read or holds no batch.

    """
    folder = RunFolder(runs, run_id).require_exists()
    try:
        about = orjson.loads(read_regular_file(folder.run_json))
    except (OSError, ValueError) as error:
        raise UnverifiableError(f"cannot read {folder.run_json}: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("data", {}), dict):
        raise UnverifiableError(f"{folder.run_json}: an object was expected, with an object as its `data`")
    seen = RunData(run_id, about, load_trajectory(folder))
    if not seen.batches:
        raise UnverifiableError(f"run {run_id!r} has no recorded batch")
    return seen


def _finite(step: Step) -> bool:
    return math.isfinite(parse_number(step.data["given"]["task_loss"]) or 0.0)


def updated(step: Step) -> bool:
    """Whether the chain let a batch update."""
    return bool(step.data["left"].get("updated", step.data["given"].get("updated", True)))
