"""Signed sizes: how many events of each log a tree head of the run's key covers.

The signature and the origin of a head are checked, its root is not recomputed. `ockham verify` and a verified
catalog compare the root with the lines.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import orjson

from ockham.errors import BadInputError
from ockham.record.parquet.file_check import FileStamp, LogKey, read_stamp
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.tlog.note import NoteError, VerifierKey, open_note, parse_key
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, origin, parse_head, split_history

# A tree head has about 250 bytes. A history file only grows, and its last heads are the newest.
_HISTORY_BYTES = 1 << 16
_MAX_CHECKPOINT_BYTES = 1 << 16
# Lasting properties of a file. Every other error can have passed at the next attempt, so it is raised.
_LASTING_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR}
)


def read_if_readable(path: Path, limit: int = -1) -> bytes:
    """Return the first *limit* bytes of a file, or no bytes if it does not exist or can never be read.

    Raises:
        OSError: If the file can be readable later.

    """
    try:
        with open_regular_file(path) as file:
            return file.read(limit)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in _LASTING_ERRORS:
            return b""
        raise


def read_run_key(folder: RunFolder) -> VerifierKey | None:
    """Return the verifier key that run.json names, or None if it names no key."""
    try:
        return parse_key(str(orjson.loads(read_if_readable(folder.run_json)).get("verifier_key")))
    except (ValueError, AttributeError, BadInputError):
        return None


class SignedSizes:
    """Signed sizes of logs. A file is read again only after it has changed.

    Args:
        keys: Trusted verifier keys. Without one, the key that the run names is used.

    """

    def __init__(self, keys: Sequence[VerifierKey] = ()) -> None:
        self._keys = tuple(keys)
        self._run_keys: dict[Path, tuple[FileStamp | None, VerifierKey | None]] = {}
        self._sizes: dict[LogKey, tuple[object, int]] = {}

    def read(self, folder: RunFolder, attempt: int, rank: int) -> int:
        """Return the size of the newest tree head of a log, or 0 if no trusted key has signed one."""
        keys = self.keys(folder)
        path = folder.log_dir(attempt, rank)
        log = (folder.run_id, attempt, rank)
        state = (keys, read_stamp(path / CHECKPOINT), read_stamp(path / HISTORY))
        known = self._sizes.get(log)
        if known is None or known[0] != state:
            known = (state, _read_size(path, origin(*log), keys) if keys else 0)
            self._sizes[log] = known
        return known[1]

    def keys(self, folder: RunFolder) -> tuple[VerifierKey, ...]:
        """Return the trusted keys of a run."""
        if self._keys:
            return self._keys
        stamp = read_stamp(folder.run_json)
        known = self._run_keys.get(folder.path)
        if known is None or known[0] != stamp:
            known = (stamp, read_run_key(folder))
            self._run_keys[folder.path] = known
        return () if known[1] is None else (known[1],)


def _read_size(path: Path, where: str, keys: Sequence[VerifierKey]) -> int:
    """Return the largest size that a key has signed. Tests the heads from the largest size on."""
    checkpoint = read_if_readable(path / CHECKPOINT, _MAX_CHECKPOINT_BYTES)
    notes = [checkpoint, *_newest_notes(path / HISTORY)]
    for size, note in sorted(((_claimed_size(note), note) for note in notes), reverse=True):
        if size > 0 and _is_signed(note, where, size, keys):
            return size
    notes, _ = split_history(read_if_readable(path / HISTORY))
    for size, note in sorted(((_claimed_size(note), note) for note in notes), reverse=True):
        if size > 0 and _is_signed(note, where, size, keys):
            return size
    return 0


def _newest_notes(history: Path) -> list[bytes]:
    """Return the last complete tree heads of a history file."""
    try:
        with open_regular_file(history) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _HISTORY_BYTES))
            data = file.read(_HISTORY_BYTES)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in _LASTING_ERRORS:
            return []
        raise
    if size > _HISTORY_BYTES:
        # The first bytes can be the middle of a head. Each head starts with its origin.
        data = b"ockham/runs/" + data.partition(b"\nockham/runs/")[2]
    return split_history(data)[0]


def _claimed_size(note: bytes) -> int:
    """Return the size in a tree head whose signature is not checked, or -1."""
    try:
        return parse_head(note.decode())[1].size
    except (NoteError, UnicodeDecodeError):
        return -1


def _is_signed(note: bytes, where: str, size: int, keys: Sequence[VerifierKey]) -> bool:
    try:
        log, head = parse_head(open_note(note, keys)[0])
    except NoteError:
        return False
    return log == where and head.size == size
