"""Signals as a flag, so that a run ends between two steps. A second Ctrl-C or SIGTERM interrupts at once.

Slurm announces the end of the time limit with the signal that the job chose, often SIGUSR1. SIGHUP arrives if
the terminal is closed or ssh is disconnected.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from types import FrameType, TracebackType
from typing import Any, Self

# Each of these ends a run after its present step.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Only these mean "now". The others repeat: a shell and the kernel both send SIGHUP.
_URGENT_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# `scancel` and torchrun both send a signal to a rank, so that one request arrives twice.
DUPLICATE_SIGNAL_SECONDS = 2.0


class InterruptFlag:
    """Truthy after a signal. Use it as a context manager in the main thread.

    Attributes:
        signal: Number of the first signal, 0 before it.

    """

    def __init__(self) -> None:
        self.signal = 0
        self._received_at = 0.0
        self._previous_handlers: dict[int, Any] = {}
        self._read_socket, self._write_socket = socket.socketpair()
        self._signal_in_pipe = False

    def __enter__(self) -> Self:
        for end_socket in (self._read_socket, self._write_socket):
            end_socket.setblocking(False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(
            self._write_socket.fileno(), warn_on_full_buffer=False
        )
        for number in STOP_SIGNALS:
            # nohup and `trap ''` ignore a signal on purpose.
            if number in _URGENT_SIGNALS or signal.getsignal(number) != signal.SIG_IGN:
                self._previous_handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        for end_socket in (self._read_socket, self._write_socket):
            end_socket.close()

    def __bool__(self) -> bool:
        return self.signal != 0

    def signal_received(self) -> bool:
        """Return True if a signal has arrived, even if its Python handler has not run yet.

        It is meant for other threads: the main thread may be in C code, where no handler runs.
        """
        try:
            numbers = self._read_socket.recv(64)
        except OSError:
            # The pipe is empty or closed.
            numbers = b""
        self._signal_in_pipe = self._signal_in_pipe or any(
            number in self._previous_handlers for number in numbers
        )
        return self._signal_in_pipe or bool(self)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        # A job that announced its end with SIGUSR1 may get SIGTERM at the same time.
        may_repeat = "TORCHELASTIC_RUN_ID" in os.environ or self.signal not in _URGENT_SIGNALS
        is_repeated = may_repeat and now - self._received_at < DUPLICATE_SIGNAL_SECONDS
        if self.signal and number in _URGENT_SIGNALS and not is_repeated:
            raise KeyboardInterrupt
        self.signal = self.signal or number
        self._received_at = self._received_at or now
