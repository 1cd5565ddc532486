"""Timeout for collective operations: ends the run if this rank waits too long for another one.

Over gloo a missing answer is an error after `rank_timeout`. NCCL raises no error: its kernels spin on the
device, the main thread waits for them in C, and no Python code of it runs. So a separate thread checks
whether the other ranks answer. If they do not, it ends the log and the process.
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
# torchrun kills a process that has not ended 30 s after its signal.
AFTER_SIGNAL_SECONDS = 10.0
MIN_MARGIN_SECONDS = 2.0
Waits = Literal["", "host", "device"]


class CollectiveTimeout:
    """Context manager around the training, used in the main thread. `set_wait` reports when it waits.

    Seconds are counted in intervals of the polling thread. So the time in which the process or the machine
    was suspended does not count.

    Args:
        seconds: Waiting time after which the other ranks are considered lost. A margin is added, because an
            error in the main thread contains more information.
        finish: Ends the run with a reason code and a message.
        signalled: Returns True if this process was asked to end. A wait for the device then ends earlier.

    """

    def __init__(
        self, seconds: float, finish: Callable[[str, str], None], signalled: Callable[[], bool]
    ) -> None:
        self._finish = finish
        self._signalled = signalled
        self._limit_seconds = seconds + max(MIN_MARGIN_SECONDS, seconds / 10)
        self._waits: Waits = ""
        self._generation = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._poll, name="ockham-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped.set()

    def set_wait(self, waits: Waits) -> None:
        """Set what the main thread waits for: nothing, an answer over gloo, or a collective of the device.

        It never returns once the other ranks are considered lost, because two threads must not both end the
        run.
        """
        with self._lock:
            self._waits = waits
            self._generation += 1

    def _poll(self) -> None:
        generation, waiting_seconds, signalled_seconds = 0, 0.0, 0.0
        while not self._stopped.wait(POLL_SECONDS):
            if generation != self._generation or not self._waits:
                generation, waiting_seconds, signalled_seconds = self._generation, 0.0, 0.0
                continue
            waiting_seconds += POLL_SECONDS
            if self._waits == "device" and self._signalled():
                signalled_seconds += POLL_SECONDS
            if waiting_seconds >= self._limit_seconds or signalled_seconds >= AFTER_SIGNAL_SECONDS:
                self._give_up(generation, waiting_seconds)

    def _give_up(self, generation: int, waiting_seconds: float) -> None:
        with self._lock:
            if self._stopped.is_set() or generation != self._generation:
                return
            message = f"another rank does not answer: no message for {waiting_seconds:.0f} s"
            try:
                self._finish("RANK_LOST", message)
                sys.stderr.write(f"ockham: {message}\n")
                sys.stderr.flush()
            finally:
                # The main thread cannot be woken.
                os._exit(RankLostError.exit_status)
