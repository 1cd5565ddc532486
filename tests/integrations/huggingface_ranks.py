"""Program of one rank: a training with the Hugging Face Trainer, and what it really did.

    python -m tests.integrations.huggingface_ranks FOLDER '{"case": "accumulation"}'

It writes `truth-RANK.json` as `tests.helpers.rank_loop` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ockham.errors import OckhamError
from ockham.integrations.huggingface import OckhamCallback
from ockham.run import Run
from tests.helpers.rank_loop import RankTruth
from tests.helpers.rank_truth import write_truth
from tests.helpers.step_truth import StepTruth
from tests.integrations import huggingface_cells as cells
from tests.integrations import huggingface_truth as truths

# Situations in which the model predicts every label, also the first.
UNSHIFTED = ("T5", "classification")


class Shift(transformers.TrainerCallback):
    """Changes a weight of the last rank once, before a step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, model=None, **_):
        if state.global_step == self.step and args.process_index == args.world_size - 1:
            with torch.no_grad():
                next(model.parameters()).add_(1e-4)


class Fail(transformers.TrainerCallback):
    """Raises an error before a step begins, on the last rank or on all."""

    def __init__(self, step: int, *, on_all: bool = False) -> None:
        self.step, self.on_all = step, on_all

    def on_step_begin(self, args, state, control, **_):
        is_chosen = self.on_all or args.process_index == args.world_size - 1
        if state.global_step == self.step and is_chosen:
            raise OckhamError("the training of this rank failed")


def count_predicted(batch: dict[str, torch.Tensor], situation: str) -> int:
    """Return the number of predicted tokens. Without labels every rank has the weight 1."""
    if "labels" not in batch:
        return 1
    labels = batch["labels"] if situation in UNSHIFTED else batch["labels"][:, 1:]
    return int((labels != truths.IGNORED).sum())


def digest_weights(model: torch.nn.Module) -> str:
    """Return a digest of all weights."""
    digest = hashlib.sha256()
    for weight in model.state_dict().values():
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def make_case(cell: list[str], options: dict[str, Any], policy: str) -> cells.Case:
    """Return a case of the matrix, with enough rows for all ranks."""
    case = cells.CASES[cell[0], cell[1]]
    arguments = {**case.options, "max_steps": 12, **options}
    batch = arguments.get("per_device_train_batch_size", cells.BATCH)
    steps = arguments["max_steps"] * arguments.get("gradient_accumulation_steps", 1)
    keywords = {"train_dataset": case.rows(steps * batch * int(os.environ["WORLD_SIZE"])), **case.keywords}
    if "eval_strategy" in arguments:
        keywords["eval_dataset"] = case.rows(16)
    return replace(case, options=arguments, keywords=keywords, policy=policy)


@dataclass
class TrainerTruth(RankTruth):
    """Measurements of one rank, and the validation losses that the Trainer logged."""

    evaluations: list[float] = field(default_factory=list)


def train(folder: Path, options: dict[str, Any], truth: TrainerTruth) -> None:
    """Train, and fill *truth*."""
    cell, policy = options.pop("cell", ["Trainer", "padded rows"]), options.pop("policy", "balanced")
    shift, is_open = options.pop("shift", None), options.pop("open", False)
    overrides, fail = options.pop("overrides", []), options.pop("fail", None)
    run_id, has_ockham = options.pop("run_id", "a"), options.pop("ockham", True)
    is_alone, stop, resume = (
        options.pop("alone", False),
        options.pop("stop", None),
        options.pop("resume", None),
    )
    case = make_case(cell, options, policy)
    measured = StepTruth()
    before = truths.Before(measured)
    # Under observe the Trainer has clipped the gradients before the test reads them.
    before.is_active = policy != "observe" or case.options.get("max_grad_norm") == 0
    callbacks: list[Any] = [before]
    block: Any = contextlib.nullcontext()
    if is_open:
        torch.distributed.init_process_group("gloo")
        block = Run.distributed(policy, runs=folder / "runs", run_id=run_id, weights_interval=4)
        callbacks.append(OckhamCallback(block))
    elif is_alone:
        block = Run(policy, runs=folder / f"runs-{os.environ['RANK']}", run_id=run_id)
        callbacks.append(OckhamCallback(block))
    elif has_ockham:
        callbacks.append(
            OckhamCallback(policy=policy, overrides=overrides, runs=folder / "runs", run_id=run_id)
        )
    if shift is not None:
        callbacks.append(Shift(shift))
    if fail is not None:
        callbacks.append(Fail(fail))
    if stop is not None:
        callbacks.append(Fail(stop, on_all=True))
    trainer = cells.make_trainer(folder, case, callbacks)
    after = truths.After(measured, case.loss(trainer))
    trainer.add_callback(after)
    after.install(trainer)
    case.change(trainer)
    try:
        with block:
            trainer.train(resume_from_checkpoint=resume)
    finally:
        truth.losses, truth.moved = measured.losses, measured.moved
        truth.rates = [list(rates) for rates in measured.rates]
        truth.norms = measured.clipped_norms
        truth.raw_norms = [norm for norm in measured.norms if norm is not None and math.isfinite(norm)]
        truth.tokens = [count_predicted(batch, cell[1]) for batch in after.batches[: len(truth.losses)]]
        truth.evaluations = [each["eval_loss"] for each in trainer.state.log_history if "eval_loss" in each]
        truth.weights = digest_weights(trainer.model)


if __name__ == "__main__":
    folder, truth = Path(sys.argv[1]), TrainerTruth()
    write_truth(lambda: train(folder, json.loads(sys.argv[2]), truth), truth, folder)
