"""Write files and folders so that a crash or an error leaves no half-written one."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ockham.errors import RunError

# Name, process ID.
_TEMPORARY = re.compile(r"\.(.+)\.[1-9][0-9]*\.tmp")


class SyncError(OSError):
    """A sync failed. Do not repeat it, because a second one can succeed although pages were lost."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to *path* when the block ends.

    The block creates a file or a folder at the temporary path. If it raises an error, nothing remains.

    Args:
        path: Path of the complete file or folder. An existing file is replaced.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        # The folder may be missing, or a file may be in its place.
        with contextlib.suppress(OSError):
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            temporary.unlink(missing_ok=True)
        raise


def temporary_target(name: str) -> str:
    """Return the name of the complete file for a temporary name of `atomic_path`, else an empty text."""
    match = _TEMPORARY.fullmatch(name)
    return match[1] if match else ""


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that after a crash it either has these bytes or its earlier content.

    Args:
        path: The file. With `durable`, missing folders are created.
        data: New content.
        durable: Sync file and folder. False is for files that can be computed again.

    Raises:
        OSError: If the file cannot be written. Its earlier content remains.

    """
    if durable:
        make_dirs(path.parent)
        write_complete(path, data)
        fsync_dir(path.parent)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_complete(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it has these bytes, its earlier content, or does not exist.

    It is durable once its folder is synced.

    Raises:
        OSError: If the file cannot be written. Its earlier content remains.

    """
    with atomic_path(path) as temporary:
        write_synced(temporary, data)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and sync its bytes, but not its name."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        sync(os.fsync, file.fileno())


@contextlib.contextmanager
def raise_run_errors(action: str, path: Path) -> Iterator[None]:
    """Context manager that turns OSError into RunError.

    Args:
        action: What failed, such as `cannot rebuild`.
        path: Path in the message if the error names none.

    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{action} {error.filename or path}: {error.strerror}") from None


def make_dirs(path: Path) -> None:
    """Create a folder and its parents durably, so that a crash does not remove them with their content."""
    # The parents of an existing folder exist. The log writer calls this several times a second.
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        fsync_dir(folder.parent)


def sync(call: Callable[[int], None], descriptor: int) -> None:
    """Call os.fsync or os.fdatasync.

    Raises:
        SyncError: If it fails.

    """
    try:
        call(descriptor)
    except OSError as error:
        raise SyncError(error.errno, error.strerror) from error


def fsync_dir(path: Path) -> None:
    """Make a rename or a new name in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(os.fsync, descriptor)
    finally:
        os.close(descriptor)
