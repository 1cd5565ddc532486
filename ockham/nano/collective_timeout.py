"""Watch: ends the run of a rank that waits for another one which will never answer.

Over gloo an answer that does not come is an error after `rank_timeout`. NCCL raises nothing: its kernels spin on the device,
the main thread waits for them in C, and no Python of it runs any more. So a thread of its own looks whether anything is
heard, and where it is not ends the log and the process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from ockham.errors import RankLostError

POLL_SECONDS = 0.5
AFTER_SIGNAL_SECONDS = 10.0  # torchrun kills what has not ended 30 s after it asked
LEAST_GRACE_SECONDS = 2.0
Waits = Literal["", "host", "device"]


class CollectiveTimeout:
    """Use as a context manager around the training, in the main thread, which says when it waits and when it hears.

    Seconds are counted by this thread's own turns, so that those of a process or a machine that slept do not count.

    Args:
        seconds: of waiting after which the other ranks are given up; a little more is waited, since an error in the
            main thread says more.
        end: ends the run with a reason code and a sentence.
        signalled: whether this process was asked to end: then a wait of the device is given up earlier.

    """

    def __init__(
        self, seconds: float, end: Callable[[str, str], None], signalled: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._end, self._signalled = end, signalled
        self._limit = seconds + max(LEAST_GRACE_SECONDS, seconds / 10)
        self._waits: Waits = ""
        self._generation = 0
        self._over = threading.Event()
        self._deciding = threading.Lock()
        self._thread = threading.Thread(target=self._poll, name="ockham-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._deciding:
            self._over.set()

    def set_wait(self, waits: Waits) -> None:
        """What the main thread waits for from now on: nothing, an answer over gloo, or a collective of the device.

        Never returns once the others were given up: two threads must not both end the run.
        """
        with self._deciding:
            self._waits = waits
            self._generation += 1

    def _poll(self) -> None:
        turn, seconds_waiting, asked = 0, 0.0, 0.0
        while not self._over.wait(POLL_SECONDS):
            if turn != self._generation or not self._waits:
                turn, seconds_waiting, asked = self._generation, 0.0, 0.0
                continue
            seconds_waiting += POLL_SECONDS
            asked += POLL_SECONDS if self._waits == "device" and self._signalled() else 0.0
            if seconds_waiting >= self._limit or asked >= AFTER_SIGNAL_SECONDS:
                self._give_up(turn, seconds_waiting)

    def _give_up(self, turn: int, seconds_waiting: float) -> None:
        with self._deciding:
            if self._over.is_set() or turn != self._generation:
                return
            told = f"another rank does not answer: nothing was heard for {seconds_waiting:.0f} s"
            try:
                self._end("RANK_LOST", told)
                sys.stderr.write(f"ockham: {told}\n")
                sys.stderr.flush()
            finally:
                os._exit(RankLostError.exit_status)  # the main thread cannot be woken
