"""How far a verb is, in one line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self


class EventCounter:
    """Call it with the number of events of each part that is done; told once it has taken two seconds, wiped at the end."""

    def __enter__(self) -> Self:
        self._began, self._shown, self._events = time.monotonic(), False, 0
        return self

    def __call__(self, events: int) -> None:
        """So many more are done."""
        self._events += events
        if sys.stderr.isatty() and time.monotonic() - self._began > 2:
            self._shown = True
            sys.stderr.write(f"\r{self._events:,} events")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def progress_line(done: str, what: str) -> Callable[[int, int], None]:
    """One line on a terminal, `replayed 3 of 12 stretches`, wiped when all are done."""

    def show(at: int, whole: int) -> None:
        if sys.stderr.isatty() and whole > 1:
            sys.stderr.write("\r\x1b[K" if at == whole else f"\r{done} {at} of {whole} {what}")
            sys.stderr.flush()

    return show
