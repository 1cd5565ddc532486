"""Recovery after a crash: only an unfinished last line is removed, and its bytes are kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import filelock
import orjson

from ockham.errors import LogError, LogLockedError
from ockham.record.disk_reserve import RESERVE
from ockham.record.durable_io import atomic_write, fsync_dir
from ockham.record.log_status import SEALED_TYPE
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import NoteError, VerifierKey, open_note
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, TreeHead, origin, parse_head, split_history

TORN = "torn"


def recover_log(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey] = ()
) -> dict[str, Any] | None:
    """Truncate the unfinished or zero-filled tail of a log without a writer.

    Returns the fields of `log.recovered`, or None if nothing was removed. A second crash in this function
    changes nothing: the removed bytes are durable before the file is truncated. Then Parquet is written for
    the complete lines.

    Raises:
        LogLockedError: If the log is still being written.
        LogError: If signed lines are missing or changed. A crash cannot cause that, so nothing is changed.

    """
    path = folder.log_dir(attempt, rank)
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
        check_signed_prefix(folder, attempt, rank, keys)
        found = _truncate_tail(folder, attempt, rank)
        update_parquet(folder, attempt, rank, last=True)
    finally:
        lock.release()
    return found


def check_signed_prefix(folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey]) -> TreeHead:
    """Return size and root of a log's complete lines, which must start with every signed tree.

    Raises:
        LogError: If they do not.

    """
    path = folder.log_dir(attempt, rank)
    signed = signed_heads(folder, attempt, rank, keys)
    frontier = CompactRange()
    for segment in folder.segments(attempt, rank):
        for line in read_complete_lines(segment)[0]:
            frontier.append(leaf_hash(line))
            if frontier.size in signed and signed[frontier.size] != frontier.root():
                raise LogError(
                    f"{path}: the first {frontier.size} events differ from the signed ones; "
                    "run `ockham verify`"
                )
    most = max(signed, default=0)
    if most > frontier.size:
        raise LogError(f"{path}: {most} events were signed, but {frontier.size} exist; run `ockham verify`")
    return TreeHead(frontier.size, frontier.root())


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


def signed_heads(folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey]) -> dict[int, bytes]:
    """Return size -> root of every tree head of a log that one of `keys` has signed."""
    path, where = folder.log_dir(attempt, rank), origin(folder.run_id, attempt, rank)
    notes, _ = split_history((path / HISTORY).read_bytes() if (path / HISTORY).is_file() else b"")
    if (path / CHECKPOINT).is_file():
        notes.append((path / CHECKPOINT).read_bytes())
    found: dict[int, bytes] = {}
    for note in notes:
        try:
            told, head = parse_head(open_note(note, keys)[0])
        except NoteError:
            # A crash leaves none; verify names it.
            continue
        if told == where:
            found[head.size] = head.root
    return found


def _truncate_tail(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any] | None:
    path = folder.log_dir(attempt, rank)
    segments = folder.segments(attempt, rank)
    data = segments[-1].read_bytes()
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if not tail:
        return None
    name = f"{segments[-1].stem}.{end}"
    atomic_write(path / TORN / name, tail)
    descriptor = os.open(segments[-1], os.O_WRONLY)
    try:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync_dir(path)
    kept = sum(segment.read_bytes().count(b"\n") for segment in segments)
    return {
        "kept_events": kept,
        "cut_bytes": len(tail),
        "cut_sha256": hashlib.sha256(tail).hexdigest(),
        "cut_file": f"log/{attempt}-{rank}/{TORN}/{name}",
    }
