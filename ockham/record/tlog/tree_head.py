"""Signed tree heads: a signature over the size and root hash of a log.

The signature covers the bytes read back from the disk, not the bytes that were to be written. The new lines
are read again, their digest is compared with that of the written bytes, and the tree grows from the bytes
read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from ockham.errors import LogHaltedError
from ockham.record.durable_io import SyncError, atomic_write, sync, write_complete
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import NoteError, Signer, decode_canonical_base64
from ockham.record.tlog.tiles import LEVEL_BITS, TileWriter

# C2SP's name for the file of the newest signed tree head.
CHECKPOINT = "checkpoint"
# Appended at most once a second, and at each flush.
HISTORY = "checkpoints"


# A note after its origin line.
_NOTE = rb"\n[0-9]{1,19}\n[A-Za-z0-9+/]{43}=\n\n\xe2\x80\x94 [!-~]+ [A-Za-z0-9+/]{91}=\n\n"
_EXAMPLE = f"\n0\n{'A' * 43}=\n\n\u2014 A {'A' * 91}=\n\n".encode()


class TreeHead(NamedTuple):
    """Size and root hash of a log."""

    size: int
    root: bytes


def origin(run_id: str, attempt: int, rank: int) -> str:
    """Return the first line of a log's tree heads, which identifies the log."""
    return f"ockham/runs/{run_id}/{attempt}-{rank}"


def checkpoint_body(where: str, head: TreeHead) -> str:
    """Return the text that is signed (C2SP tlog-checkpoint)."""
    return f"{where}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"


def parse_head(text: str) -> tuple[str, TreeHead]:
    """Return origin and tree head of a checkpoint text.

    Raises:
        NoteError: If it is not a checkpoint.

    """
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0]:
        raise NoteError("a tree head has an origin, a size and a root, a line each")
    size, root = lines[1], lines[2]
    if not size.isascii() or not size.isdigit() or len(size) > 19 or (size[0] == "0" and size != "0"):
        raise NoteError(f"{size!r:.40} is not a tree size")
    try:
        raw = decode_canonical_base64(root)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise NoteError(f"{root!r:.60} is not a root hash")
    return lines[0], TreeHead(int(size), raw)


def split_history(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete notes of a history file, and the bytes of an unfinished last one."""
    parts = data.split(b"\n\n")
    whole = (len(parts) - 1) // 2
    notes = [parts[2 * i] + b"\n\n" + parts[2 * i + 1] + b"\n" for i in range(whole)]
    return notes, b"\n\n".join(parts[2 * whole :])


def is_unfinished_head(data: bytes, where: str) -> bool:
    """Return True if a crash can leave these bytes at the end of a history.

    Some rest then makes them a note of this log. After a power loss, zeros can follow.
    """
    begun, example = data.rstrip(b"\0"), where.encode() + _EXAMPLE
    note = re.compile(re.escape(where.encode()) + _NOTE)
    return any(note.fullmatch(begun + example[at:]) for at in range(len(example)))


class HeadWriter:
    """Grows the tree of one log from its files, writes tiles and signs tree heads.

    Args:
        folder: Folder of the log.
        where: Origin line of the log.
        signer: Signs the tree heads.

    """

    def __init__(self, folder: Path, where: str, signer: Signer) -> None:
        self.folder, self.where, self.signer = folder, where, signer
        self.head = TreeHead(0, CompactRange().root())
        self._in_history = False
        self._frontier = CompactRange()
        self._tiles = TileWriter(folder)
        self._segment: Path | None = None
        self._offset = 0
        self._digest = hashlib.sha256()

    def ingest(self, segment: Path, size: int, digest: bytes) -> None:
        """Grow the tree by the lines of a segment up to `size` bytes, read from disk.

        Args:
            segment: The file. A new file is read from its beginning.
            size: Number of written and synced bytes. They end in a newline.
            digest: SHA-256 of the written bytes.

        Raises:
            LogHaltedError: If the disk returns other bytes.

        """
        if segment != self._segment:
            self._segment, self._offset, self._digest = segment, 0, hashlib.sha256()
        with segment.open("rb") as file:
            file.seek(self._offset)
            data = file.read(size - self._offset)
        self._digest.update(data)
        if self._digest.digest() != digest:
            raise LogHaltedError(
                f"{segment}: the disk gives back other bytes than were written; nothing is signed"
            )
        self._offset = size
        for line in data.split(b"\n")[:-1]:
            leaf = leaf_hash(line)
            self._tiles.add(0, leaf)
            for level, node in self._frontier.append(leaf):
                if level % LEVEL_BITS == 0:
                    self._tiles.add(level // LEVEL_BITS, node)

    def sign_empty(self) -> None:
        """Sign the head of size 0 before the first line, so that lines without any head are not a crash.

        Its files are durable once the log folder is synced.
        """
        self._write_note(self.head, history=True)

    def sign(self, *, history: bool = True) -> TreeHead:
        """Write the tiles, then durably the signed head of what was read. Return the head.

        Args:
            history: Append the head to the history too.

        """
        grown = self._frontier.size != self.head.size
        if not grown and (self._in_history or not history):
            return self.head
        head = TreeHead(self._frontier.size, self._frontier.root())
        if grown:
            self._tiles.write()
        self._write_note(head, history=history)
        self._tiles.remove_stale_tiles()
        self.head = head
        return head

    def _write_note(self, head: TreeHead, *, history: bool) -> None:
        note = self.signer.sign(checkpoint_body(self.where, head))
        if history:
            _append(self.folder / HISTORY, note + b"\n")
            # The head is durable in the history. After a power loss the file can contain the head before.
            write_complete(self.folder / CHECKPOINT, note)
        else:
            atomic_write(self.folder / CHECKPOINT, note)
        self._in_history = history


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    size = os.fstat(descriptor).st_size
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        sync(os.fdatasync, descriptor)
    except SyncError:
        raise
    except OSError:
        # A later note must not follow an unfinished one.
        os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)
