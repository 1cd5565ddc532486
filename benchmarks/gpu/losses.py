"""Training loss at equal steps compared with nanoGPT, and the time of `--recipe fast` to the same loss."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time

from benchmarks._lib.interleaved import python_path
from benchmarks.gpu.speed import reference_script, reference_words
from benchmarks.gpu.training import (
    ALWAYS_UPDATE,
    Bench,
    StopTraining,
    make_trainer,
    open_run,
    stop_after,
    train_with_run,
)

LINE = re.compile(r"^iter (\d+): loss ([\d.]+|nan)", re.MULTILINE)
# Micro-batches in a step.
MICRO_STEPS = 2


def compare(bench: Bench) -> None:
    """Train both on the same data, settings and seed, and compare the mean loss of the last steps."""
    ours, seconds = _train_ockham(bench, "loss", "")
    _append_losses(bench, "ockham", ours, seconds=seconds[-1])
    reference = _train_reference(bench)
    _append_losses(bench, "nanoGPT", reference)
    for at in bench.plan.loss_steps:
        first, second = (_window(bench, losses, at) for losses in (ours, reference))
        error = (statistics.variance(first) / len(first) + statistics.variance(second) / len(second)) ** 0.5
        difference = statistics.mean(first) - statistics.mean(second)
        bench.results.append(
            "loss", f"difference at {at}", **{"difference": difference, "standard error": error}
        )


def compare_recipe(bench: Bench) -> None:
    """Train with `--recipe fast` until its loss is that of the step `loss`, at most for as many steps."""
    last = bench.plan.loss_steps[-1]
    result = bench.results.find("loss", "ockham")
    if result is None:
        raise RuntimeError("recipe: the step `loss` has no result; run it first")
    target = result[f"loss at {last}"]
    losses, seconds = _train_ockham(bench, "recipe", "fast", target)
    reached = _is_reached(bench, losses, target)
    row = {"target loss": target, "reached": reached, "steps": len(losses), "seconds": seconds[-1]}
    bench.results.append(
        "recipe", "fast", **row, **{"steps of nanogpt": last, "seconds of nanogpt": result["seconds"]}
    )


def _train_ockham(
    bench: Bench, run_id: str, recipe: str, target: float | None = None
) -> tuple[list[float], list[float]]:
    """Return the loss of each step, and the seconds since the first step, which compiles."""
    micro, last = bench.micro, bench.plan.loss_steps[-1]
    schedule = {"max_iters": last, "lr_decay_iters": last, "warmup_iters": max(1, last // 10)}
    # The last step must not save a checkpoint of this size.
    schedule["max_iters"] += 1
    trainer = make_trainer(bench, bench.settings(micro, micro * MICRO_STEPS, **schedule), recipe)
    losses: list[float] = []
    clocks: list[float] = []

    def note(_: int, loss: float) -> None:
        losses.append(loss)
        clocks.append(time.perf_counter())
        if target is not None and _is_reached(bench, losses, target):
            raise StopTraining

    with open_run(bench, trainer, run_id, ALWAYS_UPDATE) as run:
        trainer.configure(pull="none", required_measurements={})
        trainer.anchor = None
        train_with_run(run, trainer, 0, stop_after(last - 1, note))
    return losses, [clock - clocks[0] for clock in clocks]


def _is_reached(bench: Bench, losses: list[float], target: float) -> bool:
    window = losses[-bench.plan.loss_window :]
    return len(window) == bench.plan.loss_window and statistics.mean(window) <= target


def _train_reference(bench: Bench) -> list[float]:
    """Return the losses that nanoGPT prints."""
    micro, last = bench.micro, bench.plan.loss_steps[-1]
    words = reference_words(bench, micro, micro * MICRO_STEPS, last, log_interval=1)
    done = subprocess.run(
        [sys.executable, "-c", reference_script(bench, words)],
        cwd=bench.plan.reference,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    losses = [float(loss) for _, loss in LINE.findall(done.stdout)]
    if done.returncode or len(losses) < last:
        raise RuntimeError(f"nanoGPT failed:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    return losses


def _window(bench: Bench, losses: list[float], at: int) -> list[float]:
    return losses[at - bench.plan.loss_window : at]


def _append_losses(bench: Bench, row: str, losses: list[float], **more: float) -> None:
    means = {f"loss at {at}": statistics.mean(_window(bench, losses, at)) for at in bench.plan.loss_steps}
    bench.results.append("loss", row, **means, **more)
