"""Cost of the audit: one process that switches between off and everything on after each block."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.gpu.training import (
    ALWAYS_UPDATE,
    Bench,
    OnStep,
    make_trainer,
    open_run,
    stop_after,
    train_with_run,
    train_without_run,
    wait_for_device,
)
from ockham import Run
from ockham.nano import Trainer
from ockham.nano.trainer import PrecomputedLoss

RUN = "overhead"


class ModeSwitcher:
    """Trains blocks without a run and with one, on the same weights and in the same memory.

    Args:
        run: The run of the blocks with everything on.
        trainer: Its trainer.
        block: Steps per block.

    """

    def __init__(self, run: Run, trainer: Trainer, block: int) -> None:
        self.run = run
        self.trainer = trainer
        self.block = block
        self.rounds = 0
        self.off: list[float] = []
        self.all: list[float] = []

    def run_round(self) -> None:
        """Run one block of each mode."""
        first, self.rounds = self.rounds * self.block, self.rounds + 1
        anchor = self.trainer.anchor
        self.trainer.anchor = None
        self.off.append(self._time(lambda hook: train_without_run(self.trainer, first, hook), first))
        self.trainer.anchor = anchor
        if self.trainer.deferred_metrics:
            # The block before computed a loss in advance, which the other mode has discarded.
            loss = self.trainer.forward(first)
            self.trainer._precomputed = PrecomputedLoss(first, 0, loss)
        self.all.append(self._time(lambda hook: train_with_run(self.run, self.trainer, first, hook), first))

    def _time(self, train: Callable[[OnStep], None], first: int) -> float:
        wait_for_device()
        started = time.perf_counter()
        train(stop_after(first + self.block - 1, lambda *_: None))
        wait_for_device()
        return (time.perf_counter() - started) / self.block


def measure(bench: Bench) -> None:
    """Measure the paired ratio of both modes. The first round compiles and is not used."""
    trainer = make_trainer(bench, bench.settings(bench.micro, bench.plan.examples))
    with open_run(bench, trainer, RUN, ALWAYS_UPDATE) as run:
        switcher = ModeSwitcher(run, trainer, bench.plan.block)
        for _ in range(bench.plan.rounds + 1):
            switcher.run_round()
            if len(switcher.all) > 2:
                _report(bench, switcher)


def _report(bench: Bench, switcher: ModeSwitcher) -> None:
    off, everything = switcher.off[1:], switcher.all[1:]
    ratios = [a / b for a, b in zip(everything, off, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    bench.results.append(
        "overhead",
        "everything on / off",
        **{
            "ratio": middle,
            "lower quartile": low,
            "upper quartile": high,
            "off, ms per step": statistics.median(off) * 1e3,
            "on, ms per step": statistics.median(everything) * 1e3,
            "rounds": len(off),
        },
    )
