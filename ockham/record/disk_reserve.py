"""Reserved disk space for a final event, and a guard that disables the writer in a forked child."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

from ockham.errors import LogError

RESERVE = "reserve"
# One line of the greatest length, its tiles, and a tree head.
RESERVE_BYTES = 131_072


class DiskReserve:
    """Disk space that is allocated at the start and released when the disk is full.

    The log can then record its end.

    Raises:
        OSError: If the space is not available at the start.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("wb") as file:
            # written, not only allocated: some file systems promise without keeping.
            file.write(b"\0" * RESERVE_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def release(self) -> None:
        """Release the space. Calling it again has no effect."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def disable_after_fork(writer: Any) -> None:
    """Make the writer reject events in a forked child.

    The child has no writer thread and must not touch the parent's file.
    """
    reference = weakref.ref(writer)

    def in_child() -> None:
        found = reference()
        if found is not None:
            found._error = LogError(
                f"{found.path} belongs to the process that opened it, and this is a fork of it"
            )

    os.register_at_fork(after_in_child=in_child)
