"""What one look at a log tells: who writes it, how it ended, what is torn or unsigned. No proof: that is `verify`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import UnverifiableError
from ockham.event import event_type
from ockham.record.run_folder import RunFolder, open_regular_file, read_regular_file
from ockham.record.tlog.note import NoteError
from ockham.record.tlog.tree_head import CHECKPOINT, parse_head

SEALED_TYPE = event_type("log.sealed")  # comes behind an end that fills its segment, and is none
_TAIL_BYTES = 262_144  # a line has at most 65,535, so two whole ones and a torn one lie in here


class LogStatus(NamedTuple):
    """One log, without reading more than its last lines.

    Attributes:
        writing: a process holds its lock.
        events: whole lines.
        last: type of the last whole line but for what seals a segment, such as `run.finished`; None where there is none.
        reason_code: why it ended, where the last line says so.
        torn_bytes: behind the last newline.
        signed_events: size of the newest tree head, whose signature is not checked here; None without one.

    """

    writing: bool
    events: int
    last: str | None
    reason_code: str | None
    torn_bytes: int
    signed_events: int | None


def read_log_status(folder: RunFolder, attempt: int, rank: int) -> LogStatus:
    """Look at a log.

    Raises:
        UnverifiableError: if its last whole line is no event, or its files can't be read.

    """
    path = folder.log_dir(attempt, rank)
    try:
        lines, torn = _last_lines(folder.segments(attempt, rank))
        newest: list[dict[str, Any]] = [orjson.loads(line) for line in lines]
        events = int(newest[-1]["data"]["sequence"]) + 1 if newest else 0
        told = [event for event in newest if event["type"] != SEALED_TYPE]
        last = next(reversed(told or newest), None)
        kind = None if last is None else str(last["type"]).removeprefix("ockham.").removesuffix(".v1")
        reason = None if last is None else last["data"].get("reason_code")
        return LogStatus(_locked(path / "lock"), events, kind, reason, torn, _signed(path / CHECKPOINT))
    except OSError as error:
        raise UnverifiableError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnverifiableError(f"{path}: the last line is no event; `ockham verify` says more") from None


def _last_lines(segments: list[Path]) -> tuple[list[bytes], int]:
    """The last lines that end in a newline, from one on that seals no segment, and the bytes behind them.

    What seals segments may stand behind the end: it was handed over after it, once for each segment that waited.
    """
    found: list[bytes] = []
    torn = 0
    for segment in reversed(segments):
        with open_regular_file(segment) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
        *whole, tail = data.split(b"\n")
        whole = whole[1:] if size > _TAIL_BYTES else whole  # the first one begins before these bytes
        torn += 0 if found else len(tail)
        for line in reversed(whole):
            found.insert(0, line)
            if orjson.loads(line)["type"] != SEALED_TYPE:
                return found, torn
    return found, torn


def _locked(lock: Path) -> bool:
    """Whether a writer holds the lock; asked by a shared lock that is given back at once, so nothing is written."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place would be waited for
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _signed(checkpoint: Path) -> int | None:
    try:
        return parse_head(read_regular_file(checkpoint).decode())[1].size
    except (FileNotFoundError, NoteError, UnicodeDecodeError):
        return None
