"""Trainers, runs and training loops of the steps."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

import train as train_module
from benchmarks._lib.nanogpt import make_data
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import DONE, ResultFile
from ockham import Run
from ockham.context import OccamContext
from ockham.nano import Trainer, build_settings, load_corpus
from ockham.nano.device import gpu_memory_bytes

# Tokens of a dry run.
DRY_TOKENS = 40_000
NEVER = 10**9
# Every batch is an update, so that the arms do the same work.
ALWAYS_UPDATE = ("gate.mode=fixed", "gate.surprise_threshold=0.0")
GATE = ("gate.target=0.6",)
OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Bench:
    """The plan and the file of the results."""

    plan: Plan
    results: ResultFile

    @property
    def compile(self) -> str:
        """Setting `compile` of the steps: `no` if training works only without compilation."""
        done = {name for name in ("smoke-train", "smoke-eager") if self.results.status(name) == DONE}
        return "no" if self.plan.dry_run or done == {"smoke-eager"} else "auto"

    @property
    def shared_micro(self) -> int:
        """Micro-batch with which the processes of `speed` fit into the memory together."""
        return self.plan.choose_micro(self._memory_bytes())

    @property
    def micro(self) -> int:
        """Micro-batch of the other steps: the same, so that its kernels are compiled, unless it is small."""
        shared = self.shared_micro
        return (
            shared if shared >= self.plan.default_micro else self.plan.choose_micro(self._memory_bytes(), 1)
        )

    def settings(self, micro: int, examples: int, **more: object) -> list[str]:
        """Return the settings of Ockham's trainer."""
        values = {
            **self.plan.model_settings(micro, examples),
            "compile": self.compile,
            "device": self.plan.device,
            "checkpoint_every": NEVER,
            "warmup_iters": 1,
            **({"threads": 1, "vocab_multiple": 1} if self.plan.dry_run else {}),
            **more,
        }
        return [f"{name}={value}" for name, value in values.items()]

    def _memory_bytes(self) -> int | None:
        return gpu_memory_bytes("cuda:0" if self.plan.device == "cuda" else "cpu")


class StopTraining(Exception):  # noqa: N818 - not an error
    """Ends a training loop after a step, without a checkpoint."""


class StepHook:
    """Replaces the progress line: calls a function after each step."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step = on_step

    def show(self, iter_num: int, loss: float, *_: object) -> None:
        self.on_step(iter_num, loss)


def write_data(plan: Plan) -> None:
    """Write the sources of the standard library as token files, once.

    On a GPU the file with the vocabulary is left out, so that both trainers use that of GPT-2.
    """
    if (plan.data / "complete").exists():
        return
    plan.data.mkdir(parents=True, exist_ok=True)
    make_data(plan.data)
    if plan.dry_run:
        for name in ("train.bin", "val.bin"):
            path = plan.data / name
            path.write_bytes(path.read_bytes()[: 2 * DRY_TOKENS])
    else:
        (plan.data / "meta.pkl").unlink()
    (plan.data / "complete").touch()


def make_trainer(bench: Bench, settings: list[str], recipe: str = "") -> Trainer:
    """Create the trainer of one process."""
    built = build_settings(bench.plan.size, settings, recipe=recipe)
    return Trainer(built, load_corpus(bench.plan.data))


@contextlib.contextmanager
def open_run(bench: Bench, trainer: Trainer, run_id: str, overrides: tuple[str, ...]) -> Iterator[Run]:
    """Context manager with a run under preset balanced: anchor, pull, KL, log and signatures.

    It has no evaluations, so that no other work falls into a measured block.
    """
    # An earlier call of the command may have been killed in this step.
    shutil.rmtree(bench.plan.runs / run_id, ignore_errors=True)
    overrides = ("hyperparameters.evaluations=1", "anchor.per_run=1", *overrides)
    options: dict[str, Any] = {"overrides": list(overrides), "runs": bench.plan.runs, "run_id": run_id}
    with Run("balanced", **options, facts=trainer.facts()) as run:
        trainer.configure(
            pull=run.policy.hyperparameters["pull"], required_measurements=run.chain.required_measurements()
        )
        trainer.move_anchor(-1)
        yield run


def train_with_run(run: Run, trainer: Trainer, first: int, on_step: OnStep) -> None:
    """Train with the loop of train.py until *on_step* raises `StopTraining`."""
    with contextlib.suppress(StopTraining):
        train_module.train(run, trainer, first, StepHook(on_step), lambda: False)


def train_without_run(trainer: Trainer, first: int, on_step: OnStep) -> None:
    """Train on every batch without a chain, an anchor and a log, until *on_step* raises `StopTraining`."""
    with contextlib.suppress(StopTraining):
        for iter_num in range(first, NEVER):
            for micro_step in range(trainer.settings.gradient_accumulation_steps):
                loss = trainer.forward(iter_num, micro_step)
                fields = trainer.context_fields(iter_num, micro_step)
                trainer.backward(OccamContext(iter_num, loss, micro_step=micro_step, **fields))
            pending = trainer.step_async()
            if not trainer.deferred_metrics:
                pending.result()
            on_step(iter_num, loss)


def stop_after(last: int, on_step: OnStep) -> OnStep:
    """Return a function that calls *on_step*, and raises `StopTraining` after step *last*."""

    def stop(iter_num: int, loss: float) -> None:
        on_step(iter_num, loss)
        if iter_num >= last:
            raise StopTraining

    return stop


def wait_for_device() -> None:
    """Wait until the GPU has finished all work."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory_mb(*, reset: bool = False) -> float:
    """Return the peak memory of this process in MB: of the GPU if one is used, else resident."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated() / 1e6
