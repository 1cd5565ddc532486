"""Recovery after a crash: only what no signature covers is removed, and its bytes are kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import orjson

from ockham.errors import LogError, LogLockedError
from ockham.record.disk_reserve import RESERVE
from ockham.record.durable_io import atomic_write, fsync_dir
from ockham.record.evidence import SignedLog, check_signed_prefix, read_leaves
from ockham.record.log_status import SEALED_TYPE
from ockham.record.parquet.builder import remove_parquet, update_parquet
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.signed_heads import read_or_empty
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tiles import rebuild_tiles

TORN = "torn"


def recover_log(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey] = ()
) -> dict[str, Any] | None:
    """Cut the lines that no signature covers, and the unfinished tail, of a log without a writer.

    The writer signs at each sync, so these lines were never acknowledged. Returns the fields of
    `log.recovered`, or None if nothing was removed. A second crash in this function changes nothing: the
    removed bytes are durable before the file is truncated. Then Parquet and tiles are written for the rest.

    Raises:
        LogLockedError: If the log is still being written.
        LogError: If signed lines are missing or changed, or there is no signature. A crash cannot cause that,
            so nothing is changed.

    """
    path = folder.log_dir(attempt, rank)
    if not folder.segments(attempt, rank):
        return None
    lock = filelock.FileLock(str(path / "lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LogLockedError(
            f"{path} is still being written: end that process before this run is resumed"
        ) from None
    try:
        log = check_signed_prefix(folder, attempt, rank, keys)
        if log.is_unsigned:
            raise LogError(f"{path}: no known key has signed this log; run `ockham verify`")
        if log.events > log.signed:
            # Before the lines: a crash in between leaves what the signed lines need.
            rebuild_tiles(path, read_leaves(folder, attempt, rank, log.signed))
            remove_parquet(folder, attempt, rank)
        cut = _cut_unsigned(folder, log)
        update_parquet(folder, attempt, rank, last=True)
    finally:
        lock.release()
    return cut


def read_gap(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any] | None:
    """Return the fields of `log.gap` if the writer of an old log knew that it lost events, otherwise None.

    A full disk leaves `log.halted`, which counts the lost events. After a failed sync no byte may be written,
    so the writer only released its reserve. A log without an end and without a reserve therefore had a writer
    that stopped itself.
    """
    # log.sealed events can follow run.finished: one is appended for each segment that was still to be sealed.
    lines = (
        line for s in reversed(folder.segments(attempt, rank)) for line in reversed(read_complete_lines(s)[0])
    )
    events, last = 0, None
    for last in map(orjson.loads, lines):
        events = max(events, last["data"]["sequence"] + 1)
        if last["type"] != SEALED_TYPE:
            break
    if last is None or last["type"] == SEALED_TYPE:
        return None
    kind, data = last["type"], last["data"]
    gap = {"from_attempt": attempt, "from_sequence": events}
    if kind == "ockham.log.halted.v1":
        return {**gap, "reason_code": data["reason_code"], "count": data["lost_events"]}
    if kind == "ockham.run.finished.v1" or (folder.log_dir(attempt, rank) / RESERVE).exists():
        return None
    return {**gap, "reason_code": "WRITER_FAILED", "count": None}


def _cut_unsigned(folder: RunFolder, log: SignedLog) -> dict[str, Any] | None:
    """Move everything after the signed lines into a file. Return the fields of `log.recovered`."""
    path = folder.log_dir(log.attempt, log.rank)
    segments = folder.segments(log.attempt, log.rank)
    last, end = log.end or (segments[0], 0)
    later = segments[segments.index(last) + 1 :]
    tail = read_regular_file(last)[end:] + b"".join(read_regular_file(segment) for segment in later)
    if not tail:
        return None
    name = f"{last.stem}.{end}"
    saved = read_or_empty(path / TORN / name)
    if saved.startswith(tail):
        # A crash in this function left less to cut than was saved.
        tail = saved
    else:
        atomic_write(path / TORN / name, tail)
    for segment in reversed(later):
        segment.unlink()
    _truncate(last, end)
    fsync_dir(path)
    return {
        "kept_events": log.signed,
        "cut_events": log.events - log.signed,
        "cut_bytes": len(tail),
        "cut_sha256": hashlib.sha256(tail).hexdigest(),
        "cut_file": f"log/{log.name}/{TORN}/{name}",
    }


def _truncate(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
