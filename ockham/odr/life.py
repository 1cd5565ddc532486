"""The life of a record: new, another status, superseded, another number."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.claims import Claims
from ockham.odr.codes import DECIDED
from ockham.odr.folder import next_number, numbers_in, slug, write_record
from ockham.odr.record import NAME, Record, parse, read_record
from ockham.odr.rules import VERDICT_OF, heading_text

NEXT: Mapping[str, tuple[str, ...]] = {
    "draft": ("proposed", "rejected"),
    "proposed": ("accepted", "rejected", "draft"),
    "accepted": ("superseded", "retired"),
}
_GIT_SECONDS = 10
_MAX_BRANCHES = 500


def taken_numbers(folder: Path) -> list[int]:
    """Numbers in the folder and, where it lies in git, on every branch: two branches shall not take the same."""
    numbers = numbers_in(folder) if folder.is_dir() else []
    refs = _git(folder, "for-each-ref", "--format=%(objectname)", "refs/heads", "refs/remotes")
    for commit in sorted(set(refs.split()))[:_MAX_BRANCHES]:
        names = _git(folder, "ls-tree", "--name-only", commit, "./").split("\n")
        numbers += [int(match["number"]) for name in names if (match := NAME.fullmatch(Path(name).name))]
    return numbers


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing where there is no git or no repository."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=_GIT_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def new_record(folder: Path, title: str, write: Callable[[str], str], number: int | None = None) -> Path:
    """Write a draft under the next free number.

    Args:
        folder: of the records; made where it is missing.
        title: of the record, for the file's name.
        write: gives the text of the record with an id.
        number: another number than the next.

    Raises:
        BadInputError: if the number is taken.

    """
    taken = taken_numbers(folder)
    chosen = next_number(taken) if number is None else number
    if chosen in taken or not 0 < chosen <= 9999:
        raise BadInputError(
            f"the number {chosen} is taken, here or on another branch; {next_number(taken)} is free"
        )
    file = folder / f"{chosen:04d}-{slug(title)}.md"
    write_record(file, write(f"ODR-{chosen:04d}"), new=True)
    return file


def to_status(record: Record, status: str, today: dt.date) -> str:
    """The record's text with another status and its day; with the lock, where it is accepted.

    Raises:
        BadInputError: if the life cycle does not go that way, or the outcome says otherwise.

    """
    edit.require_readable(record)
    claims = record.claims
    allowed = NEXT.get(claims.status, ())
    if status not in allowed:
        known = ", ".join(allowed) or "nothing: write a new record"
        raise BadInputError(f"{claims.id} is {claims.status}; from there it can become {known}")
    if status in VERDICT_OF and (not claims.has_outcome or claims.verdict not in VERDICT_OF[status]):
        fitting = " or ".join(str(verdict or "null") for verdict in VERDICT_OF[status])
        given = claims.verdict or ("null" if claims.has_outcome else "no outcome")
        raise BadInputError(
            f"{claims.id} cannot be {status}: that needs the verdict {fitting}, it has {given}{_way(claims)}"
        )
    lines = edit.with_key(record, record.lines, "status", status)
    lines = edit.with_key(record, lines, "date", today.isoformat(), "status")
    if status in {"accepted", "rejected"}:
        lines = edit.with_key(record, lines, "lock", edit.lock_of(record), "outcome")
    return edit.text_of(record, lines)


def _way(claims: Claims) -> str:
    """How a record comes to an outcome, where it has none."""
    if claims.has_outcome:
        return ""
    if claims.constraints:
        return f"; `ockham odr check {claims.id} --fix` measures it"
    return "; one without constraints says so itself: outcome: {oq_delta: null, verdict: null}"


def supersede(old: Record, new: Record, today: dt.date) -> dict[Path, str]:
    """The texts of both records after the one took the other's place.

    Raises:
        BadInputError: if the old one is not in force, or the new one not accepted.

    """
    for record in (old, new):
        edit.require_readable(record)
    if old.claims.id == new.claims.id:
        raise BadInputError(f"{old.claims.id} cannot supersede itself")
    if old.claims.status not in {"accepted", "superseded"}:
        raise BadInputError(
            f"{old.claims.id} is {old.claims.status}; only an accepted record can be superseded"
        )
    if new.claims.status != "accepted":
        raise BadInputError(
            f"{new.claims.id} is {new.claims.status}; only an accepted record supersedes another"
        )
    texts = {}
    lines = old.lines
    if old.claims.status == "accepted":
        lines = edit.with_key(old, lines, "status", "superseded")
        lines = edit.with_key(old, lines, "date", today.isoformat(), "status")
    after = sorted({*old.claims.superseded_by, new.claims.id})
    lines = edit.with_key(old, lines, "superseded_by", edit.flow(after), "supersedes")
    texts[old.file] = edit.text_of(old, lines)
    if old.claims.id not in new.claims.supersedes:
        edges = edit.flow([*new.claims.supersedes, old.claims.id])
        lines = edit.with_key(new, new.lines, "supersedes", edges)
        if new.claims.lock:
            lines = edit.with_key(new, lines, "lock", _lock_after(new, lines), "outcome")
        texts[new.file] = edit.text_of(new, lines)
    return texts


def _lock_after(record: Record, lines: list[str]) -> str:
    """The lock of edited lines. Only a lock that still held is renewed."""
    if edit.lock_of(record) != record.claims.lock:
        raise BadInputError(
            f"{record.claims.id} was edited after its acceptance; `ockham odr explain ODR702`"
        )
    return edit.lock_of(_reread(record, lines))


def _reread(record: Record, lines: list[str]) -> Record:
    copy = Record(record.file, record.shown, record.data)
    parse(copy, "\n".join(lines))
    return copy


def renumber(record: Record, others: Sequence[Record], number: int) -> dict[Path, str]:
    """The texts of a record under another number, at its new path, and of the records that name it.

    Raises:
        BadInputError: if it has a lock: others may cite its id.

    """
    edit.require_readable(record)
    old, new = record.claims.id, f"ODR-{number:04d}"
    if record.claims.status in DECIDED:
        raise BadInputError(f"{old} is {record.claims.status}, so others may cite it: renumber the other one")
    lines = edit.with_key(record, record.lines, "id", new)
    title = heading_text(record).replace(old, new, 1)
    texts = {edit.renamed(record.file, number): edit.text_of(record, edit.with_heading(record, lines, title))}
    unique = sum(other.claims.id == old for other in others) == 1
    for other in others if unique else ():
        if other is not record and old in other.claims.supersedes:
            edges = edit.flow([new if edge == old else edge for edge in other.claims.supersedes])
            texts[other.file] = edit.text_of(other, edit.with_key(other, other.lines, "supersedes", edges))
    return texts


def write_all(texts: Mapping[Path, str]) -> list[Record]:
    """Write each file whole; returns them as read again."""
    for file, text in texts.items():
        write_record(file, text)
    return [read_record(file) for file in texts]
