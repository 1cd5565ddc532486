"""A log split into chunks at its key frames. Each chunk can be replayed in any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import UnverifiableError
from ockham.record.evidence import read_signed_log
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder, open_regular_file, read_regular_file
from ockham.record.verify.run import own_keys
from ockham.replay.log_reader import START_TRIGGERS, KeyFrame, parse_key_frame

_LOADED = b"ockham.policy.loaded.v1"
_FRAME = b"ockham.plugin_state.recorded.v1"


class ByteRange(NamedTuple):
    """Bytes `start` to `end` of one segment."""

    segment: Path
    start: int
    end: int


@dataclass(slots=True)
class Chunk:
    """The lines from one key frame up to and including the next.

    The last one is compared with the replayed state. `revision` is the policy of the chunk.
    """

    attempt: int
    rank: int
    first_iter: int
    revision: str
    spans: list[ByteRange] = field(default_factory=list)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the chunk."""
        for span in self.spans:
            with open_regular_file(span.segment) as file:
                file.seek(span.start)
                yield from file.read(span.end - span.start).split(b"\n")[:-1]


@dataclass(slots=True)
class LogChunks:
    """Chunks of one log.

    Attributes:
        revision: First policy revision of this attempt. Interventions change it.
        loaded: Data of its first `policy.loaded`.
        frames: Its key frames with their states.
        events: Number of complete lines.
        size: Number of their bytes.

    """

    attempt: int
    rank: int
    revision: str = ""
    loaded: dict[str, Any] = field(default_factory=dict)
    stretches: list[Chunk] = field(default_factory=list)
    frames: list[KeyFrame] = field(default_factory=list)
    events: int = 0
    size: int = 0
    unsigned: int = 0
    problem: str = ""


def split_log(folder: RunFolder, attempt: int, rank: int) -> LogChunks:
    """Find policy and key frames of one log. Other lines are not parsed.

    Unsigned lines are left out and counted. If the lines differ from what was signed, all are used, and
    `problem` names it.

    Raises:
        UnverifiableError: If the log cannot be read, or decides without a policy.

    """
    found = LogChunks(attempt, rank)
    signed = read_signed_log(folder, attempt, rank, own_keys(folder))
    found.problem = next(iter(signed.problems), "")
    end_of_signed = None if found.problem else signed.end
    found.unsigned = 0 if found.problem else signed.events - signed.signed
    decides = False
    open_: Chunk | None = None
    revision = ""
    for segment in folder.segments(attempt, rank):
        try:
            content = read_regular_file(segment)
        except OSError as error:
            raise UnverifiableError(f"cannot read {segment}: {error.strerror}") from None
        if end_of_signed is not None and segment == end_of_signed[0]:
            content = content[: end_of_signed[1]]
        end, begin = content.rfind(b"\n") + 1, 0
        decides = decides or b'"type":"ockham.context.recorded.v1"' in content
        found.events += content.count(b"\n")
        found.size += end
        for at, line, loaded in _policies_and_frames(content):
            if loaded is not None:
                revision = str(loaded.get("policy_revision", ""))
                found.loaded, found.revision = found.loaded or loaded, found.revision or revision
                continue
            frame = _frame(folder, line, revision)
            found.frames.append(frame)
            if frame.trigger in START_TRIGGERS:
                if open_ is not None:
                    open_.spans.append(ByteRange(segment, begin, at + len(line) + 1))
                begin, open_ = at, Chunk(attempt, rank, frame.iter_num, revision)
                found.stretches.append(open_)
        if open_ is not None:
            open_.spans.append(ByteRange(segment, begin, end))
        if end_of_signed is not None and segment == end_of_signed[0]:
            break
    if decides and not found.revision.startswith("sha256:"):
        raise UnverifiableError(
            f"log {attempt}-{rank} of run {folder.run_id} names no policy: nothing to replay with"
        )
    return found


def _policies_and_frames(content: bytes) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
    """Yield position and line of each `policy.loaded`, with its data, and of each key frame, with None."""
    loaded, frames = (dict(_find_lines(words, content)) for words in (_LOADED, _FRAME))
    for at, line in sorted((loaded | frames).items()):
        # The state of a plugin can contain the name of another type.
        kind = _decode(line).get("type")
        if kind == _LOADED.decode():
            yield at, line, _data(line)
        elif kind == _FRAME.decode():
            yield at, line, None


def _find_lines(words: bytes, content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield complete lines that contain these bytes, and their positions, with one search per match."""
    end = 0
    while (hit := content.find(words, end)) >= 0:
        begin, end = content.rfind(b"\n", 0, hit) + 1, content.find(b"\n", hit)
        if end < 0:
            return
        yield begin, content[begin:end]


def _frame(folder: RunFolder, line: bytes, revision: str) -> KeyFrame:
    data = _data(line)
    try:
        frame = parse_key_frame(folder, data)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UnverifiableError(
            f"the key frame at sequence {data.get('sequence')} of run {folder.run_id} cannot be read: {error}"
        ) from None
    frame.revision = revision
    return frame


def _decode(line: bytes) -> dict[str, Any]:
    try:
        return dict(decode_line(line))
    except (TypeError, ValueError) as error:
        raise UnverifiableError(f"a line that is not an event of Ockham: {line[:80]!r} ({error})") from None


def _data(line: bytes) -> dict[str, Any]:
    try:
        return dict(_decode(line)["data"])
    except (KeyError, TypeError, ValueError) as error:
        # Also for text in place of a mapping.
        raise UnverifiableError(f"a line that is not an event of Ockham: {line[:80]!r} ({error})") from None
