"""Progress on the terminal: the line of a training run, and the bar while data is read."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

# Losses of which the line shows the mean. A longer window would lag behind a falling loss.
LOSS_WINDOW = 20
# Interval between plain lines, if the output is not a terminal.
PLAIN_INTERVAL_SECONDS = 10.0
TERMINAL_INTERVAL_SECONDS = 0.1
READING_DELAY_SECONDS = 2.0


class ProgressLine:
    """One line on a terminal: iteration, loss, update rate, tokens/s, time left. Elsewhere a line every 10 s.

    Args:
        first: First iteration of this attempt.
        total: Number of iterations of the run.
        tokens_per_step: Tokens that are forwarded for one optimizer step.
        console: Output. None uses stderr.
        quiet: Print nothing, as on all ranks but one.
        peak: Tokens/s at full utilisation (`nano.peak_tokens_per_second`). None shows no MFU.

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
        self.console = console or Console(stderr=True, quiet=quiet)
        self._first = first
        self._total = total
        self._tokens_per_step = tokens_per_step
        self._peak = peak
        self._progress = Progress(
            TextColumn("iter {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, completed=first)
        self._start = time.monotonic()
        self._shown_at = self._start
        self._val_loss = "-"
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, iter_num: int, loss: float, update_rate: float, val_loss: float | None) -> None:
        """Show the state after a step, unless the last line is too recent."""
        if not (math.isfinite(loss) and all(map(math.isfinite, self._losses))):
            self._losses.clear()
        self._losses.append(loss)
        if val_loss is not None:
            self._val_loss = f"{val_loss:.3f}"
        now = time.monotonic()
        is_terminal = self.console.is_terminal
        if now - self._shown_at < (TERMINAL_INTERVAL_SECONDS if is_terminal else PLAIN_INTERVAL_SECONDS):
            return
        self._shown_at = now
        done = iter_num + 1
        speed = (done - self._first) * self._tokens_per_step / max(now - self._start, 1e-9)
        message = (
            f"loss {statistics.fmean(self._losses):.3f} · val {self._val_loss} · "
            f"updated {update_rate:.0%} · {speed:,.0f} tokens/s"
        )
        if self._peak:
            # A skipped batch is only forwarded, which is a third of its FLOPs.
            message += f" · MFU {speed / self._peak * (1 + 2 * update_rate) / 3:.1%}"
        if is_terminal:
            self._progress.update(self._task, completed=done, description=message)
        else:
            self.console.print(f"iter {done}/{self._total} · {message}", highlight=False)


@contextlib.contextmanager
def reading_progress(source: object, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Context manager that shows a progress bar if reading *source* takes more than two seconds.

    It yields a function that takes (bytes done, total bytes).
    """
    console = Console(stderr=True, quiet=quiet)
    start = time.monotonic()
    progress = Progress(
        TextColumn(f"reading {source}", markup=False),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task("")

    def update(done: int, total: int) -> None:
        # The bar appears late, so that an error in the input is one clean line. Starting again has no effect.
        if time.monotonic() - start > READING_DELAY_SECONDS:
            progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        progress.stop()
