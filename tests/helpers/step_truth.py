"""What a trainer really did with each batch, measured without Ockham, and its comparison with the log.

The test of a trainer fills a `StepTruth`: the loss that the test computed, whether weights moved, the
learning rates in the optimizer at the moment of a step, and the norm of the gradient before clipping.
`compare` reads the log of the run and returns every difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers import tiny_model

LOSS_TOLERANCE = 2e-5
RATE_TOLERANCE = 1e-9
NORM_TOLERANCE = 1e-4


@dataclass
class StepTruth:
    """Measurements of one training, in the order of its batches.

    Attributes:
        losses: Loss of each micro-batch. None where the test does not compute it.
        moved: Whether any weight changed between the begin and the end of each micro-batch.
        rates: Learning rates of each step with a gradient, one tuple per step.
        norms: Norm of the gradient before clipping, of each step with a gradient. None if not measured.
        clipped_norms: Norm of the gradient at the moment of the step.

    """

    losses: list[float | None] = field(default_factory=list)
    moved: list[bool] = field(default_factory=list)
    rates: list[tuple[float, ...]] = field(default_factory=list)
    norms: list[float | None] = field(default_factory=list)
    clipped_norms: list[float] = field(default_factory=list)
    _before: list[torch.Tensor] = field(default_factory=list)
    _watched: list[torch.optim.Optimizer] = field(default_factory=list)

    def begin_batch(self, model: nn.Module, loss: float | None) -> None:
        """Note the weights and the loss before a batch changes anything."""
        self.losses.append(loss)
        self._before = [parameter.detach().clone() for parameter in model.parameters()]

    def end_batch(self, model: nn.Module) -> None:
        """Note whether the batch changed a weight."""
        pairs = zip(self._before, model.parameters(), strict=True)
        self.moved.append(any(not torch.equal(before, now) for before, now in pairs))

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Read the learning rates of the optimizer at each step with a gradient."""
        if optimizer not in self._watched:
            self._watched.append(optimizer)
            optimizer.register_step_pre_hook(self.read_step)

    def read_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Read the learning rates and the norm of a step with a gradient."""
        groups = optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        if any(parameter.grad is not None for parameter in parameters):
            self.rates.append(tuple(float(group["lr"]) for group in groups))
            self.clipped_norms.append(gradient_norm(parameters))


def gradient_norm(parameters: Iterable[torch.Tensor]) -> float:
    """Return the L2 norm of all gradients, in double precision."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


@dataclass
class Differences:
    """Comparison of a log with the truth.

    Attributes:
        skips: Batches that the log calls skipped.
        moved_on_skips: Steps of which every batch was skipped, and the weights moved.
        loss_error: Largest relative error of a recorded loss.
        rate_error: Largest relative error of a learning rate.
        norm_error: Largest relative error of a gradient norm.
        problems: Everything that is wrong, as sentences. Empty if log and truth agree.

    """

    batches: int = 0
    skips: int = 0
    moved_on_skips: int = 0
    loss_error: float = 0.0
    rate_error: float = 0.0
    norm_error: float = 0.0
    problems: list[str] = field(default_factory=list)


def compare(folder: Path, truth: StepTruth, run_id: str = "a") -> Differences:
    """Return the differences between the log of a run and the truth."""
    result = Differences()
    contexts = tiny_model.read_batches(folder, run_id)
    abandoned = [c for c in contexts if c["applied"].get("cause") == "BATCH_ABANDONED"]
    contexts = [c for c in contexts if c not in abandoned]
    result.batches = len(contexts)
    if len(contexts) != len(truth.moved):
        result.problems.append(f"{len(contexts)} batches in the log, {len(truth.moved)} in the training")
        return result
    _compare_losses(result, contexts, truth)
    _compare_steps(result, _group_steps(contexts), truth)
    run_folder = RunFolder(folder / "runs", run_id)
    report = verify_run(run_folder)
    if not report.sound:
        result.problems.append(f"verify: {[str(finding) for finding in report.findings]}")
    if not replay_run(run_folder).identical:
        result.problems.append("replay: not identical")
    return result


def _compare_losses(result: Differences, contexts: list[dict], truth: StepTruth) -> None:
    for number, (context, loss) in enumerate(zip(contexts, truth.losses, strict=False)):
        judged = context["given"]["task_loss"]
        if loss is None or (math.isnan(loss) and math.isnan(float(judged))):
            continue
        error = abs(judged - loss) / max(abs(loss), 1e-3)
        result.loss_error = max(result.loss_error, error)
        if error > LOSS_TOLERANCE:
            result.problems.append(f"batch {number}: recorded loss {judged}, loss of the training {loss}")


def _compare_steps(result: Differences, steps: list[list[int]], truth: StepTruth) -> None:
    taken = 0
    for step in steps:
        contexts, numbers = [context for _, context in step], [number for number, _ in step]
        accepted = [context["left"].get("updated", True) for context in contexts]
        moved = [truth.moved[number] for number in numbers]
        result.skips += accepted.count(False)
        if not any(accepted) and any(moved):
            result.moved_on_skips += 1
            result.problems.append(f"batches {numbers}: skipped, and the weights moved")
        applied = contexts[-1]["applied"]
        if any(moved[:-1]):
            result.problems.append(f"batches {numbers}: the weights moved before the end of the step")
        if bool(applied["updated"]) != (moved[-1] or _has_zero_rate(applied)):
            result.problems.append(f"batches {numbers}: applied {applied}, weights moved {moved[-1]}")
        if not applied["updated"]:
            continue
        if taken >= len(truth.rates):
            result.problems.append(f"batches {numbers}: a step is recorded that the optimizer did not take")
            continue
        _compare_numbers(result, contexts, truth, taken)
        taken += 1
    if taken != len(truth.rates):
        result.problems.append(f"{taken} steps in the log, the optimizer took {len(truth.rates)}")


def _compare_numbers(result: Differences, contexts: list[dict], truth: StepTruth, taken: int) -> None:
    """Compare the learning rates and the gradient norm of one step."""
    last = contexts[-1]
    pairs = zip(last["applied"]["learning_rates"], truth.rates[taken], strict=True)
    rate_error = max(abs(logged - used) / max(abs(used), 1e-12) for logged, used in pairs)
    result.rate_error = max(result.rate_error, rate_error)
    if rate_error > RATE_TOLERANCE:
        result.problems.append(f"step {taken}: logged {last['applied']}, used {truth.rates[taken]}")
    limit = _read_limit(contexts)
    if truth.clipped_norms[taken] > limit * (1 + NORM_TOLERANCE):
        result.problems.append(
            f"step {taken}: logged limit {limit}, the optimizer used a norm of {truth.clipped_norms[taken]}"
        )
    norm = truth.norms[taken] if taken < len(truth.norms) else None
    logged_norm = last["measured"].get("grad_norm")
    if norm is None:
        return
    if logged_norm is None:
        result.problems.append(f"step {taken}: no gradient norm is recorded, it was {norm}")
        return
    # The gradient is a mean over the accepted micro-batches.
    accepted = sum(context["left"].get("updated", True) for context in contexts)
    error = abs(logged_norm - norm * len(contexts) / accepted) / max(norm, 1e-12)
    result.norm_error = max(result.norm_error, error)
    if error > NORM_TOLERANCE:
        result.problems.append(f"step {taken}: logged norm {logged_norm}, measured {norm}")


def _read_limit(contexts: list[dict]) -> float:
    """Return the limit of the gradient norm of the last accepted micro-batch."""
    last = [context for context in contexts if context["left"].get("updated", True)][-1]
    return float(last["left"].get("grad_clip", last["given"].get("grad_clip", math.inf)))


def _group_steps(contexts: list[dict]) -> list[list[tuple[int, dict]]]:
    """Return the micro-batches of each step, with their numbers."""
    steps: dict[int, list[tuple[int, dict]]] = {}
    for number, context in enumerate(contexts):
        steps.setdefault(context["iter_num"], []).append((number, context))
    return list(steps.values())


def _has_zero_rate(applied: dict) -> bool:
    """Return True for a step at the begin of a warm-up, which changes no weight."""
    return bool(applied["updated"]) and not any(applied.get("learning_rates", [1.0]))
