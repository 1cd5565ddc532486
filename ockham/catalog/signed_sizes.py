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
from ockham.record.signed_heads import read_signed_size
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, origin

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
            known = (state, read_signed_size(path, origin(*log), keys, _read_part) if keys else 0)
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


def _read_part(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, the last ones for a negative size, or all for zero."""
    if size > 0:
        return read_if_readable(path, size)
    if size == 0:
        return read_if_readable(path)
    try:
        with open_regular_file(path) as file:
            end = file.seek(0, 2)
            file.seek(max(0, end + size))
            return file.read(-size)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in _LASTING_ERRORS:
            return b""
        raise
