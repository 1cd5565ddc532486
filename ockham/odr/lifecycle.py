"""Life cycle of a record: creation, status changes, supersession, renumbering."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.codes import DECIDED
from ockham.odr.record import NAME, DecisionRecord, parse, read_record
from ockham.odr.record_data import RecordData
from ockham.odr.record_rules import VERDICTS_BY_STATUS, heading_text
from ockham.odr.records_folder import next_number, numbers_in, slugify, write_record

TRANSITIONS: Mapping[str, tuple[str, ...]] = {
    "draft": ("proposed", "rejected"),
    "proposed": ("accepted", "rejected", "draft"),
    "accepted": ("superseded", "retired"),
}
_GIT_SECONDS = 10
_MAX_BRANCHES = 500


def used_numbers(folder: Path) -> list[int]:
    """Return the record numbers in the folder and on every git branch."""
    numbers = numbers_in(folder) if folder.is_dir() else []
    refs = _git(folder, "for-each-ref", "--format=%(objectname)", "refs/heads", "refs/remotes")
    for commit in sorted(set(refs.split()))[:_MAX_BRANCHES]:
        names = _git(folder, "ls-tree", "--name-only", commit, "./").split("\n")
        numbers += [int(match["number"]) for name in names if (match := NAME.fullmatch(Path(name).name))]
    return numbers


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of git. Empty without git or a repository."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def new_record(folder: Path, title: str, write: Callable[[str], str], number: int | None = None) -> Path:
    """Write a draft with the next free number.

    Args:
        folder: Folder of records. It is created if missing.
        title: Title of the record, for the file name.
        write: Returns the text of the record for an ID.
        number: Number to use. None uses the next one.

    Raises:
        BadInputError: If the number is in use.

    """
    taken = used_numbers(folder)
    chosen = next_number(taken) if number is None else number
    if chosen in taken or not 0 < chosen <= 9999:
        raise BadInputError(
            f"the number {chosen} is taken, here or on another branch; {next_number(taken)} is free"
        )
    file = folder / f"{chosen:04d}-{slugify(title)}.md"
    write_record(file, write(f"ODR-{chosen:04d}"), new=True)
    return file


def set_status(record: DecisionRecord, status: str, today: dt.date) -> str:
    """Return the record's text with another status and its date. An accepted record gets its lock.

    Raises:
        BadInputError: If the life cycle does not allow the change, or the outcome contradicts it.

    """
    edit.require_readable(record)
    claims = record.claims
    allowed = TRANSITIONS.get(claims.status, ())
    if status not in allowed:
        known = ", ".join(allowed) or "nothing: write a new record"
        raise BadInputError(f"{claims.id} is {claims.status}; from there it can become {known}")
    if status in VERDICTS_BY_STATUS and (
        not claims.has_outcome or claims.verdict not in VERDICTS_BY_STATUS[status]
    ):
        fitting = " or ".join(str(verdict or "null") for verdict in VERDICTS_BY_STATUS[status])
        given = claims.verdict or ("null" if claims.has_outcome else "no outcome")
        raise BadInputError(
            f"{claims.id} cannot be {status}: "
            f"that needs the verdict {fitting}, it has {given}{_outcome_hint(claims, status)}"
        )
    lines = edit.set_key(record, record.lines, "status", status)
    lines = edit.set_key(record, lines, "date", today.isoformat(), "status")
    if status in {"accepted", "rejected"}:
        lines = edit.set_key(record, lines, "lock", edit.compute_lock(record), "outcome")
    return edit.join_lines(record, lines)


def _outcome_hint(claims: RecordData, status: str) -> str:
    """Return what gives a record the verdict that a status needs."""
    if claims.has_outcome and status == "accepted":
        return f"; `ockham odr check {claims.id}` shows which claim does not hold"
    if claims.has_outcome:
        return "; write the condition that it does not meet as a constraint, and check again"
    if claims.constraints:
        return f"; `ockham odr check {claims.id} --fix` measures it"
    return "; without constraints write outcome: {oq_delta: null, verdict: null}"


def supersede(old: DecisionRecord, new: DecisionRecord, today: dt.date) -> dict[Path, str]:
    """Return the texts of both records after the new one has replaced the old one.

    Raises:
        BadInputError: If the old one is not in force, or the new one is not accepted.

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
        lines = edit.set_key(old, lines, "status", "superseded")
        lines = edit.set_key(old, lines, "date", today.isoformat(), "status")
    after = sorted({*old.claims.superseded_by, new.claims.id})
    lines = edit.set_key(old, lines, "superseded_by", edit.yaml_list(after), "supersedes")
    texts[old.file] = edit.join_lines(old, lines)
    if old.claims.id not in new.claims.supersedes:
        edges = edit.yaml_list([*new.claims.supersedes, old.claims.id])
        lines = edit.set_key(new, new.lines, "supersedes", edges)
        if new.claims.lock:
            lines = edit.set_key(new, lines, "lock", _lock_after(new, lines), "outcome")
        texts[new.file] = edit.join_lines(new, lines)
    return texts


def _lock_after(record: DecisionRecord, lines: list[str]) -> str:
    """Return the lock of edited lines. Only a valid lock is renewed."""
    if edit.compute_lock(record) != record.claims.lock:
        raise BadInputError(
            f"{record.claims.id} was edited after its acceptance; `ockham odr explain ODR702`"
        )
    return edit.compute_lock(reread(record, lines))


def reread(record: DecisionRecord, lines: list[str]) -> DecisionRecord:
    """Return a record as read again from edited lines."""
    copy = DecisionRecord(record.file, record.display_path, record.data)
    parse(copy, "\n".join(lines))
    return copy


def renumber(record: DecisionRecord, others: Sequence[DecisionRecord], number: int) -> dict[Path, str]:
    """Return the texts of a record with another number at its new path, and of the records that name it.

    Raises:
        BadInputError: If it is decided or registered, because others cite its ID.

    """
    edit.require_readable(record)
    old, new = record.claims.id, f"ODR-{number:04d}"
    if record.claims.status in DECIDED:
        raise BadInputError(f"{old} is {record.claims.status}, so others may cite it: renumber the other one")
    if record.claims.registered:
        raise BadInputError(f"{old} is registered in the ledger under this ID: renumber the other one")
    lines = edit.set_key(record, record.lines, "id", new)
    title = heading_text(record).replace(old, new, 1)
    texts = {
        edit.renumbered_path(record.file, number): edit.join_lines(
            record, edit.set_heading(record, lines, title)
        )
    }
    unique = sum(other.claims.id == old for other in others) == 1
    for other in others if unique else ():
        if other is not record and old in other.claims.supersedes:
            edges = edit.yaml_list([new if edge == old else edge for edge in other.claims.supersedes])
            texts[other.file] = edit.join_lines(other, edit.set_key(other, other.lines, "supersedes", edges))
    return texts


def write_records(texts: Mapping[Path, str]) -> list[DecisionRecord]:
    """Write each file completely. Return the records as read again."""
    for file, text in texts.items():
        write_record(file, text)
    return [read_record(file) for file in texts]
