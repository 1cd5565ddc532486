"""Measuring a run from the inside: how long each stage took, and what the skips saved.

A skip saves backward and optimizer, never the forward, so with b = backward/forward cost the bound is
(1 - update rate) * b / (1 + b). Two runs' wall times on a shared machine are noise; one run's stages are not.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

WINDOW_BATCHES = 2_000  # stage times kept for the medians
LOSSES = 20  # of which the progress line shows the mean: more would lag behind a loss that falls
PLAIN_SECONDS = 10.0


class ComputeSavings(NamedTuple):
    """What skipping saved; ratios, None before the first update.

    `backward_over_forward` is b of the medians; `bound` is (1 - u) b / (1 + b); `measured` sets the seconds that
    the stages and the chain really took against those that updating every batch would have taken.
    """

    backward_over_forward: float | None
    bound: float | None
    measured: float | None


class StageTimer:
    """Seconds of each stage of a batch, and their totals.

    Args:
        mark: a point in time of whatever computes; on a GPU an event in its stream (`ockham.nano.device.clock`).
        between: seconds from one mark to another.

    """

    def __init__(
        self, mark: Callable[[], Any] = time.perf_counter, between: Callable[[Any, Any], float] = lambda a, b: b - a
    ) -> None:  # fmt: skip
        self.batch: list[tuple[str, Any, Any]] = []
        self.totals: dict[str, float] = {}
        self.batches = self.updates = 0
        self._mark, self._between = mark, between
        self._forward: deque[float] = deque(maxlen=WINDOW_BATCHES)
        self._backward: deque[float] = deque(maxlen=WINDOW_BATCHES)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside, as a part of this batch."""
        began = self._mark()
        try:
            yield
        finally:
            self.batch.append((name, began, self._mark()))

    def finish_batch(self, *, updated: bool) -> Callable[[], dict[str, float]]:
        """The stages of the batch that ends here, in seconds once they are asked for; the next one starts empty."""
        stages, self.batch = self.batch, []
        return lambda: self._read(stages, updated=updated)

    def _read(self, stages: list[tuple[str, Any, Any]], *, updated: bool) -> dict[str, float]:
        done: dict[str, float] = {}
        for name, began, ended in stages:
            seconds = self._between(began, ended)
            done[name] = done.get(name, 0.0) + seconds
            self.totals[name] = self.totals.get(name, 0.0) + seconds
        self.batches += 1
        self.updates += updated
        self._forward.append(done.get("forward", 0.0))
        if updated:
            self._backward.append(done.get("backward", 0.0) + done.get("optimizer", 0.0))
        return done

    def savings(self) -> ComputeSavings:
        """What the skips so far saved."""
        if not self._backward or not self.totals.get("forward"):
            return ComputeSavings(None, None, None)
        ratio = statistics.median(self._backward) / statistics.median(self._forward)
        rate = self.updates / self.batches
        spent = self.totals.get("backward", 0.0) + self.totals.get("optimizer", 0.0)
        forward, chain = self.totals["forward"], self.totals.get("chain", 0.0)
        always = forward + spent / self.updates * self.batches
        return ComputeSavings(ratio, (1 - rate) * ratio / (1 + ratio), 1 - (forward + spent + chain) / always)


class ProgressLine:
    """One line on a terminal: iteration, loss, update rate, tokens/s, time left; a plain line every 10 s elsewhere.

    Args:
        first: iteration that this attempt begins with.
        total: iterations in all.
        tokens_per_step: forwarded for one optimizer step.
        console: where to; None: stderr.
        quiet: say nothing, as all ranks but one.
        peak: tokens/s at which the devices would compute all the time (`nano.peak_tokens`); None: not known, no MFU.

    """

    def __init__(
        self,
        first: int,
        total: int,
        tokens_per_step: int,
        console: Console | None = None,
        *,
        quiet: bool = False,
        peak: float | None = None,
    ) -> None:
        self._peak = peak
        self.console = console or Console(stderr=True, quiet=quiet)
        self._total, self._tokens = total, tokens_per_step
        self._progress = Progress(
            TextColumn("iter {task.completed}/{task.total}"), BarColumn(bar_width=24), TaskProgressColumn(),
            TextColumn("{task.description}"), TimeRemainingColumn(), console=self.console, transient=True,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total, completed=first)
        self._began = self._shown = time.monotonic()
        self._first, self._val = first, "-"
        self._losses: deque[float] = deque(maxlen=LOSSES)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, iter_num: int, loss: float, update_rate: float, val_loss: float | None) -> None:
        """Tell the state after a step."""
        if not (math.isfinite(loss) and all(map(math.isfinite, self._losses))):
            self._losses.clear()
        self._losses.append(loss)
        self._val = self._val if val_loss is None else f"{val_loss:.3f}"
        now = time.monotonic()
        done = iter_num + 1
        plain = not self.console.is_terminal
        if now - self._shown < (PLAIN_SECONDS if plain else 0.1):
            return
        self._shown = now
        speed = (done - self._first) * self._tokens / max(now - self._began, 1e-9)
        recent = statistics.fmean(self._losses)
        message = f"loss {recent:.3f} · val {self._val} · updated {update_rate:.0%} · {speed:,.0f} tokens/s"
        if self._peak:  # a skipped batch is forwarded alone: a third of its FLOPs
            message += f" · MFU {speed / self._peak * (1 + 2 * update_rate) / 3:.1%}"
        if plain:
            self.console.print(f"iter {done}/{self._total} · {message}", highlight=False)
        else:
            self._progress.update(self._task, completed=done, description=message)


@contextlib.contextmanager
def reading_progress(source: object, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar for reading big data, drawn once it has taken two seconds; one rank of many draws it."""
    console = Console(stderr=True, quiet=quiet)
    began = time.monotonic()
    progress = Progress(
        TextColumn(f"reading {source}", markup=False), BarColumn(), DownloadColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = progress.add_task("")

    def message(done: int, whole: int) -> None:
        if time.monotonic() - began > 2:
            progress.start()  # twice is nothing; not before, so that a mistake in the input is one clean line
        progress.update(task, completed=done, total=whole)

    try:
        yield message
    finally:
        progress.stop()
