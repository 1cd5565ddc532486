"""Recovery after a crash: only what no signature covers is removed, and its bytes are kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import orjson

from ockham.errors import LogError, LogLockedError
from ockham.event import event_type
from ockham.record.disk_reserve import RESERVE
from ockham.record.durable_io import atomic_write, fsync_dir
from ockham.record.evidence import (
    LogKey,
    SignedLog,
    check_signed_prefix,
    read_leaves,
    select_kinds,
)
from ockham.record.log_status import SEALED_TYPE
from ockham.record.parquet.builder import remove_parquet, update_parquet
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.signed_heads import read_or_empty
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tiles import rebuild_tiles

TORN = "torn"
# The event that follows those about earlier logs.
_OPENED = event_type("policy.loaded")
_select_opening = select_kinds("log.recovered", "log.gap", "policy.loaded")


def recover_log(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey] = ()
) -> dict[str, Any] | None:
    """Cut the lines that no signature covers, and the unfinished tail, of a log without a writer.

    The writer signs at each sync, so these lines were never acknowledged. Returns the fields of
    `log.recovered`, or None if nothing was removed. A second call returns the same fields, because a kill can
    prevent the event. The removed bytes are durable before the file is truncated. Then Parquet and tiles are
    written for the rest.

    Raises:
        LogLockedError: If the log is still being written.
        LogError: If signed lines are missing or changed, or there is no signature. A crash cannot cause that,
            so nothing is changed.

    """
    return _recover(folder, attempt, rank, keys)[1]


def recover_earlier_logs(
    folder: RunFolder, places: Callable[[int], list[LogKey]], newest: int, keys: Sequence[VerifierKey]
) -> tuple[list[tuple[str, dict[str, Any]]], list[LogKey]]:
    """Recover the logs of earlier attempts, and find what no signed event records about them.

    A resume can be killed before its events about an earlier log are signed. The next resume therefore also
    reads the attempts before it, back to the newest one whose opening events are signed.

    Args:
        folder: The run.
        places: Returns the logs of an attempt that this rank recovers.
        newest: Number of the newest attempt. 0 recovers nothing.
        keys: Keys that may have signed the logs.

    Returns:
        Kind and fields of each event to append, and the recovered logs.

    Raises:
        LogLockedError: If a log is still being written.
        LogError: If signed lines are missing or changed.

    """
    events: list[tuple[str, dict[str, Any]]] = []
    recovered: list[LogKey] = []
    recorded: list[tuple[str, Mapping[str, Any]]] = []
    for attempt in range(newest, 0, -1):
        opened = []
        for place in places(attempt):
            log, cut = _recover(folder, *place, keys)
            found = (("log.recovered", cut), ("log.gap", read_gap(folder, *place)))
            events += [(kind, data) for kind, data in found if data and not _contains(recorded, kind, data)]
            recovered.append(place)
            if log is not None:
                opening = [(event["type"], event["data"]) for _, event in log.parsed()]
                recorded += opening
                opened.append(any(kind == _OPENED for kind, _ in opening))
        if opened and all(opened):
            break
    return events, recovered


def _contains(
    recorded: Sequence[tuple[str, Mapping[str, Any]]], kind: str, fields: Mapping[str, Any]
) -> bool:
    """Return True if one of the signed events has these fields."""
    return any(type_ == event_type(kind) and fields.items() <= data.items() for type_, data in recorded)


def _recover(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey]
) -> tuple[SignedLog | None, dict[str, Any] | None]:
    """Recover one log. Return its signed opening events, None without a segment, and what was cut."""
    path = folder.log_dir(attempt, rank)
    if not folder.segments(attempt, rank):
        return None, None
    lock = filelock.FileLock(str(path / "lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LogLockedError(
            f"{path} is still being written: end that process before this run is resumed"
        ) from None
    try:
        log = check_signed_prefix(folder, attempt, rank, keys, select=_select_opening)
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
    return log, cut


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
    name = f"{last.stem}.{end}"
    saved = read_or_empty(path / TORN / name)
    if not (tail or saved):
        return None
    if saved.startswith(tail):
        # A resume was killed after it saved the bytes. Less than that, or nothing, is left to cut.
        tail = saved
    else:
        atomic_write(path / TORN / name, tail)
    for segment in reversed(later):
        segment.unlink()
    _truncate(last, end)
    fsync_dir(path)
    return {
        "kept_events": log.signed,
        "cut_events": tail.count(b"\n"),
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
