"""Effect of each switch of `--recipe fast` on the validation loss, at equal iterations and at equal time.

    .venv/bin/python -m benchmarks.recipe_ablation                 a small model, about five minutes of one
    core
    .venv/bin/python -m benchmarks.recipe_ablation --set n_layer=4 --set n_embd=128 --set n_head=4 --iters 600

Uses the embedded corpus, one thread and no chain. `nanogpt` and `fast` run with every seed; the runs without
one switch use only the first seed. At equal CPU seconds, `nanogpt` runs all its iterations and `fast` as many
as fit into the same time, with an adapted schedule. Within a row only the switch differs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from ockham.context import OccamContext
from ockham.nano import Corpus, Trainer, build_settings, load_corpus
from ockham.nano.recipe import RECIPES

SAME_TIME = "fast in nanogpt's CPU seconds"
SMALL = ("n_layer=2", "n_head=2", "n_embd=64")
PLAIN = {
    "optimizer": "adamw",
    "norm": "layer",
    "positions": "learned",
    "qk_norm": "false",
    "activation": "gelu",
    "zero_init": "false",
    "logit_softcap": "0",
}


def train(corpus: Corpus, recipe: str, overrides: list[str], iters: int, seed: int) -> tuple[float, float]:
    """Return the validation loss in nats/token, and the CPU seconds of the steps."""
    fixed = [
        "threads=1",
        "device=cpu",
        "eval_batches=60",
        f"max_iters={iters}",
        f"seed={seed}",
        "warmup_iters=40",
    ]
    trainer = Trainer(build_settings("nano", [*fixed, *overrides], recipe=recipe), corpus)
    began = time.process_time()
    for i in range(iters):
        loss = trainer.forward(i)
        trainer.backward(OccamContext(i, loss, **trainer.context_fields(i)))
        trainer.step()
    spent = time.process_time() - began
    return trainer.evaluate().loss, spent


def arms(sizes: list[str], seeds: list[int], best: float) -> list[tuple[str, str, list[str], int]]:
    """Return name, recipe, settings and seed of each run."""
    rates = [f"learning_rate={best}", f"min_lr={best / 10}"]
    runs = []
    for seed in seeds:
        runs += [
            ("nanogpt", "nanogpt", sizes, seed),
            (f"nanogpt at its best rate ({best:g})", "nanogpt", [*sizes, *rates], seed),
            ("fast", "fast", sizes, seed),
        ]
    for name in RECIPES["fast"]:
        runs.append((f"fast without {name}", "fast", [*sizes, f"{name}={PLAIN[name]}"], seeds[0]))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", default=[], help="Setting of all arms, such as the size.")
    parser.add_argument("--iters", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--best", type=float, default=2e-3, help="Best learning rate of nanogpt, from 1e-3, 2e-3 and 4e-3."
    )
    parser.add_argument("--json", type=Path, help="Save results in this file, and skip the ones in it.")
    options = parser.parse_args()
    corpus, seeds = load_corpus(None), list(range(1337, 1337 + options.seeds))
    sizes, iters = options.set or list(SMALL), options.iters
    rows: dict[str, dict[str, list[float]]] = {}
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text(encoding="utf-8"))

    def fill(name: str, recipe: str, overrides: list[str], steps: int, seed: int) -> None:
        if str(seed) in rows.setdefault(name, {}):
            return
        rows[name][str(seed)] = list(train(corpus, recipe, overrides, steps, seed))
        print(name, seed, rows[name][str(seed)], flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")

    for name, recipe, overrides, seed in arms(sizes, seeds, options.best):
        fill(name, recipe, overrides, iters, seed)
    cost = {name: statistics.mean(spent for _, spent in results.values()) for name, results in rows.items()}
    fewer = max(1, round(iters * cost["nanogpt"] / cost["fast"]))
    for seed in seeds:
        fill(SAME_TIME, "fast", sizes, fewer, seed)
    print_table(rows, iters, fewer)


def print_table(rows: dict[str, dict[str, list[float]]], iters: int, fewer: int) -> None:
    """Print the results as a Markdown table."""
    print("\n| arm | iterations | validation loss | CPU ms per step | seeds |\n|---|---|---|---|---|")
    for arm, results in rows.items():
        losses = [loss for loss, _ in results.values()]
        spread = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
        steps = fewer if arm == SAME_TIME else iters
        each = statistics.mean(spent for _, spent in results.values()) / steps * 1e3
        print(f"| {arm} | {steps} | {statistics.mean(losses):.4f}{spread} | {each:.1f} | {len(losses)} |")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
