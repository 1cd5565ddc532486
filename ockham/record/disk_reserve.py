"""What a log does when the machine fails it: a reserve for the last words, and a refusal after fork."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

from ockham.errors import LogError

RESERVE = "reserve"
RESERVE_BYTES = 131_072  # one line of the greatest length, its tiles, and a tree head


class DiskReserve:
    """Disk space that is taken beforehand and given back when the disk is full, so that the log can say so.

    Raises:
        OSError: if there is not even so much space at the start.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("wb") as file:
            file.write(
                b"\0" * RESERVE_BYTES
            )  # written, not only allocated: some file systems promise without keeping
            file.flush()
            os.fsync(file.fileno())

    def release(self) -> None:
        """Give the space back; twice is nothing."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def disable_after_fork(writer: Any) -> None:
    """In a forked child the writer has no thread and must not touch the parent's file: it refuses every event."""
    reference = weakref.ref(writer)

    def in_child() -> None:
        found = reference()
        if found is not None:
            found._error = LogError(
                f"{found.path} belongs to the process that opened it, and this is a fork of it"
            )

    os.register_at_fork(after_in_child=in_child)
