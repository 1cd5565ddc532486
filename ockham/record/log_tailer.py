"""Reading a log as it grows: whole lines in order, from any place, without ever writing.

Lines come in the order of their log; of several logs the older attempt and the lower rank come first. A torn tail is left
where it is until its newline comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from ockham.event import event_kind
from ockham.record.run_folder import RunFolder, first_sequence

Log = tuple[int, int]
READ_BYTES = 1 << 20
_LAST_BYTES = 1 << 18


class Line(NamedTuple):
    """One event: its log (attempt, rank), its sequence there, and its exact bytes without the newline."""

    log: Log
    sequence: int
    content: bytes


class LogTailer:
    """Whole lines of one log from a sequence on; remembers its place in the file between calls.

    Args:
        folder: the run's folder.
        log: (attempt, rank).
        sequence: of the first line that is wanted.

    """

    def __init__(self, folder: RunFolder, log: Log, sequence: int = 0) -> None:
        self.folder, self.log, self.sequence = folder, log, sequence
        self._segment: Path | None = None
        self._offset = 0
        self._at = 0  # sequence of the line at the offset

    def lines(self, limit: int = 1_000) -> list[Line]:
        """At most `limit` further lines; none where nothing has come."""
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
        """Go to the segment that holds the wanted sequence."""
        holding = [s for s in self.folder.segments(*self.log) if first_sequence(s) <= self.sequence]
        if not holding:
            return False
        self._segment, self._offset, self._at = holding[-1], 0, first_sequence(holding[-1])
        return True

    def _advance_segment(self) -> bool:
        """Go to the next segment, where this one has been read and a next one begins where it ends."""
        following = [s for s in self.folder.segments(*self.log) if first_sequence(s) == self._at]
        if not following or following[0] == self._segment:
            return False
        self._segment, self._offset = following[0], 0
        return True

    def _read(self, limit: int) -> list[Line]:
        assert self._segment is not None  # `lines` opens it first
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
    """Lines of all logs of a run, new attempts and ranks as they appear.

    Args:
        folder: the run's folder.
        position: the next sequence wanted of each log; logs without one are read from their start.

    """

    def __init__(self, folder: RunFolder, position: Mapping[Log, int] | None = None) -> None:
        self.folder = folder
        self._position = dict(position or {})
        self._readers: dict[Log, LogTailer] = {}
        self._ends: dict[Log, bool] = {}

    def lines(self, limit: int = 1_000) -> list[Line]:
        """At most `limit` further lines."""
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
        """Whether every log of the newest attempt says that the run has ended there."""
        newest = self.folder.last_attempt()
        logs = [log for log in self.folder.logs() if log[0] == newest]
        return bool(logs) and all(self._ends.get(log) or _finished_at_tail(self.folder, log) for log in logs)


def is_run_finished(content: bytes) -> bool:
    """Whether a line is a run's end."""
    return b"run.finished" in content and peek_event_kind(content) == "run.finished"


def peek_event_kind(content: bytes) -> str:
    """What a line tells of, such as `decision.made`; empty where it is no event: a stranger may have written it."""
    try:
        event = orjson.loads(content)
        return event_kind(event["type"]) if isinstance(event["data"], dict) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _finished_at_tail(folder: RunFolder, log: Log) -> bool:
    """Whether the end is among the last lines: what seals the segment may come after it, in the next one even."""
    return any(
        is_run_finished(line) for segment in folder.segments(*log)[-2:] for line in _last_lines(segment)
    )


def _last_lines(segment: Path) -> list[bytes]:
    """Whole lines among the last 256 KiB of a segment: four of the longest that there may be."""
    with segment.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LAST_BYTES))
        return file.read().split(b"\n")[1 if size > _LAST_BYTES else 0 : -1]
