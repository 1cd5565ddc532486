"""Names, tags and archived runs, and the removal of runs: signed events in the ledger.

A run folder is not changed, because its files are signed under its ID. A removed run leaves a tombstone: an
event with the size and the root of each of its logs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import filelock
import orjson

from ockham.errors import BadInputError, RunError, UnverifiableError
from ockham.record.attempt import log_head
from ockham.record.evidence import read_signed_log
from ockham.record.ledger import append_entry
from ockham.record.run_folder import LEDGER, RUN_ID, RunFolder, list_runs, read_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.note import VerifierKey, local_verifier_key

Action = Literal["TAG", "UNTAG", "ARCHIVE", "UNARCHIVE", "RENAME", "REMOVE"]
KIND = "run.managed"
TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,39}")
MAX_TAGS = 32
MAX_TEXT_CHARACTERS = 300
_MARK = b'"ockham.run.managed.v1"'
# Run ID and digest of run.json: another run of the same ID has no labels of a removed one.
RunKey = tuple[str, str]


class RunLabels(NamedTuple):
    """Labels of a run. `name` is None if the run has only its ID."""

    name: str | None = None
    tags: frozenset[str] = frozenset()
    archived: bool = False


def read_labels(runs: Path) -> dict[str, RunLabels]:
    """Return the labels of the existing runs that have some, by run ID. Only events of this machine count."""
    labels: dict[RunKey, RunLabels] = {}
    for data in _read_events(runs):
        key = (data["run_id"], data["run_json_sha256"])
        labels[key] = _apply(labels.get(key, RunLabels()), data)
    digests = {run_id: digest_run_json(RunFolder(runs, run_id)) for run_id in {key[0] for key in labels}}
    return {run_id: found for (run_id, digest), found in labels.items() if digests[run_id] == digest}


def find_named_run(runs: Path, name: str) -> str | None:
    """Return the ID of the run that has a name. None if no run has it."""
    return next((run_id for run_id, labels in read_labels(runs).items() if labels.name == name), None)


def set_tags(folder: RunFolder, tags: Sequence[str], by: str, reason: str, *, remove: bool) -> str:
    """Add tags to a run, or remove them. Return the ID of the event.

    Raises:
        BadInputError: If a tag is not valid, the run would have too many, or a tag to remove is missing.
        RunError: If the run does not exist.

    """
    present = read_labels(folder.runs).get(folder.require_exists().run_id, RunLabels()).tags
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise BadInputError(
                f"tag {tag!r:.60}: use 1 to 40 of a-z, 0-9, '.', '_', ':', '-', first a letter or digit"
            )
        if remove and tag not in present:
            listed = ", ".join(sorted(present)) or "none"
            raise BadInputError(f"{folder.run_id}: has no tag {tag!r}; existing tags: {listed}")
    if not remove and len(present | set(tags)) > MAX_TAGS:
        raise BadInputError(
            f"{folder.run_id}: would have more than {MAX_TAGS} tags; remove one with --remove"
        )
    return _append(folder, "UNTAG" if remove else "TAG", by, reason, tags=sorted(set(tags)))


def set_archived(folder: RunFolder, by: str, reason: str, *, archived: bool) -> str:
    """Archive a run, or undo that. Return the ID of the event.

    Raises:
        RunError: If the run does not exist.

    """
    folder.require_exists()
    return _append(folder, "ARCHIVE" if archived else "UNARCHIVE", by, reason)


def set_name(folder: RunFolder, name: str | None, by: str, reason: str) -> str:
    """Give a run a name that commands accept besides its ID. None removes it. Return the ID of the event.

    Raises:
        BadInputError: If the name is not valid, or another run has it as name or ID.
        RunError: If the run does not exist.

    """
    folder.require_exists()
    if name is not None:
        if not RUN_ID.fullmatch(name):
            raise BadInputError(
                f"name {name!r:.80}: accepted are 1 to 64 of a-z, 0-9, '.', '_' and '-', "
                "the first a letter or a digit"
            )
        if name in list_runs(folder.runs) or find_named_run(folder.runs, name) not in (None, folder.run_id):
            raise BadInputError(f"name {name!r}: another run has it; choose a different name")
    return _append(folder, "RENAME", by, reason, name=name)


def remove_run(folder: RunFolder, by: str, reason: str) -> tuple[str, int]:
    """Write a tombstone into the ledger, then remove the folder of a run.

    Return the ID of the event and the number of removed bytes. A kill leaves the complete folder, or a hidden
    one that the next removal or start of a run with this ID deletes.

    Raises:
        RunError: If the run does not exist, is a link, was renamed, is being written or cannot be removed.

    """
    folder.require_exists().require_own_name()
    if folder.path.is_symlink():
        raise RunError(f"{folder.path}: is a link; remove the folder to which it leads")
    with contextlib.ExitStack() as locks:
        for attempt, rank in folder.logs():
            try:
                locks.enter_context(filelock.FileLock(folder.log_dir(attempt, rank) / "lock", timeout=0))
            except filelock.Timeout:
                raise RunError(f"{folder.run_id}: is running; stop it first") from None
            except OSError as error:
                raise RunError(f"{folder.path}: cannot be locked: {error.strerror}") from None
        heads = {log: log_head(folder, *log) for log in folder.logs()}
        logs = [
            {"attempt": attempt, "rank": rank, "size": head["from_size"], "root": head["from_root"]}
            for (attempt, rank), head in heads.items()
        ]
        size = _folder_size(folder.path)
        event_id = _append(folder, "REMOVE", by, reason, logs=logs, size=size)
        try:
            hidden = folder.path.with_name(f".{folder.run_id}.{os.getpid()}.tmp")
            folder.path.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise RunError(f"{folder.path}: cannot be removed completely: {error.strerror}") from None
    return event_id, size


def digest_run_json(folder: RunFolder) -> str | None:
    """Return the SHA-256 of run.json, or None if it cannot be read."""
    try:
        return hashlib.sha256(read_regular_file(folder.run_json)).hexdigest()
    except OSError:
        return None


def _append(
    folder: RunFolder,
    action: Action,
    by: str,
    reason: str,
    *,
    tags: Sequence[str] = (),
    name: str | None = None,
    logs: Sequence[Mapping[str, Any]] = (),
    size: int | None = None,
) -> str:
    for option, text in (("--by", by), ("--reason", reason)):
        if len(text) > MAX_TEXT_CHARACTERS or not text.isprintable():
            raise BadInputError(
                f"{option} {text[:40]!r}: use one line of at most {MAX_TEXT_CHARACTERS} characters"
            )
    fields = {
        "run_id": folder.run_id,
        "run_json_sha256": digest_run_json(folder),
        "action": action,
        "by": by,
        "reason": reason,
        "tags": list(tags),
        "name": name,
        "logs": list(logs),
        "bytes": size,
    }
    return append_entry(folder.runs, KIND, fields)


def _apply(labels: RunLabels, data: Mapping[str, Any]) -> RunLabels:
    action = data["action"]
    if action == "TAG":
        return labels._replace(tags=labels.tags | frozenset(data["tags"]))
    if action == "UNTAG":
        return labels._replace(tags=labels.tags - frozenset(data["tags"]))
    if action == "RENAME":
        return labels._replace(name=data["name"])
    return labels._replace(archived={"ARCHIVE": True, "UNARCHIVE": False}.get(action, labels.archived))


def _read_events(runs: Path) -> list[dict[str, Any]]:
    """Return the data of the events in the ledger that this machine has signed, in order."""
    ledger, key = RunFolder(runs, LEDGER), local_verifier_key()
    events = []
    for attempt, rank in ledger.logs():
        lines = [
            line
            for segment in ledger.segments(attempt, rank)
            for line in read_complete_lines(segment)[0]
            if _MARK in line
        ]
        if lines and key is not None:
            events += [data for line in lines if (data := _parse_signed(ledger, (attempt, rank), line, key))]
    return events


def _parse_signed(
    ledger: RunFolder, log: tuple[int, int], line: bytes, key: VerifierKey
) -> dict[str, Any] | None:
    """Return the data of a line. None if the line is not signed, or is not a complete event."""
    try:
        if line not in [
            signed for _, signed in read_signed_log(ledger, *log, [key], select=lambda _: True).lines
        ]:
            return None
        event = orjson.loads(line)
        is_complete = event["type"] == f"ockham.{KIND}.v1" and RUN_ID.fullmatch(event["data"]["run_id"])
        return dict(event["data"]) if is_complete else None
    except (UnverifiableError, ValueError, KeyError, TypeError):
        return None


def _folder_size(path: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total
