"""Verifying one segment of a log, line by line: the part of the work that other cores can share.

What a segment's story begins with is found in the lines before it: behind a batch's context nothing is pending.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import InvalidEventError
from ockham.event import MAX_LINE_BYTES, TYPES, event_kind
from ockham.record.fast_decode import CONTEXT, Event, FastDecoder, to_struct
from ockham.record.parquet.tables import read_complete_lines
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.schema import make_validator, validate_event
from ockham.record.tlog.tiles import WIDTH
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import VerificationReport
from ockham.record.verify.sequence import SequenceChecker

CHUNK = 1 << 18  # bytes: some 300 lines, read at once
_KINDS = frozenset(TYPES)


class SegmentTask(NamedTuple):
    """One segment to be judged."""

    folder: RunFolder
    attempt: int
    rank: int
    segment: Path
    before: Path | None  # the segment before it
    last: bool  # no segment follows
    first: int  # how many lines the ones before it have
    world_size: int = 1  # ranks that began this attempt


class SegmentResult(NamedTuple):
    """What was found in one segment, and what the whole log needs of it."""

    report: VerificationReport
    summary: LogSummary
    leaves: bytearray  # 32 bytes a line
    block_offsets: list[int]  # where lines 0, 256, 512, ... of the log begin in the file


def verify_segment(task: SegmentTask) -> SegmentResult:
    """Check every line of a segment."""
    segment = task.segment
    report = VerificationReport(task.folder.run_id)
    story = SequenceChecker(
        task.folder, task.attempt, task.rank, VerificationReport(task.folder.run_id), task.world_size
    )
    lines = LineVerifier(task.folder, task.attempt, task.rank, segment, report)
    before = _pending_events(task)
    story.feed(task.first - len(before), before)
    story.start_reporting(report)
    leaves, starts = bytearray(), list[int]()
    sequence, offset = task.first, 0
    for raws in _chunks(segment):
        story.feed(sequence, lines.events(raws, sequence))
        leaves += b"".join(_leaves(raws))
        for at in range(-sequence % WIDTH, len(raws), WIDTH):
            starts.append(offset + sum(map(len, raws[:at])) + at)
        sequence, offset = sequence + len(raws), offset + sum(map(len, raws)) + len(raws)
    report.count("events", sequence - task.first)
    _tail(task, segment, offset, report)
    return SegmentResult(report, story.finish(), leaves, starts)


class LineVerifier:
    """Each line on its own: JSON as we write it, its schema, its place.

    Args:
        folder: the run's folder.
        attempt: from 1.
        rank: from 0.
        segment: for the messages.
        report: where findings go.

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
        """The event of each line, None where it is none: then the report says why."""
        found = self._bulk.read(raws, first)
        for at, event in enumerate(found):
            if event is None:
                found[at] = self.event(raws[at], first + at)
        return found

    def event(self, raw: bytes, sequence: int) -> Event | None:
        """The event of one line, or a finding that says why it is none."""
        try:
            event = decode_line(raw)
            kind = event_kind(event["type"])
            data = event["data"]
            place = (data["sequence"], data["attempt"], data["rank"], event["source"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._finding("corruption", f"event {sequence} is no event of ours ({error})", sequence)
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
            said = f"event {sequence} says it is {place}, and stands at {expected}"
            self._finding("tampering", said, sequence, f"places in log {self.attempt}-{self.rank}")
        return kind, event["id"], to_struct(kind, data)

    def _finding(self, kind: Any, message: str, sequence: int, cause: str = "") -> None:
        self.report.add(kind, self.place, message, sequence, cause)


def _pending_events(task: SegmentTask) -> list[Event | None]:
    """The events since the last context of a batch in earlier segments: all that a story must know of them."""
    found: list[Event | None] = []
    unsaid = VerificationReport(task.folder.run_id)  # whoever judges those segments says it
    check = LineVerifier(task.folder, task.attempt, task.rank, task.segment, unsaid)
    for segment in _segments_before(task):
        for raw in _iter_lines_reversed(segment):
            event = check.event(raw, 0)
            found.append(event)
            if event is not None and event[0] == CONTEXT and event[2].hook == "batch":
                return found[::-1]
    return found[::-1]


def _segments_before(task: SegmentTask) -> Iterator[Path]:
    """The newest first; mostly the first one is enough."""
    if task.before is None:
        return
    yield task.before
    everything = task.folder.segments(task.attempt, task.rank)
    yield from reversed(everything[: everything.index(task.before)])


def _iter_lines_reversed(segment: Path) -> Iterator[bytes]:
    """The whole lines of a file from its end; mostly the first few are enough."""
    with open_regular_file(segment) as file:
        start = max(0, segment.stat().st_size - CHUNK)
        file.seek(start)
        data = file.read()
    lines = data.split(b"\n")[:-1]
    if start:
        del lines[:1]  # begins somewhere in a line
    yield from reversed(lines)
    if start:
        whole = read_complete_lines(segment)[0]
        yield from reversed(whole[: len(whole) - len(lines)])


def _chunks(segment: Path) -> Iterator[list[bytes]]:
    """The whole lines of a file, without their newlines, some at a time."""
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
    """The leaf hash of each line; to copy a hash that has taken the zero byte is cheaper than to put the byte before."""
    leaf = sha256(b"\0").copy
    for raw in raws:
        hashed = leaf()
        hashed.update(raw)
        yield hashed.digest()


def _tail(task: SegmentTask, segment: Path, whole: int, report: VerificationReport) -> None:
    """Bytes behind the last newline."""
    with open_regular_file(segment) as file:
        file.seek(whole)
        tail = file.read()
    if not tail:
        return
    what = f"{len(tail)} {'zero bytes' if not tail.strip(bytes(1)) else 'bytes without a newline'}"
    place = segment.relative_to(task.folder.path)
    if task.last:
        report.add("crash tail", place, f"{what} behind the last whole line")
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
