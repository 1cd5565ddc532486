"""How many events were read so far, on a terminal, once it has taken two seconds."""

from __future__ import annotations

import sys
import time
from typing import Self


class EventCounter:
    """Call it with the number of events of each part that is done; the line is wiped at the end."""

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
