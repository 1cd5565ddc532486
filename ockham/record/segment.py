"""The segment that is being written: one file, its bytes, their digest, and the number of lines."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ockham.record.durable_io import fsync_dir, sync
from ockham.record.run_folder import segment_name


class Segment:
    """A new segment file. Written lines are durable after `sync`.

    Args:
        folder: Folder of the log.
        first: Sequence number of the first line.

    Raises:
        OSError: Also from `write` and `sync`. `truncate_to_whole_lines` then keeps the complete lines.

    """

    def __init__(self, folder: Path, first: int) -> None:
        self.path, self.first = folder / segment_name(first), first
        self.lines = self.size = 0
        self._pending: list[bytes] = []
        self._hash = hashlib.sha256()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        fsync_dir(folder)

    @property
    def next_sequence(self) -> int:
        """Sequence number of the next line."""
        return self.first + self.lines

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the bytes so far."""
        return self._hash.digest()

    def write(self, lines: list[bytes]) -> None:
        """Append complete lines. They are counted after all of them are written."""
        self._pending = lines
        data = b"".join(lines)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._count(data, len(lines))

    def truncate_to_whole_lines(self) -> None:
        """Keep only the complete lines of a failed write. Without one, calling it has no effect."""
        size = os.fstat(self._file).st_size
        whole, kept = self.size, 0
        for line in self._pending:
            if whole + len(line) > size:
                break
            whole, kept = whole + len(line), kept + 1
        os.ftruncate(self._file, whole)
        self._count(b"".join(self._pending[:kept]), kept)

    def sync(self) -> None:
        """Block until the written bytes are on disk. A failure raises SyncError."""
        sync(os.fdatasync, self._file)

    def seal(self) -> dict[str, Any]:
        """Close the file. Return the fields of `log.sealed`."""
        self.close()
        return {
            "segment": self.path.name,
            "first_sequence": self.first,
            "events": self.lines,
            "bytes": self.size,
            "sha256": self._hash.hexdigest(),
        }

    def close(self) -> None:
        """Close the file. Calling it again has no effect."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _count(self, data: bytes, lines: int) -> None:
        self.lines, self.size = self.lines + lines, self.size + len(data)
        self._hash.update(data)
        self._pending = []
