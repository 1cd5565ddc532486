"""Loss after three corrupted batches at size demo, under six policies: a Markdown table and a picture.

nice python -m benchmarks.planted_spike --runs runs --seeds 1 2 3 --picture docs/images/spike.svg

The corruption belongs to positions of the data: the targets of three batches are random, and their loss is
scaled to four times the last clean one. A policy that reads the same rows again sees them again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks._lib.line_chart import draw_panels
from benchmarks._lib.policy_arms import ArmResult, read_arm, train_arm, write_policy
from ockham.nano import Trainer, build_settings, load_corpus

BOUNDS: dict[str, Any] = {"window": 64, "min_history": 32}
ROLLBACK: dict[str, Any] = {**BOUNDS, "clip_from": None, "rollback_from": 3, "halt_from": None}
STATE_INTERVAL = 20
CORRUPTED_BATCHES = 3
LOSS_FACTOR = 4.0
EVALUATION_INTERVAL = 5


class Arm(NamedTuple):
    """Settings of the plugin, None for none, and what a rollback reads next."""

    spike: dict[str, Any] | None
    after_rollback: str = "skip_data"


ARMS = {
    "no-plugin": Arm(None),
    "skip": Arm({**BOUNDS, "clip_from": None, "skip_from": 1}),
    "clip": Arm({**BOUNDS, "clip_from": 1}),
    "rollback-skip": Arm(ROLLBACK),
    "rollback-repeat": Arm(ROLLBACK, "repeat"),
}


class CorruptedTrainer(Trainer):
    """Trainer some of whose batches have random targets and a loss that is too high."""

    first_corrupted = 0
    _clean_loss = 1.0

    def _forward(self, iter_num: int, micro_step: int) -> float:
        position = self.batches.order.position(iter_num)
        if not self.first_corrupted <= position < self.first_corrupted + CORRUPTED_BATCHES:
            self._clean_loss = super()._forward(iter_num, micro_step)
            return self._clean_loss
        original = self._compute
        generator = torch.Generator().manual_seed(position)

        def compute(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            noise = torch.randint(0, self.vocab_size, targets.shape, generator=generator)
            loss = original(inputs, noise.to(targets.device))
            return loss * (LOSS_FACTOR * self._clean_loss / float(loss.detach()))

        self._compute = compute
        try:
            return super()._forward(iter_num, micro_step)
        finally:
            self._compute = original


def make_trainer(arm: Arm, seed: int, iters: int, first_corrupted: int) -> CorruptedTrainer:
    """Return a trainer of size demo that saves a state every 20 steps."""
    changed = [f"seed={seed}", f"max_iters={iters}", "warmup_iters=20", "device=cpu", "threads=1"]
    changed += [f"state_every={STATE_INTERVAL}", "keep_states=3", f"after_rollback={arm.after_rollback}"]
    settings = build_settings("demo", changed)
    trainer = CorruptedTrainer(settings, load_corpus(None, settings.vocab_size))
    trainer.first_corrupted = first_corrupted
    return trainer


def print_row(seed: int, name: str, result: ArmResult, corrupted: int) -> None:
    """Print validation losses before the corruption, after it and at the end, and what the plugin did."""
    before = max(point for point in result.curve if point[0] < corrupted)[1]
    after = max(loss for i, loss in result.curve if corrupted + CORRUPTED_BATCHES <= i < corrupted + 15)
    decided = ", ".join(f"{count} {text}" for text, count in result.decisions.items()) or "none"
    replay = "identical" if result.identical else "different"
    losses = f"{before:.3f} | {after:.3f} | {result.curve[-1][1]:.3f}"
    print(
        f"| {seed} | {name} | {losses} | {result.rollbacks} | {result.dropped} | {decided} | {replay} |",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every arm with every seed. Print one row for each, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--iters", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, required=True, help="Folder of the runs and policies.")
    parser.add_argument("--picture", type=Path, help="SVG to write.")
    parser.add_argument("--read", action="store_true", help="Read runs that exist, and train none.")
    chosen = parser.parse_args(arguments)
    corrupted = chosen.iters * 5 // 8 + STATE_INTERVAL // 4
    print(
        "| seed | policy | before | highest after | final | rollbacks | dropped steps | decisions | replay |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for seed in chosen.seeds:
        for name, arm in ARMS.items():
            run_id = f"{name}-{seed}"
            if not chosen.read:
                evaluations = chosen.iters // EVALUATION_INTERVAL
                policy = write_policy(chosen.runs / "policies", name, arm.spike, evaluations)
                trainer = make_trainer(arm, seed, chosen.iters, corrupted)
                train_arm(trainer, policy, chosen.runs, run_id)
            result = read_arm(chosen.runs, run_id)
            print_row(seed, name, result, corrupted)
            shown = [point for point in result.curve if point[0] >= corrupted - 40]
            panels.setdefault(f"seed {seed}", {})[name] = [(float(i), loss) for i, loss in shown]
    if chosen.picture:
        chosen.picture.write_text(
            draw_panels(
                panels,
                title="Validation loss after three corrupted batches, by policy",
                x_label="iteration",
                y_max=4.0,
            ),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
