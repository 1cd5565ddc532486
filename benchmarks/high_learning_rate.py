"""Learning rate three times too high on the embedded corpus, with and without SpikePlugin: a Markdown table.

nice python -m benchmarks.high_learning_rate --runs runs --seeds 1 2 3

All runs forward the same number of batches. The model has 2 layers of width 96.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._lib.policy_arms import ArmResult, read_arm, train_arm, write_policy
from ockham.nano import Trainer, build_settings, load_corpus

BOUNDS: dict[str, Any] = {"window": 64, "min_history": 32}
EVALUATION_INTERVAL = 10


class Arm(NamedTuple):
    """Factor of the learning rate, and settings of the plugin, None for none."""

    factor: float
    spike: dict[str, Any] | None


ARMS = {
    "rate-1": Arm(1.0, None),
    "rate-3": Arm(3.0, None),
    "rate-3-clip": Arm(3.0, {**BOUNDS, "clip_from": 1}),
    "rate-3-skip": Arm(3.0, {**BOUNDS, "clip_from": None, "skip_from": 1}),
    "rate-3-slow": Arm(3.0, {**BOUNDS, "clip_from": 1, "slow_from": 1, "slow_factor": 0.5, "slow_steps": 20}),
}


def make_trainer(factor: float, rate: float, seed: int, iters: int) -> Trainer:
    """Return a small trainer with a learning rate of *factor* times *rate*."""
    changed = [f"seed={seed}", f"max_iters={iters}", "device=cpu", "threads=1", "n_layer=2", "n_embd=96"]
    changed += [f"learning_rate={factor * rate}", f"min_lr={factor * rate / 10}"]
    settings = build_settings("demo", changed)
    return Trainer(settings, load_corpus(None, settings.vocab_size))


def print_rows(results: dict[str, list[ArmResult]]) -> None:
    """Print mean and standard deviation of the final loss, and what the plugin did."""
    print("| policy | final loss | standard deviation | each seed | highest | dropped steps | decisions |")
    print("|---|---|---|---|---|---|---|")
    for name, arms in results.items():
        finals = [arm.curve[-1][1] for arm in arms]
        deviation = statistics.stdev(finals) if len(finals) > 1 else math.nan
        each = ", ".join(f"{loss:.3f}" for loss in finals)
        late = max(loss for arm in arms for _, loss in arm.curve[len(arm.curve) // 4 :])
        dropped = ", ".join(str(arm.dropped) for arm in arms)
        decisions = ", ".join(str(sum(arm.decisions.values())) for arm in arms)
        numbers = f"{statistics.mean(finals):.3f} | {deviation:.3f} | {each} | {late:.3f}"
        print(f"| {name} | {numbers} | {dropped} | {decisions} |", flush=True)
    if not all(arm.identical for arms in results.values() for arm in arms):
        print("a replay differs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every arm with every seed, and print one row for each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--iters", type=int, default=400)
    parser.add_argument("--rate", type=float, default=1e-3, help="Learning rate of the first arm.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, required=True, help="Folder of the runs and policies.")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--read", action="store_true", help="Read runs that exist, and train none.")
    chosen = parser.parse_args(arguments)
    results: dict[str, list[ArmResult]] = {}
    for seed in chosen.seeds:
        for name in chosen.arms:
            arm, run_id = ARMS[name], f"{name}-{seed}"
            if not chosen.read:
                evaluations = chosen.iters // EVALUATION_INTERVAL
                policy = write_policy(chosen.runs / "policies", name, arm.spike, evaluations)
                trainer = make_trainer(arm.factor, chosen.rate, seed, chosen.iters)
                train_arm(trainer, policy, chosen.runs, run_id)
            results.setdefault(name, []).append(read_arm(chosen.runs, run_id))
    print_rows(results)


if __name__ == "__main__":
    main()
