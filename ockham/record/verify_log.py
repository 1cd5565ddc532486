"""Verifying one log: every byte of its lines against schema, sequence, tiles and signed tree heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import InvalidEventError
from ockham.event import MAX_LINE_BYTES, TYPES, kind_of
from ockham.record.folder import RunFolder, first_sequence
from ockham.record.merkle import EMPTY, Frontier, leaf_hash
from ockham.record.note import NoteError, VerifierKey, open_note
from ockham.record.report import LogReport, Report
from ockham.record.schema import check_event, checker
from ockham.record.tiles import WIDTH, tile_path, tile_sizes
from ockham.record.tree_head import CHECKPOINT, HISTORY, TreeHead, origin, parse_head, split_history

_KINDS = frozenset(TYPES)


class Line(NamedTuple):
    """One whole line and where it stands; `event` is None where it is no event."""

    sequence: int
    segment: Path
    data: bytes
    event: Mapping[str, Any] | None


class LogCheck:
    """Reads one log once. Iterate over it, then ask for `finish`.

    Args:
        folder: the run's folder.
        attempt: from 1.
        rank: from 0.
        keys: keys that may have signed it.
        pins: tree heads of this log that were kept elsewhere.
        report: where findings go.

    """

    def __init__(
        self, folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey], pins: Sequence[TreeHead],
        report: Report,
    ) -> None:  # fmt: skip
        self.folder, self.attempt, self.rank, self.report = folder, attempt, rank, report
        self.path = folder.log(attempt, rank)
        self.about = LogReport(attempt, rank)
        self.leaves: list[bytes] = []
        self.roots: dict[int, bytes] = {0: EMPTY}
        self._frontier = Frontier()
        self._heads = self._signed_heads(keys)
        self._pins = {head.size: head.root for head in pins}
        self._wanted = {*self._heads, *self._pins}
        self._is_valid = checker()

    def __iter__(self) -> Iterator[Line]:
        """Every whole line in order, checked on its own."""
        for segment in self.folder.segments(self.attempt, self.rank):
            expected = self._frontier.size
            if first_sequence(segment) != expected:
                self._finding(
                    "gap",
                    segment,
                    f"begins with event {first_sequence(segment)}, and {expected} was expected",
                )
            data = segment.read_bytes()
            end = data.rfind(b"\n") + 1
            for raw in data[:end].split(b"\n")[:-1]:
                yield self._line(segment, raw)
            if end < len(data):
                self._tail(segment, data[end:])

    def finish(self) -> LogReport:
        """Compare the tree with heads, pins and tiles."""
        size = self._frontier.size
        self.about.events, self.about.root = size, self._frontier.root().hex()
        for head_size, root in sorted(self._heads.items()):
            self._head(head_size, root, "signed")
        for head_size, root in sorted(self._pins.items()):
            self._head(head_size, root, "pinned")
        if not self._heads and size:
            self._finding(
                "unsigned", self.path / CHECKPOINT, "no signed tree head that a known key vouches for"
            )
        self._tiles()
        return self.about

    def root_at(self, size: int) -> bytes | None:
        """The root of the first `size` events, None where the log is shorter."""
        if size > len(self.leaves):
            return None
        if size not in self.roots:
            frontier = Frontier()
            for leaf in self.leaves[:size]:
                frontier.append(leaf)
            self.roots[size] = frontier.root()
        return self.roots[size]

    def _line(self, segment: Path, raw: bytes) -> Line:
        sequence = self._frontier.size
        leaf = leaf_hash(raw)
        self.leaves.append(leaf)
        self._frontier.append(leaf)
        if self._frontier.size in self._wanted:
            self.roots[self._frontier.size] = self._frontier.root()
        return Line(sequence, segment, raw, self._event(segment, sequence, raw))

    def _event(self, segment: Path, sequence: int, raw: bytes) -> Mapping[str, Any] | None:
        """The event of a line, or a finding that says why it is none."""
        try:
            event = orjson.loads(raw)
            kind = kind_of(event["type"])
            data = event["data"]
            place = (data["sequence"], data["attempt"], data["rank"], event["source"])
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            self._finding("corruption", segment, f"event {sequence} is no event of ours ({error})", sequence)
            return None
        if kind not in _KINDS or not self._is_valid(kind, event):
            self._finding(
                "corruption",
                segment,
                f"event {sequence} does not fit its schema: {_why(kind, event)}",
                sequence,
            )
            return None
        if len(raw) > MAX_LINE_BYTES or orjson.dumps(event) != raw:
            what = (
                "is too long"
                if len(raw) > MAX_LINE_BYTES
                else "is not written as we write: a key twice, or other spacing"
            )
            self._finding("tampering", segment, f"event {sequence} {what}", sequence)
        expected = (sequence, self.attempt, self.rank, f"ockham://runs/{self.folder.run_id}")
        if place != expected:
            self._finding(
                "tampering",
                segment,
                f"event {sequence} says it is {place}, and stands at {expected}",
                sequence,
            )
        return dict(event)

    def _tail(self, segment: Path, tail: bytes) -> None:
        last = segment == self.folder.segments(self.attempt, self.rank)[-1]
        what = "zero bytes" if not tail.strip(b"\0") else "bytes without a newline"
        if last:
            self._finding("crash tail", segment, f"{len(tail)} {what} behind the last whole line")
        else:
            self._finding(
                "corruption", segment, f"{len(tail)} {what} at the end of a segment that others follow"
            )

    def _signed_heads(self, keys: Sequence[VerifierKey]) -> dict[int, bytes]:
        """Size -> root of every tree head with a good signature; all others are findings.

        The history is written before `checkpoint`, so after a crash `checkpoint` is the newest or the one before it,
        or is not there yet where there is but one; an unfinished last note is one that `checkpoint` does not have.
        """
        notes, torn = split_history(_bytes(self.path / HISTORY))
        newest = _bytes(self.path / CHECKPOINT)
        heads: dict[int, bytes] = {}
        for name, note in [*((HISTORY, note) for note in notes), *([(CHECKPOINT, newest)] if newest else [])]:
            head = self._open(name, note, keys)
            if head is None:
                continue
            if heads.get(head.size, head.root) != head.root:
                self._finding(
                    "tampering",
                    self.path / name,
                    f"two signed tree heads of size {head.size} with different roots",
                )
            heads[head.size] = head.root
            self.report.count("signed tree heads")
        if torn:
            self._finding("crash tail", self.path / HISTORY, f"{len(torn)} bytes of an unfinished tree head")
        if newest and newest not in notes[-2:]:
            self._finding(
                "tampering",
                self.path / CHECKPOINT,
                "is not the newest tree head of the history, nor the one before it",
            )
        elif not newest and len(notes) > 1:
            self._finding(
                "tampering", self.path / CHECKPOINT, "is missing, and the history has more than one tree head"
            )
        elif not newest and notes:
            self._finding(
                "crash tail",
                self.path / CHECKPOINT,
                "is missing: the first tree head stands in the history alone",
            )
        return heads

    def _open(self, name: str, note: bytes, keys: Sequence[VerifierKey]) -> TreeHead | None:
        """The tree head of a note, or a finding."""
        try:
            text, key = open_note(note, keys)
            where, head = parse_head(text)
        except NoteError as error:
            self._finding("tampering", self.path / name, f"a tree head cannot be believed: {error}")
            return None
        if where != origin(self.folder.run_id, self.attempt, self.rank):
            self._finding("tampering", self.path / name, f"a tree head of another log: {where!r:.120}")
            return None
        self.about.key = str(key)
        return head

    def _head(self, size: int, root: bytes, what: str) -> None:
        if size > self._frontier.size:
            self._finding(
                "tampering", self.path,
                f"{size} events were {what}, and {self._frontier.size} are there: {size - self._frontier.size} are gone",
            )  # fmt: skip
        elif self.roots.get(size) != root:
            at = self._first_difference()
            self._finding(
                "tampering", self.path, f"the first {size} events are not those that were {what}{at}"
            )
        elif what == "signed":
            self.about.signed = max(self.about.signed, size)
        else:
            self.about.pinned = max(self.about.pinned, size)

    def _first_difference(self) -> str:
        """Where the lines differ from the tiles, which help to find the place and prove nothing."""
        for level, index, width in tile_sizes(self._frontier.size):
            if level:
                break
            data = _bytes(self.path / tile_path(level, index, width))
            for at in range(width):
                leaf = self.leaves[index * WIDTH + at]
                if data[at * 32 : at * 32 + 32] not in (leaf, b""):
                    return f"; event {index * WIDTH + at} differs from its tile"
        return ""

    def _tiles(self) -> None:
        """The tiles of the newest signed tree, and those that a crash left of a later one: all of them true."""
        if self.about.signed != max(self._heads, default=0):
            return  # tampered: said already, and the tiles of what is there say nothing more
        levels = self._levels()
        for level, index, width in tile_sizes(self.about.signed):
            path = self.path / tile_path(level, index, width)
            if _bytes(path) != b"".join(levels[level][index * WIDTH : index * WIDTH + width]):
                self._finding(
                    "derived", path, "this tile is missing or does not hold the hashes of the lines"
                )
        for path in sorted((self.path / "tile").rglob("*")):
            if path.name.startswith(".") and path.suffix == ".tmp":
                self._finding("crash tail", path, "a tile that was being written")
            elif path.is_file():
                self.report.count("tiles")
                if not _is_tile(path.relative_to(self.path), path.read_bytes(), levels):
                    self._finding("derived", path, "no tile of this log")

    def _levels(self) -> list[list[bytes]]:
        """The hashes of every tile level: leaves, roots of 256 leaves, and so on."""
        levels = [self.leaves]
        while len(levels[-1]) >= WIDTH:
            below = levels[-1]
            levels.append([_root(below[i * WIDTH : (i + 1) * WIDTH]) for i in range(len(below) // WIDTH)])
        return levels

    def _finding(self, kind: Any, place: object, message: str, sequence: int | None = None) -> None:
        shown = Path(str(place))
        inside = shown.relative_to(self.folder.path) if shown.is_relative_to(self.folder.path) else shown
        self.report.add(kind, inside, message, sequence)


def _is_tile(name: Path, data: bytes, levels: Sequence[Sequence[bytes]]) -> bool:
    """Whether a file is a tile that the lines give, of this or an earlier size."""
    parts = name.parts[1:]
    width = WIDTH
    if len(parts) > 2 and parts[-2].endswith(".p"):
        if not parts[-1].isdigit():
            return False
        width, parts = int(parts[-1]), (*parts[:-2], parts[-2].removesuffix(".p"))
    digits = "".join(part.removeprefix("x") for part in parts[1:])
    if not parts[0].isdigit() or not digits.isdigit() or not 0 < width <= WIDTH or len(digits) > 18:
        return False
    level, index = int(parts[0]), int(digits)
    if level >= len(levels) or tile_path(level, index, width) != str(name):
        return False
    expected = levels[level][index * WIDTH : index * WIDTH + width]
    return len(expected) == width and data == b"".join(expected)


def _root(leaves: Sequence[bytes]) -> bytes:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _why(kind: str, event: dict[str, Any]) -> str:
    if kind not in _KINDS:
        return f"unknown type {event.get('type')!r:.80}"
    try:
        check_event(kind, event)
    except InvalidEventError as error:
        return str(error)
    return "it does now"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
