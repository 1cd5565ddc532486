"""Status of a log from its last lines: writer, end, torn and unsigned parts.

It proves nothing; see `verify`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import UnverifiableError
from ockham.event import event_type
from ockham.record.lock_support import NO_LOCKS
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.signed_heads import claimed_size, read_or_empty
from ockham.record.tlog.tree_head import CHECKPOINT

# May follow run.finished; does not itself end the log.
SEALED_TYPE = event_type("log.sealed")
# A line has at most 65,535: two complete lines and a torn one fit.
_TAIL_BYTES = 262_144


class LogStatus(NamedTuple):
    """Status of one log, from its last lines only.

    Attributes:
        writing: True if a process holds its lock.
        events: Number of complete lines.
        last: Type of the last complete line that does not seal a segment, such as `run.finished`. None if
            unknown.
        reason_code: Why the log ended, if the last line contains it.
        torn_bytes: Bytes after the last newline.
        signed_events: Size of the newest tree head, whose signature is not checked here. None without one.

    """

    writing: bool
    events: int
    last: str | None
    reason_code: str | None
    torn_bytes: int
    signed_events: int | None

    @property
    def finished(self) -> bool:
        """True if the log contains the end of the run."""
        return self.last == "run.finished"


def read_log_status(folder: RunFolder, attempt: int, rank: int) -> LogStatus:
    """Return the status of a log.

    Raises:
        UnverifiableError: If its last complete line is not an event, or its files cannot be read.

    """
    path = folder.log_dir(attempt, rank)
    try:
        lines, torn = _last_lines(folder.segments(attempt, rank))
        newest: list[dict[str, Any]] = [orjson.loads(line) for line in lines]
        events = int(newest[-1]["data"]["sequence"]) + 1 if newest else 0
        events_before_seal = [event for event in newest if event["type"] != SEALED_TYPE]
        last = next(reversed(events_before_seal or newest), None)
        kind = None if last is None else str(last["type"]).removeprefix("ockham.").removesuffix(".v1")
        reason = None if last is None else last["data"].get("reason_code")
        return LogStatus(is_locked(path / "lock"), events, kind, reason, torn, _signed(path / CHECKPOINT))
    except OSError as error:
        raise UnverifiableError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnverifiableError(f"{path}: the last line is not an event; run `ockham verify`") from None


def _last_lines(segments: list[Path]) -> tuple[list[bytes], int]:
    """Return the last complete lines, back to one that does not seal a segment, and the number of torn bytes.

    log.sealed events can follow run.finished: one is appended for each segment that still had to be sealed.
    """
    found: list[bytes] = []
    torn = 0
    for segment in reversed(segments):
        with open_regular_file(segment) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
        *whole, tail = data.split(b"\n")
        # The first one begins before these bytes.
        whole = whole[1:] if size > _TAIL_BYTES else whole
        torn += 0 if found else len(tail)
        for line in reversed(whole):
            found.insert(0, line)
            if orjson.loads(line)["type"] != SEALED_TYPE:
                return found, torn
    return found, torn


def is_locked(lock: Path) -> bool:
    """Return True if a writer holds the lock. Tests with a shared lock that is released at once."""
    try:
        # A pipe in its place would be waited for.
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        # No process can hold a lock there. The writer refuses such a file system.
        if error.errno not in NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False


def _signed(checkpoint: Path) -> int | None:
    size = claimed_size(read_or_empty(checkpoint))
    return None if size < 0 else size
