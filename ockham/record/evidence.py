"""Evidence: the signed lines of a run under given keys and pins.

A line is evidence if a tree head with a valid signature covers it, and the root of the lines up to that head
is the signed one. All other lines were never acknowledged, and no command uses them as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from ockham.errors import LogError, UnverifiableError
from ockham.event import event_type
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines, read_first_event
from ockham.record.signed_heads import RootAt, group_roots, match_heads, read_heads
from ockham.record.tlog.merkle import EMPTY, CompactRange, leaf_hash, root_from_leaves
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tree_head import TreeHead

# Attempt and rank.
LogKey = tuple[int, int]
Select = Callable[[bytes], bool]
FINISHED = event_type("run.finished")
_END_MARK = f'"{FINISHED}"'.encode()
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
    def is_unsigned(self) -> bool:
        """True if the log has lines, and no known key has signed any head of it."""
        return self.events > 0 and self.heads == 0

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
    try:
        # Heads before lines: a log that is being written then has at least the signed lines.
        heads = read_heads(folder, attempt, rank, keys)
        pinned = group_roots(pins)
        wanted = {*heads.roots, *pinned, *sizes}
        lines = _read_lines(folder, attempt, rank, wanted, select or (lambda _: False))
    except OSError as error:
        raise UnverifiableError(f"{error.filename} cannot be read: {error.strerror}") from error
    match = match_heads(heads.roots, lines.events, lines.roots.get)
    problems = [conflict.message for conflict in heads.conflicts] + match.describe("signed")
    problems += match_heads(pinned, lines.events, lines.roots.get).describe("pinned")
    path = folder.log_dir(attempt, rank)
    return SignedLog(
        attempt,
        rank,
        match.size,
        lines.roots.get(match.size, EMPTY),
        lines.events,
        lines.ends.get(match.size),
        tuple((sequence, line) for sequence, line in lines.selected if sequence < match.size),
        lines.roots,
        heads.valid,
        tuple(f"{path}: {problem}" for problem in problems),
    )


class _Lines(NamedTuple):
    """Complete lines of a log: their number, root and end at the wanted sizes, and the selected ones."""

    events: int
    roots: dict[int, bytes]
    ends: dict[int, tuple[Path, int]]
    selected: list[tuple[int, bytes]]


def _read_lines(folder: RunFolder, attempt: int, rank: int, wanted: set[int], select: Select) -> _Lines:
    roots: dict[int, bytes] = {0: EMPTY}
    ends: dict[int, tuple[Path, int]] = {}
    selected: list[tuple[int, bytes]] = []
    tree = CompactRange()
    segments = folder.segments(attempt, rank)
    for segment in segments:
        offset = 0
        for line in read_complete_lines(segment)[0]:
            if select(line):
                selected.append((tree.size, line))
            tree.append(leaf_hash(line))
            offset += len(line) + 1
            if tree.size in wanted:
                roots[tree.size], ends[tree.size] = tree.root(), (segment, offset)
    if segments:
        ends[0] = (segments[0], 0)
    return _Lines(tree.size, roots, ends, selected)


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
    first = {place: previous_logs(_first_data(folder, place), place) for place in places}
    named: dict[LogKey, set[int]] = {place: set(sizes.get(place, ())) for place in places}
    for link in (link for links in first.values() for link in links):
        named.setdefault(link.log, set()).add(link.size)
    logs = {
        place: read_signed_log(
            folder,
            *place,
            keys,
            pins=pins.get(place, ()),
            sizes=tuple(named[place]),
            select=lambda line: (
                b'"sequence":0,' in line or _END_MARK in line or (select is not None and select(line))
            ),
        )
        for place in places
    }
    problems = [problem for log in logs.values() for problem in log.problems]
    problems += [
        f"log {attempt}-{rank}: {max(head.size for head in heads)} events were pinned, and the log is missing"
        for (attempt, rank), heads in pins.items()
        if heads and (attempt, rank) not in logs
    ]
    states = {place: _make_state(folder, log) for place, log in logs.items()}
    try:
        for place, log in logs.items():
            found = [*resume_problems(place, first[place], states), *_end_problems(log, states)]
            problems += [f"log {problem.log[0]}-{problem.log[1]}: {problem.message}" for problem in found]
    except OSError as error:
        raise UnverifiableError(f"{error.filename} cannot be read: {error.strerror}") from error
    return Evidence(logs, tuple(problems))


class LogState(NamedTuple):
    """What the comparison of logs needs from each of them: signed lines, lines, and the root at a size."""

    signed: int
    events: int
    root_at: RootAt


class LogLink(NamedTuple):
    """Size and root of a log that an event of another log names."""

    log: LogKey
    size: int
    root: str


class LinkProblem(NamedTuple):
    """A log that differs from what an event of another log names."""

    kind: Literal["tampering", "unsigned", "contradiction"]
    log: LogKey
    message: str


def previous_logs(data: Mapping[str, Any], place: LogKey) -> list[LogLink]:
    """Return the earlier logs that the first event of a resume names. Rank 0 also names lost ranks."""
    if "from_root" not in data:
        return []
    try:
        left = [{**data, "rank": place[1]}, *data.get("left_logs", ())]
        attempt = int(data["from_attempt"])
        return [
            LogLink((attempt, int(log["rank"])), int(log["from_size"]), str(log["from_root"])) for log in left
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        # A signed first event fits its schema.
        return []


def resume_problems(
    place: LogKey, links: Sequence[LogLink], logs: Mapping[LogKey, LogState]
) -> Iterator[LinkProblem]:
    """Yield a problem for each earlier log that the signed first event of a resume names and that differs."""
    state = logs.get(place)
    for link in links if state is not None and state.signed else ():
        log = logs.get(link.log)
        if log is None and link.size == 0:
            # A rank that the attempt before did not have.
            continue
        if log is None or not _has_root(log, link):
            message = f"attempt {place[0]} was resumed from {link.size} events of it with another root"
            yield LinkProblem("tampering", link.log, message)
        elif log.signed < link.size:
            message = (
                f"attempt {place[0]} was resumed from {link.size} events of it, and {log.signed} "
                "are signed: tree heads were removed"
            )
            yield LinkProblem("unsigned", link.log, message)


def rank_logs(data: Mapping[str, Any], place: LogKey) -> list[LogLink]:
    """Return the logs of all ranks that `run.finished` names."""
    try:
        ends = data.get("rank_logs") or ()
        return [LogLink((place[0], int(end["rank"])), int(end["size"]), str(end["root"])) for end in ends]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def rank_problems(
    place: LogKey, links: Sequence[LogLink], logs: Mapping[LogKey, LogState]
) -> Iterator[LinkProblem]:
    """Yield a problem for each rank's log that the signed end of a run names and that differs."""
    for link in links:
        log = logs.get(link.log)
        if log is None or not _has_root(log, link):
            events = 0 if log is None else log.events
            message = (
                f"when rank {place[1]} finished, this log had {link.size} events of a named root; "
                f"now it has {events}, and they differ"
            )
            yield LinkProblem("contradiction", link.log, message)


def _has_root(log: LogState, link: LogLink) -> bool:
    root = log.root_at(link.size)
    return root is not None and root.hex() == link.root


def _make_state(folder: RunFolder, log: SignedLog) -> LogState:
    def root_at(size: int) -> bytes | None:
        if size in log.roots or not 0 <= size <= log.events:
            return log.roots.get(size)
        # Only the end of a run names sizes that are not known before the lines are read.
        leaves = read_leaves(folder, log.attempt, log.rank, size)
        return root_from_leaves(leaves) if len(leaves) == size else None

    return LogState(log.signed, log.events, root_at)


def _end_problems(log: SignedLog, states: Mapping[LogKey, LogState]) -> Iterator[LinkProblem]:
    for _, event in log.parsed():
        if event["type"] == FINISHED:
            place = (log.attempt, log.rank)
            yield from rank_problems(place, rank_logs(event["data"], place), states)


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


def read_leaves(folder: RunFolder, attempt: int, rank: int, size: int) -> list[bytes]:
    """Return the leaf hashes of the first `size` lines of a log."""
    leaves: list[bytes] = []
    for segment in folder.segments(attempt, rank):
        if len(leaves) >= size:
            break
        leaves += map(leaf_hash, read_complete_lines(segment)[0])
    return leaves[:size]
