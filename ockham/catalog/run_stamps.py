"""Stamps of all files and folders of a run that a catalog reads: the cheap state that shows a change.

A result that was computed from a run is valid while each stamp is the same. Size and times show a changed
file, the inode shows a replaced one, and the times of a folder show added and removed names. A program cannot
set the time of the last status change (ctime).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ockham.record.parquet.file_check import FileStamp, read_stamp
from ockham.record.run_folder import PARQUET_TABLES, SIDECARS

# Path relative to the run folder -> stamp. None if it does not exist.
Stamps = Mapping[str, FileStamp | None]
# Clocks of some file systems have a resolution of two seconds. Two changes in one tick have the same stamp.
RECENT_NS = 2_000_000_000
# Folder -> levels of folders in it that are read. The Merkle tiles are not read.
_FOLDERS = {"policies": 0, "log": 1, **dict.fromkeys(PARQUET_TABLES, 1), SIDECARS: 2}


def read_stamps(run: str) -> dict[str, FileStamp | None]:
    """Return the stamps of a run folder. Read them before the files.

    Raises:
        OSError: If a file cannot be examined now.

    """
    stamps = {"run.json": read_stamp(f"{run}/run.json")}
    for name, levels in _FOLDERS.items():
        _add_folder(stamps, run, name, levels)
    return stamps


def are_current(run: str, stamps: Stamps) -> bool:
    """Return True if every file and folder still has its stamp.

    Raises:
        OSError: If a file cannot be examined now.

    """
    return all(read_stamp(f"{run}/{name}") == stamp for name, stamp in stamps.items())


def are_old(stamps: Stamps) -> bool:
    """Return True if every later change also changes a stamp, because no change is recent."""
    newest = max((max(stamp.mtime_ns, stamp.ctime_ns) for stamp in stamps.values() if stamp), default=0)
    return time.time_ns() - newest > RECENT_NS


def _add_folder(stamps: dict[str, FileStamp | None], run: str, name: str, levels: int) -> None:
    # The folder first: a name that is added later changes it.
    stamp = stamps[name] = read_stamp(f"{run}/{name}")
    if stamp is None:
        return
    try:
        with os.scandir(f"{run}/{name}") as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry, is_folder in found:
        path = f"{name}/{entry}"
        if not is_folder:
            stamps[path] = read_stamp(f"{run}/{path}")
        elif levels:
            _add_folder(stamps, run, path, levels - 1)
