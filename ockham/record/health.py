"""What one look at a log tells: who writes it, how it ended, what is torn or unsigned. No proof: that is `verify`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import CannotJudgeError
from ockham.record.folder import RunFolder, open_file, read_file
from ockham.record.note import NoteError
from ockham.record.tree_head import CHECKPOINT, parse_head

_TAIL_BYTES = 131_072  # a line has at most 65,535, so a whole one lies in here


class Health(NamedTuple):
    """One log, without reading more than its last lines.

    Attributes:
        writing: a process holds its lock.
        events: whole lines.
        last: type of the last whole line, such as `run.finished`; None where there is none.
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


def health(folder: RunFolder, attempt: int, rank: int) -> Health:
    """Look at a log.

    Raises:
        CannotJudgeError: if its last whole line is no event, or its files can't be read.

    """
    path = folder.log(attempt, rank)
    try:
        line, torn = _last_line(folder.segments(attempt, rank))
        last: dict[str, Any] | None = None if line is None else orjson.loads(line)
        events = 0 if last is None else int(last["data"]["sequence"]) + 1
        kind = None if last is None else str(last["type"]).removeprefix("ockham.").removesuffix(".v1")
        reason = None if last is None else last["data"].get("reason_code")
        return Health(_locked(path / "lock"), events, kind, reason, torn, _signed(path / CHECKPOINT))
    except OSError as error:
        raise CannotJudgeError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CannotJudgeError(f"{path}: the last line is no event; `ockham verify` says more") from None


def _last_line(segments: list[Path]) -> tuple[bytes | None, int]:
    """The last line that ends in a newline, and the bytes behind it."""
    torn = 0
    for segment in reversed(segments):
        with open_file(segment) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
        whole, newline, tail = data.rpartition(b"\n")
        torn += len(tail)
        if newline:
            return whole.rpartition(b"\n")[2], torn
    return None, torn


def _locked(lock: Path) -> bool:
    """Whether a writer holds the lock; asked by a shared lock that is given back at once, so nothing is written."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
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
        return parse_head(read_file(checkpoint).decode())[1].size
    except (FileNotFoundError, NoteError, UnicodeDecodeError):
        return None
