"""Reader of growing logs: complete lines in order, from any sequence number, without writing.

Lines have the order of their log. Of several logs the older attempt and the lower rank come first. A torn
tail is not read until its newline is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from ockham.errors import UnverifiableError
from ockham.event import event_kind
from ockham.record.log_status import is_locked, read_log_status
from ockham.record.run_folder import RunFolder, first_sequence

Log = tuple[int, int]
READ_BYTES = 1 << 20


class Line(NamedTuple):
    """One event: its log (attempt, rank), its sequence number, and its exact bytes without the newline."""

    log: Log
    sequence: int
    content: bytes


class LogTailer:
    """Reader of complete lines of one log from a sequence number on.

    It stores its file position between calls.

    Args:
        folder: The run's folder.
        log: (attempt, rank).
        sequence: Sequence number of the first line to read.

    """

    def __init__(self, folder: RunFolder, log: Log, sequence: int = 0) -> None:
        self.folder, self.log, self.sequence = folder, log, sequence
        self._segment: Path | None = None
        self._offset = 0
        # Sequence of the line at the offset.
        self._at = 0

    def lines(self, limit: int = 1_000) -> list[Line]:
        """Return at most `limit` further lines, or an empty list."""
        found: list[Line] = []
        while len(found) < limit:
            if self._segment is None and not self._open():
                break
            fresh = self._read(limit - len(found))
            found += fresh
            if not fresh and not self._advance_segment():
                break
        return found

    def _open(self) -> bool:
        """Open the segment that contains the next sequence number."""
        holding = [s for s in self.folder.segments(*self.log) if first_sequence(s) <= self.sequence]
        if not holding:
            return False
        self._segment, self._offset, self._at = holding[-1], 0, first_sequence(holding[-1])
        return True

    def _advance_segment(self) -> bool:
        """Open the next segment if this one was read completely and the next one continues it."""
        following = [s for s in self.folder.segments(*self.log) if first_sequence(s) == self._at]
        if not following or following[0] == self._segment:
            return False
        self._segment, self._offset = following[0], 0
        return True

    def _read(self, limit: int) -> list[Line]:
        # `lines` opens it first.
        assert self._segment is not None
        found: list[Line] = []
        with self._segment.open("rb") as file:
            file.seek(self._offset)
            while len(found) < limit:
                data = file.read(READ_BYTES)
                end = data.rfind(b"\n") + 1
                if end == 0:
                    break
                taken = 0
                for content in data[:end].split(b"\n")[:-1]:
                    if len(found) >= limit:
                        break
                    if self._at >= self.sequence:
                        found.append(Line(self.log, self._at, content))
                        self.sequence = self._at + 1
                    self._at += 1
                    taken += len(content) + 1
                self._offset += taken
                file.seek(self._offset)
        return found


class RunTailer:
    """Reader of all logs of a run, including new attempts and ranks.

    Args:
        folder: The run's folder.
        position: Next sequence number of each log. Logs without one are read from their start.

    """

    def __init__(self, folder: RunFolder, position: Mapping[Log, int] | None = None) -> None:
        self.folder = folder
        self._position = dict(position or {})
        self._readers: dict[Log, LogTailer] = {}
        self._ends: dict[Log, bool] = {}

    def lines(self, limit: int = 1_000) -> list[Line]:
        """Return at most `limit` further lines."""
        found: list[Line] = []
        for log in self.folder.logs():
            if log not in self._readers:
                self._readers[log] = LogTailer(self.folder, log, self._position.get(log, 0))
            fresh = self._readers[log].lines(limit - len(found))
            self._ends[log] = self._ends.get(log, False) or any(
                is_run_finished(line.content) for line in fresh
            )
            found += fresh
            if len(found) >= limit:
                break
        return found

    def is_finished(self) -> bool:
        """Return True if the newest attempt has ended.

        At least one of its logs contains the end, and no process writes the others: the process of a killed
        rank writes no end.
        """
        newest = self.folder.last_attempt()
        logs = [log for log in self.folder.logs() if log[0] == newest]
        ended = [bool(self._ends.get(log)) or _has_finished(self.folder, log) for log in logs]
        return any(ended) and all(
            has_end or not is_locked(self.folder.log_dir(*log) / "lock")
            for log, has_end in zip(logs, ended, strict=True)
        )


def is_run_finished(content: bytes) -> bool:
    """Return True if a line is run.finished."""
    return b"run.finished" in content and peek_event_kind(content) == "run.finished"


def peek_event_kind(content: bytes) -> str:
    """Return the kind of an event, such as `decision.made`. Empty if the line is not an event."""
    try:
        event = orjson.loads(content)
        return event_kind(event["type"]) if isinstance(event["data"], dict) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _has_finished(folder: RunFolder, log: Log) -> bool:
    try:
        return read_log_status(folder, *log).finished
    except UnverifiableError:
        return False
