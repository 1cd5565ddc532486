"""Evidence: the signed lines of a run under given keys and pins.

A line is evidence if a tree head with a valid signature covers it, and the root of the lines up to that head
is the signed one. All other lines were never acknowledged, and no command uses them as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import LogError, UnverifiableError
from ockham.event import event_type
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines, read_first_event
from ockham.record.tlog.merkle import EMPTY, CompactRange, leaf_hash
from ockham.record.tlog.note import NoteError, VerifierKey, open_note
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, TreeHead, origin, parse_head, split_history

# Attempt and rank.
LogKey = tuple[int, int]
Select = Callable[[bytes], bool]
FINISHED = event_type("run.finished")
SEALED = event_type("log.sealed")


class SignedLog(NamedTuple):
    """The signed lines of one log.

    Attributes:
        signed: Number of signed lines, from the first.
        root: Root of the signed lines.
        events: Number of complete lines.
        end: Segment and byte at which the signed lines end. None without a segment.
        lines: Sequence and bytes of the selected signed lines.
        roots: Root at each requested size that the log has, also beyond the signed lines.
        heads: Number of tree heads that a known key has signed.
        problems: Contradictions to a signature or a pin. The signed lines remain evidence.

    """

    attempt: int
    rank: int
    signed: int
    root: bytes
    events: int
    end: tuple[Path, int] | None
    lines: tuple[tuple[int, bytes], ...]
    roots: Mapping[int, bytes]
    heads: int
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the log, such as `1-0`."""
        return f"{self.attempt}-{self.rank}"

    @property
    def head(self) -> TreeHead:
        """Size and root of the signed lines."""
        return TreeHead(self.signed, self.root)

    def parsed(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield sequence and event of each selected line that is an event."""
        for sequence, line in self.lines:
            event = parse_event(line)
            if event:
                yield sequence, event


class Evidence(NamedTuple):
    """The signed lines of all logs of a run.

    Attributes:
        logs: Signed lines by attempt and rank.
        problems: Contradictions of all logs and between them. Empty if the evidence is undisturbed.

    """

    logs: Mapping[LogKey, SignedLog]
    problems: tuple[str, ...]

    def events(self, *kinds: str) -> Iterator[tuple[LogKey, int, dict[str, Any]]]:
        """Yield log, sequence and event of the selected signed lines of these kinds, in order."""
        types = {event_type(kind) for kind in kinds}
        for place, log in sorted(self.logs.items()):
            for sequence, event in log.parsed():
                if event["type"] in types:
                    yield place, sequence, event


def signed_heads(folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey]) -> dict[int, bytes]:
    """Return size -> root of every tree head of a log that one of `keys` has signed.

    Raises:
        LogError: If two heads of one size have different roots.

    """
    path, where = folder.log_dir(attempt, rank), origin(folder.run_id, attempt, rank)
    notes, _ = split_history(read_or_empty(path / HISTORY))
    notes.append(read_or_empty(path / CHECKPOINT))
    heads: dict[int, bytes] = {}
    for note in notes:
        try:
            named, head = parse_head(open_note(note, keys)[0])
        except NoteError:
            # Another key, or an unfinished note. `ockham verify` reports it.
            continue
        if named == where and heads.setdefault(head.size, head.root) != head.root:
            raise LogError(f"{path}: two signed tree heads of size {head.size} have different roots")
    return heads


def read_signed_log(
    folder: RunFolder,
    attempt: int,
    rank: int,
    keys: Sequence[VerifierKey],
    *,
    pins: Sequence[TreeHead] = (),
    sizes: Sequence[int] = (),
    select: Select | None = None,
) -> SignedLog:
    """Read one log once, and return its signed lines.

    Args:
        folder: The run's folder.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        keys: Keys that may have signed.
        pins: Tree heads of this log that were stored elsewhere.
        sizes: Sizes at which the root is returned as well.
        select: Returns True for the lines to return. None returns none.

    Raises:
        UnverifiableError: If a file of the log cannot be read.

    """
    path = folder.log_dir(attempt, rank)
    heads, problems = _heads_and_problems(folder, attempt, rank, keys)
    pinned = {head.size: head.root for head in pins}
    wanted = {*heads, *pinned, *sizes}
    roots: dict[int, bytes] = {0: EMPTY} if 0 in wanted else {}
    ends: dict[int, tuple[Path, int]] = {}
    lines: list[tuple[int, bytes]] = []
    tree = CompactRange()
    try:
        segments = folder.segments(attempt, rank)
        for segment in segments:
            offset = 0
            for line in read_complete_lines(segment)[0]:
                if select is not None and select(line):
                    lines.append((tree.size, line))
                tree.append(leaf_hash(line))
                offset += len(line) + 1
                if tree.size in wanted:
                    roots[tree.size], ends[tree.size] = tree.root(), (segment, offset)
    except OSError as error:
        raise UnverifiableError(f"{error.filename} cannot be read: {error.strerror}") from None
    if segments:
        ends[0] = (segments[0], 0)
    signed = max((size for size, root in heads.items() if roots.get(size) == root), default=0)
    problems += _head_problems(path, tree.size, heads, roots, "signed")
    problems += _head_problems(path, tree.size, pinned, roots, "pinned")
    return SignedLog(
        attempt,
        rank,
        signed,
        roots.get(signed, EMPTY),
        tree.size,
        ends.get(signed),
        tuple((sequence, line) for sequence, line in lines if sequence < signed),
        roots,
        len(heads),
        tuple(problems),
    )


def _heads_and_problems(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey]
) -> tuple[dict[int, bytes], list[str]]:
    try:
        return signed_heads(folder, attempt, rank, keys), []
    except LogError as error:
        return {}, [str(error)]


def _head_problems(
    path: Path, events: int, heads: Mapping[int, bytes], roots: Mapping[int, bytes], what: str
) -> list[str]:
    """Return the largest loss, and the smallest head that the lines contradict."""
    most = max(heads, default=0)
    if most > events:
        return [f"{path}: {most} events were {what}, but {events} exist; run `ockham verify`"]
    wrong = [size for size, root in sorted(heads.items()) if roots[size] != root]
    return [f"{path}: the first {size} events differ from the {what} ones" for size in wrong[:1]]


def check_signed_prefix(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey], select: Select | None = None
) -> SignedLog:
    """Return the signed lines of a log whose lines start with every signed tree.

    Raises:
        LogError: If they do not.
        UnverifiableError: If a file of the log cannot be read.

    """
    log = read_signed_log(folder, attempt, rank, keys, select=select)
    if log.problems:
        raise LogError(f"{log.problems[0]}; run `ockham verify`")
    return log


def read_evidence(
    folder: RunFolder,
    keys: Sequence[VerifierKey],
    *,
    pins: Mapping[LogKey, Sequence[TreeHead]] | None = None,
    select: Select | None = None,
    sizes: Mapping[LogKey, Sequence[int]] | None = None,
) -> Evidence:
    """Return the signed lines of all logs of a run, each log compared with the root that a resume names.

    Args:
        folder: The run.
        keys: Trusted keys.
        pins: Tree heads by log that were stored elsewhere. A pinned log that is missing is a problem.
        select: Returns True for the lines to return, besides the first of each log. See `select_kinds`.
        sizes: Sizes at which the root of a log is returned as well.

    Raises:
        UnverifiableError: If the run cannot be read.

    """
    pins, sizes = pins or {}, sizes or {}
    places = folder.logs()
    resumed_from = {place: _previous_logs(_first_data(folder, place), place) for place in places}
    named: dict[LogKey, set[int]] = {place: set(sizes.get(place, ())) for place in places}
    for previous in resumed_from.values():
        for place, size, _ in previous:
            named.setdefault(place, set()).add(size)
    logs = {
        place: read_signed_log(
            folder,
            *place,
            keys,
            pins=pins.get(place, ()),
            sizes=tuple(named[place]),
            select=lambda line: b'"sequence":0,' in line or (select is not None and select(line)),
        )
        for place in places
    }
    problems = [problem for log in logs.values() for problem in log.problems]
    problems += [
        f"log {attempt}-{rank}: {max(head.size for head in heads)} events were pinned, and the log is missing"
        for (attempt, rank), heads in pins.items()
        if heads and (attempt, rank) not in logs
    ]
    for place, log in logs.items():
        if log.signed:
            problems += _resume_problems(place, logs, resumed_from[place])
    return Evidence(logs, tuple(problems))


def _resume_problems(
    place: LogKey, logs: Mapping[LogKey, SignedLog], previous: Sequence[tuple[LogKey, int, str]]
) -> Iterator[str]:
    """Yield a problem for each log that this signed resume names and that differs."""
    for (attempt, rank), size, root in previous:
        log = logs.get((attempt, rank))
        if log is None and size == 0:
            # A rank that the attempt before did not have.
            continue
        if log is None or log.roots.get(size, b"").hex() != root:
            yield f"log {attempt}-{rank}: attempt {place[0]} was resumed from {size} other events of it"
        elif log.signed < size:
            yield (
                f"log {attempt}-{rank}: attempt {place[0]} was resumed from {size} events of it, "
                f"and a known key has signed {log.signed}"
            )


def _previous_logs(data: Mapping[str, Any], place: LogKey) -> list[tuple[LogKey, int, str]]:
    """Return log, size and root of each earlier log that the first event of a resume names."""
    if "from_root" not in data:
        return []
    try:
        left = [{**data, "rank": place[1]}, *data.get("left_logs", ())]
        return [
            ((int(data["from_attempt"]), int(log["rank"])), int(log["from_size"]), str(log["from_root"]))
            for log in left
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        # A signed first event fits its schema.
        return []


def _first_data(folder: RunFolder, place: LogKey) -> dict[str, Any]:
    for segment in folder.segments(*place)[:1]:
        try:
            return dict(read_first_event(segment)["data"])
        except (OSError, ValueError):
            break
    return {}


def select_kinds(*kinds: str) -> Select:
    """Return a function that selects the lines that can be events of these kinds."""
    marks = [f'"{event_type(kind)}"'.encode() for kind in kinds]
    return lambda line: any(mark in line for mark in marks)


def parse_event(line: bytes) -> dict[str, Any]:
    """Return an event with its `data`, or an empty dictionary for any other line."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    valid = isinstance(event, dict) and isinstance(event.get("data"), dict) and "type" in event
    return event if valid else {}


def read_or_empty(path: Path) -> bytes:
    """Return the bytes of a regular file, or nothing if it does not exist."""
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        return b""


def read_leaves(folder: RunFolder, attempt: int, rank: int, size: int) -> list[bytes]:
    """Return the leaf hashes of the first `size` lines of a log."""
    leaves: list[bytes] = []
    for segment in folder.segments(attempt, rank):
        if len(leaves) >= size:
            break
        leaves += map(leaf_hash, read_complete_lines(segment)[0])
    return leaves[:size]
