"""Benefit of the gate when a served model is adapted to another domain, compared with other arms.

    .venv/bin/python -m benchmarks.adapt_gate --part base     train the base model on Python's standard
    library
    .venv/bin/python -m benchmarks.adapt_gate --part tune     always updating, and the gate at several rates
    .venv/bin/python -m benchmarks.adapt_gate --part final    the arms on new seeds
    .venv/bin/python -m benchmarks.adapt_gate --part table    results from the logs; reads only

The new text is available on every machine that can run this benchmark: `cpp`, the C++ headers of the
installed torch, or `names`, the Unicode character names of Python's unicodedata, which differ more from
Python code.

Each arm is one `ockham adapt` process and one run. Complete runs are read and not repeated; interrupted runs
are repeated. `random` skips randomly at the update rate of the gate with the same z.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ockham.cli import build_app
from ockham.nano.trainer import Trainer  # noqa: F401 - load it before processes are forked
from ockham.record.run_folder import RunFolder
from ockham.savings import TIMED_STAGES
from ockham.study.run_data import RunData, load_run_data
from ockham.study.training_process import is_finished, resume, train

# Updates on every batch, and accepts clear improvements.
BASE: dict[str, Any] = {
    "policy": 1,
    "name": "base",
    "hyperparameters": {"lambda_ockham": 0.0, "pull": "none", "evaluations": 20},
    "plugins": {
        "finite": {},
        "memory": {"quality_fraction": 0.6, "complexity_threshold": None, "min_oq_improvement": 0.002},
        "anchor": {"per_run": 0},
    },
}
ALWAYS, FROZEN = "gate.z=-1000", "gate.z=1000"


class Arm(NamedTuple):
    """One arm: name, learning rate and policy settings."""

    name: str
    rate: str
    settings: tuple[str, ...]

    def run_id(self, text: str, seed: int) -> str:
        return f"{text}.{self.name}.{self.rate}.s{seed}"


def arms(rates: list[str], zs: list[str]) -> list[Arm]:
    """Return all arms.

    These are frozen, and at each rate always updating, the gate at each z, and random skipping at its rate.
    """
    results = [Arm("frozen", rates[0], (FROZEN,))]
    for rate in rates:
        results.append(Arm("always", rate, (ALWAYS,)))
        for z in zs:
            results += [
                Arm(f"gate-z{z}", rate, (f"gate.z={z}",)),
                Arm(f"random-z{z}", rate, ("gate.mode=random",)),
            ]
    return results


def run_arm(options: argparse.Namespace, arm: Arm, seed: int) -> RunData:
    """Return the run of an arm. Runs `ockham adapt` if the run is not complete."""
    folder = RunFolder(options.runs, arm.run_id(options.text, seed))
    if not is_finished(folder):
        shutil.rmtree(folder.path, ignore_errors=True)
        settings = list(arm.settings)
        if arm.name.startswith("random"):
            rival = arm._replace(name=arm.name.replace("random", "gate"))
            settings.append(
                f"gate.target={load_run_data(options.runs, rival.run_id(options.text, seed)).update_rate}"
            )
        words = [
            f"learning_rate={arm.rate}",
            f"max_iters={options.batches}",
            f"seed={seed}",
            "threads=1",
            "hyperparameters.evaluations=1",
            *settings,
            *options.set,
        ]
        began = time.monotonic()
        adapt(options, folder.run_id, [word for setting in words for word in ("--set", setting)])
        print(
            f"{folder.run_id}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
        )
    return load_run_data(options.runs, folder.run_id)


def adapt(options: argparse.Namespace, run_id: str, words: list[str]) -> None:
    """Run `ockham adapt` in a forked process, so that torch is loaded only once for all arms."""
    inputs = ["--from", "base", "--data", str(options.data), "--share", str(options.share), "--run", run_id]
    arguments = ["adapt", *inputs, *words, "--runs", str(options.runs)]
    process = multiprocessing.get_context("fork").Process(target=run_quietly, args=(arguments,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{run_id}: `ockham adapt` failed with exit status {process.exitcode}")


def run_quietly(arguments: list[str]) -> None:
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
        build_app()(arguments, standalone_mode=False)


def figures(run: RunData) -> dict[str, float]:
    """Return the results of one run: losses in nats/token, rates and shares in 0..1."""
    batch = run.batches[-1].data["measured"]["custom"]
    held = run.evaluations[-1].data["given"]["custom"]
    counter = run.savings_counter
    forward, backward, optimizer, chain = (counter.stages[name].total for name in TIMED_STAGES)
    saved = counter.estimate().compute_saved
    return {
        "rate": run.update_rate or 0.0,
        "served": batch["served_loss"],
        "preq new": batch["served_new_loss"],
        "preq old": batch["served_familiar_loss"],
        "held-out new": held["new_loss"],
        "held-out old": held["familiar_loss"],
        "forward s": forward,
        "update s": backward + optimizer,
        "chain s": chain,
        "updates": float(run.updated_batches),
        "saved": float("nan") if saved is None else saved,
    }


def table(options: argparse.Namespace, results: dict[Arm, list[RunData]]) -> None:
    """Print one row per arm: means over the seeds, and paired differences to the best always-updating arm."""
    rows = {arm: [figures(run) for run in runs] for arm, runs in results.items()}
    every = [row for group in rows.values() for row in group]
    updates = [row["update s"] / row["updates"] for row in every if row["updates"]]
    forward = statistics.median(row["forward s"] / options.batches for row in every)
    b = statistics.median(updates) / forward if updates else float("nan")
    always = {arm: group for arm, group in rows.items() if arm.name == "always"} or rows
    rival = min(always, key=lambda arm: statistics.fmean(row["served"] for row in always[arm]))
    print(f"rival: {rival.name} at {rival.rate}; b = {b:.2f}; seeds {options.seeds}\n")
    shown = ("rate", "served", "preq new", "preq old", "held-out new", "held-out old")
    print(f"| arm | learning rate | {' | '.join(shown)} | served - rival (each seed) | compute saved |")
    print("|" + "---|" * (len(shown) + 4))
    for arm, group in rows.items():
        means = [f"{statistics.fmean(row[name] for row in group):.3f}" for name in shown]
        differences = [
            row["served"] - rival_row["served"] for row, rival_row in zip(group, rows[rival], strict=True)
        ]
        by_seed = ", ".join(f"{difference:+.3f}" for difference in differences)
        difference_text = f"{statistics.fmean(differences):+.4f} ({by_seed})"
        saved = statistics.fmean(row["saved"] for row in group)
        print(f"| {arm.name} | {arm.rate} | {' | '.join(means)} | {difference_text} | {saved:.1%} |")


def headers() -> Path:
    """Return the folder of the C++ headers: 1.7 MB, 2.7 nats per byte for the base model."""
    return Path(torch.__file__).parent / "include" / "c10"


def names(folder: Path) -> Path:
    """Write code point and name of each named character: 1 MB, 3.3 nats per byte for the base model."""
    path = folder / "names.txt"
    # The names of these characters contain only a number.
    numbered = ("CJK UNIFIED", "CJK COMPAT", "HANGUL SYLLABLE", "TANGUT IDEO", "NUSHU CHAR", "KHITAN")
    named = ((code, unicodedata.name(chr(code), "")) for code in range(sys.maxunicode + 1))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(f"{code:04X} {name}\n" for code, name in named if name and not name.startswith(numbered))
        )
    return path


def parse_options() -> argparse.Namespace:
    """Return the options, with the folder of the new text as `data`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("base", "tune", "final", "table"), required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs-adapt"))
    parser.add_argument("--text", choices=("cpp", "names"), default="cpp", help="New text.")
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--base-iters", type=int, default=2000)
    parser.add_argument("--rates", default="", help="Learning rates, separated by commas.")
    parser.add_argument("--zs", default="1,2")
    parser.add_argument(
        "--seeds", default="", help="Seeds, separated by commas. Use different seeds for tune and final."
    )
    parser.add_argument("--arms", default="", help="Prefixes of arm names, separated by commas.")
    parser.add_argument("--set", action="append", default=[], help="Setting of all runs of this part.")
    options = parser.parse_args()
    options.data = headers() if options.text == "cpp" else names(options.runs.parent / "texts")
    return options


def train_base(options: argparse.Namespace) -> None:
    """Train or continue the base model, and print its validation losses."""
    settings = [f"max_iters={options.base_iters}", "threads=1", "seed=1", *options.set]
    folder = RunFolder(options.runs, "base")
    if not folder.exists():
        train(folder, BASE, settings)
    elif not is_finished(folder):
        resume(folder)
    print(json.dumps(load_run_data(options.runs, "base").losses))


def main() -> None:
    options = parse_options()
    if options.part == "base":
        train_base(options)
        return
    tuning = options.part == "tune"
    options.seeds = [int(s) for s in (options.seeds or ("11" if tuning else "101,102,103")).split(",")]
    rates = (options.rates or ("1.5e-4,3e-4,6e-4" if tuning else "3e-4")).split(",")
    chosen = [
        arm
        for arm in arms(rates, options.zs.split(","))
        if not options.arms or arm.name.startswith(tuple(options.arms.split(",")))
    ]
    if options.part == "table":
        results = {
            arm: [load_run_data(options.runs, arm.run_id(options.text, s)) for s in options.seeds]
            for arm in chosen
        }
    else:
        results = {arm: [] for arm in chosen}
        # Seeds are the outer loop, so that an interrupted study has complete seeds.
        for seed in options.seeds:
            for arm in chosen:
                results[arm].append(run_arm(options, arm, seed))
    table(options, results)


if __name__ == "__main__":
    main()
