"""The segment that a log is being written to: one file, its bytes, their digest, and how many lines they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ockham.record.run_folder import fsync_dir, segment_name


class Segment:
    """A new file; what is written is durable after `sync`.

    Args:
        folder: of the log.
        first: sequence of the first line.

    Raises:
        OSError: also from `write` and `sync`, as the disk says it; `truncate_to_whole_lines` then keeps the lines that are whole.

    """

    def __init__(self, folder: Path, first: int) -> None:
        self.path, self.first = folder / segment_name(first), first
        self.lines = self.size = 0
        self._hash = hashlib.sha256()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        fsync_dir(folder)

    @property
    def next_sequence(self) -> int:
        """The sequence that the next line has."""
        return self.first + self.lines

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes so far."""
        return self._hash.digest()

    def write(self, lines: list[bytes]) -> None:
        """Append whole lines; they count once all of them are written."""
        data = b"".join(lines)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._count(data, len(lines))

    def truncate_to_whole_lines(self, lines: list[bytes]) -> int:
        """After a write of these lines was refused: keep those that are whole; returns how many are."""
        size = os.fstat(self._file).st_size
        whole, kept = self.size, 0
        for line in lines:
            if whole + len(line) > size:
                break
            whole, kept = whole + len(line), kept + 1
        os.ftruncate(self._file, whole)
        self._count(b"".join(lines[:kept]), kept)
        return kept

    def sync(self) -> None:
        """Block until the disk has it."""
        os.fdatasync(self._file)

    def seal(self) -> dict[str, Any]:
        """Close the file; returns what `log.sealed` says of it."""
        self.close()
        return {
            "segment": self.path.name,
            "first_sequence": self.first,
            "events": self.lines,
            "bytes": self.size,
            "sha256": self._hash.hexdigest(),
        }

    def close(self) -> None:
        """Give the file back. Twice is nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _count(self, data: bytes, lines: int) -> None:
        self.lines, self.size = self.lines + lines, self.size + len(data)
        self._hash.update(data)
