"""After a crash: newline is the commit mark, so only an unfinished last line may be cut, and what is cut is kept."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import filelock

from ockham.errors import LogLockedError
from ockham.record.folder import RunFolder, sync_folder, write_durably
from ockham.record.snapshots import derive

TORN = "torn"


def recover(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any] | None:
    """Cut the unfinished or zero-filled tail of a log whose writer is gone; the fields of `log.recovered`, or None.

    A second crash in here changes nothing: the cut bytes are durable before the file is cut. Then Parquet is written
    for what is whole.

    Raises:
        LogLockedError: if the log is still being written.

    """
    path = folder.log(attempt, rank)
    segments = folder.segments(attempt, rank)
    if not segments:
        return None
    lock = filelock.FileLock(str(path / "lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LogLockedError(
            f"{path} is still being written: end that process before this run is resumed"
        ) from None
    try:
        (path / "reserve").unlink(missing_ok=True)
        found = _cut(folder, attempt, rank)
        derive(folder, attempt, rank, last=True)
    finally:
        lock.release()
    return found


def _cut(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any] | None:
    path = folder.log(attempt, rank)
    segments = folder.segments(attempt, rank)
    data = segments[-1].read_bytes()
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if not tail:
        return None
    name = f"{segments[-1].stem}.{end}"
    write_durably(path / TORN / name, tail)
    descriptor = os.open(segments[-1], os.O_WRONLY)
    try:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path)
    kept = sum(segment.read_bytes().count(b"\n") for segment in segments)
    return {
        "kept_events": kept,
        "cut_bytes": len(tail),
        "cut_sha256": hashlib.sha256(tail).hexdigest(),
        "cut_file": f"log/{attempt}-{rank}/{TORN}/{name}",
    }
