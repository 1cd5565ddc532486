"""Verification of one segment of a log, line by line. Several cores share this work.

The state at the start of a segment is read from the lines before it. After a batch's context nothing is
pending.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import InvalidEventError
from ockham.event import MAX_LINE_BYTES, TYPES, event_kind
from ockham.record.fast_decode import CONTEXT, ContextData, Event, FastDecoder, to_struct
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.schema import make_validator, validate_event
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.tiles import WIDTH
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import VerificationReport
from ockham.record.verify.sequence import SequenceChecker

# bytes: some 300 lines, read at once.
CHUNK = 1 << 18
_KINDS = frozenset(TYPES)


class SegmentTask(NamedTuple):
    """One segment to verify."""

    folder: RunFolder
    attempt: int
    rank: int
    segment: Path
    # The segment before it.
    before: Path | None
    # No segment follows.
    last: bool
    # How many lines the ones before it have.
    first: int
    # Ranks that began this attempt.
    world_size: int = 1
    # Number of lines of the log that a signature can cover. Later lines are hashed only.
    signed: int = 0


class SegmentResult(NamedTuple):
    """Findings of one segment, and the facts that the verification of the log needs."""

    report: VerificationReport
    summary: LogSummary
    # 32 bytes a line.
    leaves: bytearray
    # Where lines 0, 256, 512, ... of the log begin in the file.
    block_offsets: list[int]


def verify_segment(task: SegmentTask) -> SegmentResult:
    """Check every line of a segment."""
    segment = task.segment
    report = VerificationReport(task.folder.run_id)
    story = SequenceChecker(
        task.folder, task.attempt, task.rank, VerificationReport(task.folder.run_id), task.world_size
    )
    lines = LineVerifier(task.folder, task.attempt, task.rank, segment, report)
    before = _pending_events(task)
    story.feed(task.first - len(before), before[: max(0, task.signed - task.first + len(before))])
    story.start_reporting(report)
    leaves, starts = bytearray(), list[int]()
    sequence, offset = task.first, 0
    for raws in _chunks(segment):
        judged = raws[: max(0, task.signed - sequence)]
        story.feed(sequence, lines.events(judged, sequence))
        story.feed_unsigned(raws[len(judged) :])
        leaves += b"".join(_leaves(raws))
        for at in range(-sequence % WIDTH, len(raws), WIDTH):
            starts.append(offset + sum(map(len, raws[:at])) + at)
        sequence, offset = sequence + len(raws), offset + sum(map(len, raws)) + len(raws)
    report.count("events", max(0, min(sequence, task.signed) - task.first))
    _tail(task, segment, offset, report)
    return SegmentResult(report, story.finish(), leaves, starts)


class LineVerifier:
    """Checks single lines: JSON as the writer encodes it, schema and position.

    Args:
        folder: The run's folder.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        segment: Segment name in messages.
        report: Report to which findings are added.

    """

    def __init__(
        self, folder: RunFolder, attempt: int, rank: int, segment: Path, report: VerificationReport
    ) -> None:
        self.attempt, self.rank, self.report = attempt, rank, report
        self.place = segment.relative_to(folder.path)
        self.source = f"ockham://runs/{folder.run_id}"
        self._bulk = FastDecoder(self.source, attempt, rank)
        self._is_valid = make_validator()

    def events(self, raws: Sequence[bytes], first: int) -> list[Event | None]:
        """Return the event of each line, or None for a line that is not an event and was reported."""
        found = self._bulk.read(raws, first)
        for at, event in enumerate(found):
            if event is None:
                found[at] = self.event(raws[at], first + at)
        return found

    def event(self, raw: bytes, sequence: int) -> Event | None:
        """Return the event of one line, or None after adding a finding."""
        try:
            event = decode_line(raw)
            kind = event_kind(event["type"])
            data = event["data"]
            place = (data["sequence"], data["attempt"], data["rank"], event["source"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._finding("corruption", f"event {sequence} is not an event of Ockham ({error})", sequence)
            return None
        if kind not in _KINDS or not self._is_valid(kind, event):
            self._finding(
                "corruption",
                f"event {sequence} does not fit its schema: {_schema_error(kind, event)}",
                sequence,
            )
            return None
        if len(raw) > MAX_LINE_BYTES:
            self._finding("tampering", f"event {sequence} is too long", sequence)
        elif orjson.dumps(event) != raw:
            what = "is not written as we write: a key twice, or other spacing"
            self._finding("tampering", f"event {sequence} {what}", sequence)
        expected = (sequence, self.attempt, self.rank, self.source)
        if place != expected:
            message = f"event {sequence} names position {place}, but is at {expected}"
            self._finding("tampering", message, sequence, f"places in log {self.attempt}-{self.rank}")
        return kind, event["id"], to_struct(kind, data)

    def _finding(self, kind: Any, message: str, sequence: int, cause: str = "") -> None:
        self.report.add(kind, self.place, message, sequence, cause)


def _pending_events(task: SegmentTask) -> list[Event | None]:
    """Return the events since the first micro-batch of the present step: the state at the segment's start."""
    found: list[Event | None] = []
    # Reported with those segments.
    unsaid = VerificationReport(task.folder.run_id)
    check = LineVerifier(task.folder, task.attempt, task.rank, task.segment, unsaid)
    for segment in _segments_before(task):
        for raw in _iter_lines_reversed(segment):
            event = check.event(raw, 0)
            found.append(event)
            if event is not None and event[0] == CONTEXT and _begins_step(event[2]):
                return found[::-1]
    return found[::-1]


def _begins_step(context: ContextData) -> bool:
    return context.hook == "batch" and context.micro_step == 0


def _segments_before(task: SegmentTask) -> Iterator[Path]:
    """Yield the earlier segments, the newest first. Usually the first one is enough."""
    if task.before is None:
        return
    yield task.before
    everything = task.folder.segments(task.attempt, task.rank)
    yield from reversed(everything[: everything.index(task.before)])


def _iter_lines_reversed(segment: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file from its end. Usually the first few are enough."""
    with open_regular_file(segment) as file:
        start = max(0, segment.stat().st_size - CHUNK)
        file.seek(start)
        data = file.read()
    lines = data.split(b"\n")[:-1]
    if start:
        # Begins somewhere in a line.
        del lines[:1]
    yield from reversed(lines)
    if start:
        whole = read_complete_lines(segment)[0]
        yield from reversed(whole[: len(whole) - len(lines)])


def _chunks(segment: Path) -> Iterator[list[bytes]]:
    """Yield the complete lines of a file without their newlines, in chunks."""
    begun: list[bytes] = []
    with open_regular_file(segment) as file:
        while data := file.read(CHUNK):
            raws = data.split(b"\n")
            begun.append(raws.pop(0))
            if raws:
                raws.insert(0, b"".join(begun))
                begun = [raws.pop()]
                yield raws


def _leaves(raws: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the leaf hash of each line.

    Copying a hash that contains the zero byte is faster than prefixing it.
    """
    leaf = sha256(b"\0").copy
    for raw in raws:
        hashed = leaf()
        hashed.update(raw)
        yield hashed.digest()


def _tail(task: SegmentTask, segment: Path, whole: int, report: VerificationReport) -> None:
    """Report the bytes after the last newline."""
    with open_regular_file(segment) as file:
        file.seek(whole)
        tail = file.read()
    if not tail:
        return
    kind = "zero bytes" if not tail.strip(bytes(1)) else "bytes without a newline"
    what = f"{len(tail)} {kind}"
    place = segment.relative_to(task.folder.path)
    if task.last:
        report.add("crash tail", place, f"{what} after the last complete line")
    else:
        report.add("corruption", place, f"{what} at the end of a segment that others follow")


def _schema_error(kind: str, event: Mapping[str, Any]) -> str:
    if kind not in _KINDS:
        return f"unknown type {event.get('type')!r:.80}"
    try:
        validate_event(kind, dict(event))
    except InvalidEventError as error:
        return str(error)
    return "it does now"
