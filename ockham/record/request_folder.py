"""Folder `requests/` of a run: people write signed requests there, and the training loop reads them.

Everyone who can write the run folder can put anything there. Reading is bounded: at most 64 entries of
16 KiB at a time, no pipe or link is opened, and nothing outside of the folder is touched.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ockham.errors import RunError
from ockham.record.durable_io import atomic_write
from ockham.record.requests import MAX_REQUEST_BYTES, RefusedRequest, SignedRequest
from ockham.record.run_folder import RunFolder

FOLDER = "requests"
MAX_ENTRIES = 64
# Names that are looked at for them.
MAX_SCANNED = 4_096
# A file that was copied here without an atomic rename may still be incomplete.
GRACE_SECONDS = 2.0
_FILE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.note")
_TEMPORARY = re.compile(rf"\.{_FILE.pattern}\.[1-9][0-9]{{0,18}}\.tmp")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RequestFile(NamedTuple):
    """One entry of the folder: its name, and its bytes or why they are refused.

    `is_young` is True if the file may still be incomplete.
    """

    name: str
    data: bytes
    refused: RefusedRequest | None
    is_young: bool


class RequestFolder:
    """Reads the requests of one run. Creating the object touches no file.

    Args:
        folder: The run.

    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path / FOLDER
        self._path = str(self.path)
        # Time of the last change that was read. None reads at the next call.
        self._seen_ns: int | None = None

    def has_news(self) -> bool:
        """Return True if the folder changed since the last complete `read`. It takes one lstat."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_mtime_ns != self._seen_ns

    def read(self, ignored: Collection[str] = ()) -> list[RequestFile]:
        """Return up to 64 entries in order of name. A file that is being written is left out.

        Args:
            ignored: Names to leave out.

        """
        try:
            folder = os.open(self._path, _FLAGS | os.O_DIRECTORY)
        except OSError:
            return []
        try:
            changed = os.fstat(folder).st_mtime_ns
            names, is_complete = _names(folder, ignored)
            files = [file for name in names if (file := _read(folder, name)) is not None]
        except OSError:
            # A network file system can fail at any time. The next step tries again.
            return []
        finally:
            os.close(folder)
        # A later change within one tick of the clock leaves the same time.
        settled = 0 <= changed < time.time_ns() - 1_000_000_000
        waits = any(file.is_young for file in files)
        self._seen_ns = changed if settled and is_complete and not waits else None
        return files

    def remove(self, name: str) -> bool:
        """Remove one entry of the folder. The target of a link is not touched.

        Return False if the entry remains, such as a folder that is not empty.
        """
        try:
            folder = os.open(self._path, _FLAGS | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            (os.rmdir if is_folder else os.unlink)(name, dir_fd=folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        finally:
            os.close(folder)
        return True


def write_request(folder: RunFolder, signed: SignedRequest) -> Path:
    """Write a request for the training loop of a run. Return its path.

    Raises:
        RunError: If it cannot be written.

    """
    path = folder.path / FOLDER / file_name(signed.request.request_id)
    try:
        if path.parent.is_symlink():
            raise RunError(f"{path.parent} is a link; links in a run folder are not followed")
        atomic_write(path, signed.note.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None
    return path


def file_name(request_id: str) -> str:
    """Return the file name of a request."""
    return f"{request_id}.note"


def _names(folder: int, ignored: Collection[str]) -> tuple[list[str], bool]:
    """Return up to 64 names without unfinished files, and whether the folder has no more."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if entry.name in ignored or _TEMPORARY.fullmatch(entry.name):
                continue
            if len(names) == MAX_ENTRIES or number >= MAX_SCANNED:
                return sorted(names), False
            names.append(entry.name)
    return sorted(names), True


def _read(folder: int, name: str) -> RequestFile | None:
    """Return one entry. None if it does not exist any more."""
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return RequestFile(
            name, b"", RefusedRequest("UNREADABLE", f"cannot be read: {error.strerror}"), False
        )
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            refused = RefusedRequest("NOT_A_FILE", "is a folder, a pipe or a device")
            return RequestFile(name, b"", refused, False)
        data = os.read(descriptor, MAX_REQUEST_BYTES + 1)
    except OSError as error:
        return RequestFile(
            name, b"", RefusedRequest("UNREADABLE", f"cannot be read: {error.strerror}"), False
        )
    finally:
        os.close(descriptor)
    is_young = 0 <= time.time() - status.st_mtime < GRACE_SECONDS
    if len(data) > MAX_REQUEST_BYTES:
        refused = RefusedRequest("TOO_LARGE", f"has more than {MAX_REQUEST_BYTES:,} bytes")
        return RequestFile(name, data, refused, False)
    if not _FILE.fullmatch(name):
        return RequestFile(name, data, RefusedRequest("WRONG_NAME", "is not named UUID.note"), False)
    return RequestFile(name, data, None, is_young)
