"""Folder of the user in which the catalog keeps what it has computed from a folder of runs.

It is outside of the folder of runs, which others may write, and no other user can write it. Without such a
folder nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from ockham.errors import BadInputError
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import read_regular_file
from ockham.record.tlog.private_file import make_private_dirs, require_private_folders

CACHE_VARIABLE = "OCKHAM_CACHE_DIR"
# Fewer runs are read in less time than a cache saves.
MIN_RUNS = 50
_HEAD_BYTES = 64


def cache_folder(runs: Path) -> Path | None:
    """Return the cache folder for a folder of runs. None if the variable is empty, so nothing is kept."""
    base = os.environ.get(CACHE_VARIABLE)
    if base == "":
        return None
    name = hashlib.sha256(os.fsencode(os.path.realpath(runs))).hexdigest()[:32]
    return Path(base or platformdirs.user_cache_dir("ockham")) / "catalog" / name


def is_private(folder: Path) -> bool:
    """Return True if the folder exists and no other user can write it or replace it."""
    try:
        require_private_folders(folder / "x")
        return folder.is_dir()
    except (BadInputError, OSError):
        return False


def create_private(folder: Path) -> bool:
    """Create the folder if it is missing. Return True if it is private."""
    try:
        make_private_dirs(folder)
    except OSError:
        return False
    return is_private(folder)


def write_content(path: Path, data: bytes) -> None:
    """Write a file with the digests of the code and of the data.

    Raises:
        OSError: If it cannot be written.

    """
    atomic_write(path, _code_digest() + hashlib.sha256(data).digest() + data)


def read_content(path: Path) -> bytes:
    """Return the data of a file. Empty if the file is missing, damaged, or was written by other code."""
    try:
        data = read_regular_file(path)
    except OSError:
        return b""
    head, content = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
    return content if head == _code_digest() + hashlib.sha256(content).digest() else b""


def _code_digest() -> bytes:
    """Return a digest that changes with the code."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for part in ("", "catalog", "record", "record/parquet", "record/tlog"):
        with os.scandir(root / part) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    digest.update(f"{part}/{entry.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.digest()
