"""Ctrl-C and SIGTERM as a flag, so that a run ends between two steps; the second one does not wait."""

from __future__ import annotations

import os
import signal
import socket
import time
from types import FrameType, TracebackType
from typing import Any, Self

DUPLICATE_SIGNAL_SECONDS = 2.0  # `scancel` and torchrun both tell a rank, so that one request comes twice


class InterruptFlag:
    """Truthy once a signal has come; use as a context manager in the main thread.

    Attributes:
        signal: number of the first one, 0 before.

    """

    def __init__(self) -> None:
        self.signal = 0
        self._received_at = 0.0
        self._before: dict[int, Any] = {}
        self._woken, self._wake = socket.socketpair()
        self._seen_on_pipe = False

    def __enter__(self) -> Self:
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        for end in (self._woken, self._wake):
            end.close()

    def __bool__(self) -> bool:
        return self.signal != 0

    def signal_received(self) -> bool:
        """Whether a signal has come, also while the main thread is in C and has not noted it; for another thread."""
        try:
            numbers = self._woken.recv(64)
        except OSError:  # nothing there, or this is over
            numbers = b""
        self._seen_on_pipe = self._seen_on_pipe or any(
            number in (signal.SIGINT, signal.SIGTERM) for number in numbers
        )
        return self._seen_on_pipe or bool(self)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        if self.signal and not (under_torchrun and now - self._received_at < DUPLICATE_SIGNAL_SECONDS):
            raise KeyboardInterrupt
        self.signal, self._received_at = self.signal or number, self._received_at or now
