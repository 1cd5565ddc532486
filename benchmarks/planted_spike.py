"""Loss after three corrupted batches at size demo: no plugin, skip, clip and rollback, as a Markdown table.

nice python -m benchmarks.planted_spike --iters 160 --seeds 1 2 3

The targets of the corrupted batches are random, and their loss is scaled to four times the last clean one.
Weights are anchored every 20 steps until the corruption, so that a rollback has a recent state.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import ockham
from ockham.nano import Trainer, build_settings, load_corpus
from ockham.plugin import OccamPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.plugins.spike import SpikePlugin
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import replay_run

BOUNDS = {"window": 64, "min_history": 32}
ARMS: dict[str, dict[str, Any] | None] = {
    "no plugin": None,
    "skip": {"clip_from": None, "skip_from": 1},
    "clip (ZClip)": {"clip_from": 1},
    "rollback": {"clip_from": 1, "rollback_from": 3},
}
CORRUPTED_BATCHES = 3
LOSS_FACTOR = 4.0
ANCHOR_INTERVAL = 20


class ArmResult(NamedTuple):
    """Validation losses before the corruption, after it and at the end, and what the plugin did."""

    before: float
    after: float
    final: float
    spikes: int
    rollbacks: int
    identical: bool


class CorruptedTrainer(Trainer):
    """Trainer some of whose batches have random targets and a loss that is too high."""

    first_corrupted = 0
    _clean_loss = 1.0

    def _forward(self, iter_num: int, micro_step: int) -> float:
        if not self.first_corrupted <= iter_num < self.first_corrupted + CORRUPTED_BATCHES:
            self._clean_loss = super()._forward(iter_num, micro_step)
            return self._clean_loss
        original = self._compute
        generator = torch.Generator().manual_seed(iter_num)

        def compute(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            noise = torch.randint(0, self.vocab_size, targets.shape, generator=generator)
            loss = original(inputs, noise.to(targets.device))
            return loss * (LOSS_FACTOR * self._clean_loss / float(loss.detach()))

        self._compute = compute
        try:
            return super()._forward(iter_num, micro_step)
        finally:
            self._compute = original


def train(arm: dict[str, Any] | None, seed: int, iters: int, runs: Path) -> ArmResult:
    """Train one arm. The run is the folder `a` of *runs*."""
    settings = build_settings("demo", [f"seed={seed}", f"max_iters={iters}", "warmup_iters=20"])
    trainer = CorruptedTrainer(settings, load_corpus(None, settings.vocab_size))
    trainer.first_corrupted = corrupted = iters * 5 // 8
    plugins: list[OccamPlugin] = [FinitePlugin()]
    if arm is not None:
        plugins.append(SpikePlugin(**BOUNDS, **arm))
    losses = {}
    rollbacks = 0
    with ockham.Run(plugins=plugins, runs=runs, run_id="a", facts=trainer.facts()) as run:
        for iter_num in range(iters):
            if iter_num in (corrupted, corrupted + CORRUPTED_BATCHES):
                losses[iter_num] = trainer.evaluate().loss
            ctx = step(run, trainer, iter_num)
            rollbacks += ctx.rollback
            ockham.after_step(run, trainer, ctx)
            if iter_num % ANCHOR_INTERVAL == 0 and iter_num < corrupted:
                run.record_consolidation(ctx, drift=trainer.move_anchor(iter_num))
    folder = RunFolder(runs, "a")
    rows = ockham.Catalog(runs).rows("select count(*) as n from decisions where reason_code like '%SPIKE'")
    identical = replay_run(folder).identical
    final = trainer.evaluate().loss
    before, after = losses.values()
    return ArmResult(before, after, final, rows[0]["n"], rollbacks, identical)


def step(run: ockham.Run, trainer: Trainer, iter_num: int) -> ockham.OccamContext:
    """Take one step as train.py does."""
    ctx = run.start_batch(iter_num, trainer.forward(iter_num), **trainer.context_fields(iter_num))
    trainer.backward(ctx)
    if run.acts_on_gradients and (norm := trainer.measure_gradients(ctx)) is not None:
        run.gradients(ctx, grad_norm=norm)
    applied, gauges, seconds = trainer.finish_batch(ctx)
    return run.end_batch(ctx, applied=applied, seconds=seconds, **gauges)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per arm and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iters", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args(arguments)
    print("| seed | policy | before | after | final | spikes | rollbacks | replay |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for seed in chosen.seeds:
        for name, arm in ARMS.items():
            with tempfile.TemporaryDirectory() as runs:
                result = train(arm, seed, chosen.iters, Path(runs))
            replay = "identical" if result.identical else "different"
            numbers = f"{result.before:.3f} | {result.after:.3f} | {result.final:.3f}"
            print(
                f"| {seed} | {name} | {numbers} | {result.spikes} | {result.rollbacks} | {replay} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
