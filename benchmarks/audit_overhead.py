"""Cost of chain, log and Parquet files for a training: one run that switches modes after each block of steps.

    .venv/bin/python -m benchmarks.audit_overhead                 CPU, size nano, one thread, about 4 minutes
    .venv/bin/python -m benchmarks.audit_overhead --rounds 4      a short test

All blocks use the same weights, memory and training loop, so differences between processes have no effect.

* `off`: forward, backward and optimizer step.
* `audit`: also chain, log and signatures; every batch is an update.
* `all`: also the measurements and changes of preset balanced: drift, pull, ceiling, and KL of the watchdog.

The CPU time includes all threads. Parquet files are written by another process per 20,000 events; its time is
measured afterwards and added. The parts are the stage times of the trainer, and the CPU time of the log
writer: all threads except the loop, minus the value of `off`.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.trainer_throughput import OPEN
from ockham import Run
from ockham.context import OccamContext
from ockham.nano import Trainer, build_settings, load_corpus
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.tiny_trainer import load_train_module

BLOCK = 10
SEGMENT_EVENTS = 20_000


class ModeSwitcher:
    """Replaces the progress line: measures blocks, switches modes, and runs the steps without a chain."""

    def __init__(self, trainer: Trainer, rounds: int) -> None:
        self.trainer = trainer
        self.rounds = rounds
        self.spent: dict[str, list[float]] = {"off": [], "audit": [], "all": []}
        self.other_threads: dict[str, list[float]] = {"off": [], "audit": [], "all": []}
        self.over = False
        self._steps = 0
        self._anchor: Any = None
        self._measurements: dict[str, int] = {}
        self._mode = "all"
        self._began = _clocks()
        self.stage_seconds: collections.Counter[str] = collections.Counter()
        self._finish_batch = trainer.finish_batch
        vars(trainer)["finish_batch"] = self._finish_and_add

    def _finish_and_add(self, *arguments: Any, **options: Any) -> Any:
        result = self._finish_batch(*arguments, **options)
        self.stage_seconds.update(result.seconds)
        return result

    def show(self, iter_num: int, *_: object) -> None:
        """Count a step with the chain, and switch the mode after each block.

        The first block of each mode is ignored.
        """
        self._steps += 1
        if self._steps < BLOCK:
            return
        self._record(self._mode)
        if self._mode == "all":
            self._anchor = self.trainer.anchor
            self._measurements = self.trainer.required_measurements
            self.trainer.anchor = None
            self.trainer.required_measurements = {}
            self._mode = "audit"
        else:
            self._run_without_chain(iter_num)
            self._record("off")
            self.trainer.anchor = self._anchor
            self.trainer.required_measurements = self._measurements
            self._mode = "all"
            self.over = len(self.spent["off"]) > self.rounds
            print(
                f"round {len(self.spent['off']) - 1} of {self.rounds}, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        self._steps = 0
        self._began = _clocks()

    def _record(self, mode: str) -> None:
        all_threads, other_threads = (
            (now - then) / BLOCK for now, then in zip(_clocks(), self._began, strict=True)
        )
        self.spent[mode].append(all_threads)
        self.other_threads[mode].append(other_threads)
        self._began = _clocks()

    def _run_without_chain(self, iter_num: int) -> None:
        for i in range(iter_num + 1, iter_num + 1 + BLOCK):
            loss = self.trainer.forward(i)
            self.trainer.backward(OccamContext(i, loss, **self.trainer.context_fields(i)))
            self.trainer.step()

    def over_off(self, mode: str) -> tuple[float, float, float]:
        """Return median and quartiles of the ratio to the block without a chain, by round."""
        ratios = [a / b for a, b in zip(self.spent[mode][1:], self.spent["off"][1:], strict=False)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return middle, low, high


def _clocks() -> tuple[float, float]:
    """CPU seconds of all threads, and of all but this one."""
    whole = time.process_time()
    return whole, whole - time.thread_time()


def parquet_seconds(folder: RunFolder) -> tuple[float, int]:
    """Return the CPU seconds to write Parquet files of 20,000 events, and the number of events."""
    events = sum(segment.read_bytes().count(b"\n") for segment in folder.segments(1, 0))
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind)
    began = time.process_time()
    update_parquet(folder, 1, 0, last=True)
    each = (time.process_time() - began) / events
    before = os.times()
    subprocess.run(
        [sys.executable, "-P", "-m", "ockham.record.parquet.builder", str(folder.runs), folder.run_id],
        check=True,
    )
    after = os.times()
    start = after.children_user + after.children_system - before.children_user - before.children_system
    return start + each * SEGMENT_EVENTS, events


def format_results(switcher: ModeSwitcher, parquet: float, events_per_step: float) -> Iterator[str]:
    """Yield the lines of the result."""
    off = statistics.median(switcher.spent["off"][1:])
    snapshots = parquet / SEGMENT_EVENTS * events_per_step
    yield (
        f"off: {off * 1e3:.2f} CPU ms per step; {events_per_step:.1f} events per step; "
        f"Parquet {snapshots * 1e3:.3f} ms per step"
    )
    for mode in ("audit", "all"):
        middle, low, high = switcher.over_off(mode)
        added = snapshots / off
        yield (
            f"{mode}: {middle - 1:.2%} more (quartiles {low - 1:.2%} to {high - 1:.2%}), "
            f"with Parquet {middle - 1 + added:.2%}; {(middle - 1) * off * 1e3:.2f} ms"
        )


def parts(switcher: ModeSwitcher, recorded: int) -> str:
    """Return the milliseconds per step of each part, over the steps that include the part."""
    totals, watched = switcher.stage_seconds, BLOCK * len(switcher.spent["all"])
    writer = statistics.median(switcher.other_threads["audit"][1:]) - statistics.median(
        switcher.other_threads["off"][1:]
    )
    return (
        f"parts, ms per step: writer {writer * 1e3:.2f}, chain {totals['chain'] / recorded * 1e3:.2f}, "
        f"pull and drift {totals['anchor'] / watched * 1e3:.2f}, "
        f"KL {totals['probe'] / watched * 1e3:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=80, help="Rounds of three blocks of 10 steps, at least 2."
    )
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: too few; at least 2 are needed for quartiles")
    settings = build_settings(
        "nano", ["threads=1", "device=cpu", "max_iters=100000", "checkpoint_every=1000000000"]
    )
    trainer = Trainer(settings, load_corpus(None))
    overrides = ["hyperparameters.evaluations=1", "anchor.per_run=1", *OPEN]
    with tempfile.TemporaryDirectory() as runs:
        os.environ["OCKHAM_KEY_DIR"] = f"{runs}/keys"
        with Run("balanced", overrides=overrides, runs=runs, run_id="o", facts=trainer.facts()) as run:
            trainer.required_measurements, trainer.pull_mode = (
                run.chain.required_measurements(),
                run.policy.hyperparameters["pull"],
            )
            trainer.move_anchor(0)
            switcher: Any = ModeSwitcher(trainer, options.rounds)
            load_train_module().train(run, trainer, 0, switcher, lambda: switcher.over)
            batches = run.counts.batches
        parquet, events = parquet_seconds(RunFolder(Path(runs), "o"))
    for line in format_results(switcher, parquet, events / batches):
        print(line)
    print(parts(switcher, batches))


if __name__ == "__main__":
    main()
