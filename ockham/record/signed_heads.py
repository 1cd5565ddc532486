"""Signed tree heads of one log: which notes in its folder count, and how many lines they cover.

All commands take the heads of a log from here, most of them through `ockham.record.evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.tlog.note import NoteError, VerifierKey, open_note
from ockham.record.tlog.tree_head import (
    CHECKPOINT,
    HISTORY,
    TreeHead,
    is_unfinished_head,
    origin,
    parse_head,
    split_history,
)

# A tree head has about 250 bytes. A history file only grows, and its last heads are the newest.
_HISTORY_BYTES = 1 << 16
_MAX_CHECKPOINT_BYTES = 1 << 16
# Size -> root of the lines up to this size, or None if the log is shorter.
RootAt = Callable[[int], bytes | None]
# Size -> roots. Two heads of one size with different roots contradict each other; either can match the lines.
Roots = Mapping[int, tuple[bytes, ...]]
# Path and number of bytes -> the first bytes, or the last ones for a negative number. Zero reads all.
ReadFile = Callable[[Path, int], bytes]


class HeadProblem(NamedTuple):
    """A note of a log folder that is not an undisturbed tree head."""

    kind: Literal["tampering", "crash tail"]
    file: str
    message: str
    cause: str = ""


class SignedHeads(NamedTuple):
    """Tree heads of a log that a known key has signed.

    Attributes:
        roots: Size -> roots of the heads.
        valid: Number of these heads.
        key: The key that signed the newest one. Empty without a head.
        newest: Bytes of the file `checkpoint`.
        conflicts: Problems of two heads of one size with different roots.
        problems: Problems of all other notes and of missing files.

    """

    roots: Roots
    valid: int
    key: str
    newest: bytes
    conflicts: tuple[HeadProblem, ...]
    problems: tuple[HeadProblem, ...]

    @property
    def largest(self) -> int:
        """Size of the largest head, 0 without a head. The lines can differ from it."""
        return max(self.roots, default=0)


class HeadMatch(NamedTuple):
    """Comparison of tree heads with the lines of a log.

    Attributes:
        size: Largest size whose root is that of the lines. Lines up to it are covered.
        largest: Largest size of a head.
        events: Number of complete lines.
        differing: Sizes within the lines with a root that the lines do not have, the smallest first.

    """

    size: int
    largest: int
    events: int
    differing: tuple[int, ...]

    @property
    def is_complete(self) -> bool:
        """True if the lines have the root of the largest head."""
        return self.size == self.largest

    def describe(self, what: str) -> list[str]:
        """Return the whole loss, and the smallest head that the lines contradict.

        Args:
            what: Word for these heads in the messages: `signed` or `pinned`.

        """
        messages = []
        if lost := max(0, self.largest - self.events):
            messages.append(f"{self.largest} events were {what}, but {self.events} exist: {lost} are missing")
        messages += [f"the first {size} events differ from the {what} ones" for size in self.differing[:1]]
        return messages


def group_roots(heads: Iterable[TreeHead]) -> dict[int, tuple[bytes, ...]]:
    """Return size -> different roots of tree heads, in the order of the heads."""
    roots: dict[int, tuple[bytes, ...]] = {}
    for head in heads:
        known = roots.get(head.size, ())
        if head.root not in known:
            roots[head.size] = (*known, head.root)
    return roots


def match_heads(roots: Roots, events: int, root_at: RootAt) -> HeadMatch:
    """Return how many lines of a log the heads cover, and which heads the lines contradict."""
    there = sorted(size for size in roots if size <= events)
    size = max((size for size in there if root_at(size) in roots[size]), default=0)
    differing = tuple(size for size in there if any(root != root_at(size) for root in roots[size]))
    return HeadMatch(size, max(roots, default=0), events, differing)


def read_heads(
    folder: RunFolder, attempt: int, rank: int, keys: Sequence[VerifierKey], *, readable_only: bool = False
) -> SignedHeads:
    """Return the tree heads of a log that one of `keys` has signed, with the problems of all other notes.

    Args:
        folder: The run.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        keys: Keys that may have signed.
        readable_only: Read a file that cannot be opened as an empty one.

    Raises:
        OSError: If a file exists and cannot be read.

    """
    path, where = folder.log_dir(attempt, rank), origin(folder.run_id, attempt, rank)
    read_file = read_if_possible if readable_only else read_or_empty
    notes, torn = split_history(read_file(path / HISTORY))
    newest = read_file(path / CHECKPOINT)
    problems: list[HeadProblem] = []
    conflicts: list[HeadProblem] = []
    roots: dict[int, tuple[bytes, ...]] = {}
    count, signer = 0, ""
    for name, note in [*((HISTORY, note) for note in notes), *([(CHECKPOINT, newest)] if newest else [])]:
        head, key = _open_head(note, keys, where, name, f"log {attempt}-{rank}")
        if isinstance(head, HeadProblem):
            problems.append(head)
            continue
        count, signer = count + 1, key
        known = roots.setdefault(head.size, (head.root,))
        if head.root not in known:
            roots[head.size] = (*known, head.root)
            message = f"two signed tree heads of size {head.size} with different roots"
            conflicts.append(HeadProblem("tampering", name, message))
    if torn and is_unfinished_head(torn, where):
        problems.append(HeadProblem("crash tail", HISTORY, f"{len(torn)} bytes of an unfinished tree head"))
    elif torn:
        message = f"its last {len(torn)} bytes are not a tree head"
        problems.append(HeadProblem("tampering", HISTORY, message))
    problems += _missing_files(len(notes), newest, has_lines=any(roots))
    return SignedHeads(roots, count, signer, newest, tuple(conflicts), tuple(problems))


def _missing_files(notes: int, newest: bytes, *, has_lines: bool) -> Iterator[HeadProblem]:
    """Yield the problem of a missing file.

    Every head is written to `checkpoint`, and about one each second to the history before. After a crash in
    the first write `checkpoint` does not exist yet, and the history has one note. Without a line, a power
    loss can keep one of the two files only.
    """
    if newest and not notes and has_lines:
        yield HeadProblem("tampering", HISTORY, "is missing, and there is a newest tree head")
    elif not newest and notes > 1:
        message = "is missing, and the history has more than one tree head"
        yield HeadProblem("tampering", CHECKPOINT, message)
    elif not newest and notes:
        yield HeadProblem("crash tail", CHECKPOINT, "is missing: the first tree head is only in the history")


def find_note(
    folder: RunFolder, attempt: int, rank: int, head: TreeHead, keys: Sequence[VerifierKey]
) -> bytes:
    """Return the bytes of the signed note of a tree head, or no bytes if it does not exist."""
    path, where = folder.log_dir(attempt, rank), origin(folder.run_id, attempt, rank)
    notes = [read_or_empty(path / CHECKPOINT), *reversed(split_history(read_or_empty(path / HISTORY))[0])]
    for note in notes:
        if claimed_size(note) == head.size and _open_head(note, keys, where, "", "")[0] == head:
            return note
    return b""


def claimed_size(note: bytes) -> int:
    """Return the size in a tree head whose signature is not checked, or -1."""
    try:
        return parse_head(note.decode())[1].size
    except (NoteError, UnicodeDecodeError):
        return -1


def read_signed_size(path: Path, where: str, keys: Sequence[VerifierKey], read_file: ReadFile) -> int:
    """Return the largest size that a key has signed. The root is not compared with the lines.

    The heads are tested from the largest size on, the last ones of the history first.

    Args:
        path: Folder of the log.
        where: Origin line of the log.
        keys: Trusted keys.
        read_file: Returns bytes of a file, see `ReadFile`.

    """
    newest = read_file(path / CHECKPOINT, _MAX_CHECKPOINT_BYTES)
    recent = read_file(path / HISTORY, -_HISTORY_BYTES)
    if len(recent) == _HISTORY_BYTES:
        # The first bytes can be the middle of a head. Each head starts with its origin.
        recent = b"ockham/runs/" + recent.partition(b"\nockham/runs/")[2]
    size = _largest_signed([newest, *split_history(recent)[0]], where, keys)
    if size == 0:
        size = _largest_signed(split_history(read_file(path / HISTORY, 0))[0], where, keys)
    return size


def _largest_signed(notes: Sequence[bytes], where: str, keys: Sequence[VerifierKey]) -> int:
    for size, note in sorted(((claimed_size(note), note) for note in notes), reverse=True):
        if size > 0 and isinstance(_open_head(note, keys, where, "", "")[0], TreeHead):
            return size
    return 0


def _open_head(
    note: bytes, keys: Sequence[VerifierKey], where: str, file: str, log: str
) -> tuple[TreeHead | HeadProblem, str]:
    """Return the tree head of a note and the name of its key, or the problem of the note."""
    try:
        text, key = open_note(note, keys)
        named, head = parse_head(text)
    except NoteError as error:
        message = f"a tree head cannot be trusted: {error}"
        return HeadProblem("tampering", file, message, f"{log}: {error}"), ""
    if named != where:
        return HeadProblem("tampering", file, f"a tree head of another log: {named!r:.120}"), ""
    return head, str(key)


def read_or_empty(path: Path) -> bytes:
    """Return the bytes of a regular file, or nothing if it does not exist."""
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        return b""


def read_if_possible(path: Path) -> bytes:
    """Return the bytes of a file, or nothing if it cannot be read."""
    try:
        return read_regular_file(path)
    except OSError:
        return b""
