"""Pins: signed tree heads stored where the writer of the log cannot change them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.tlog.note import NoteError, UnknownKeyError, VerifierKey, open_note
from ockham.record.tlog.tree_head import CHECKPOINT, origin

MAX_PIN_BYTES = 16_000_000
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def make_pin(folder: RunFolder, keys: Sequence[VerifierKey] = ()) -> bytes:
    """Return the newest signed tree head of every log of a run, separated by empty lines.

    Args:
        folder: The run.
        keys: Keys whose signatures are checked. Heads of other keys are copied unchecked.

    Raises:
        UnverifiableError: If there is no tree head, or if one is not that of its log.

    """
    notes = []
    for attempt, rank in folder.require_exists().logs():
        path = folder.log_dir(attempt, rank) / CHECKPOINT
        if path.is_file():
            notes.append(read_regular_file(path))
            if problem := _find_problem(notes[-1], origin(folder.run_id, attempt, rank), keys):
                raise UnverifiableError(
                    f"{path}: {problem}; nothing was pinned, run `ockham verify {folder.run_id}`"
                )
    if not notes:
        raise UnverifiableError(f"run {folder.run_id!r} has no signed tree head yet")
    return b"\n".join(notes)


def _find_problem(note: bytes, where: str, keys: Sequence[VerifierKey]) -> str:
    """Return why a note cannot be the tree head of a log, or an empty text."""
    try:
        named = open_note(note, keys)[0].partition("\n")[0]
    except UnknownKeyError:
        return ""
    except NoteError as error:
        return f"not a tree head: {error}" if note.strip() else "empty, not a tree head"
    return "" if named == where else f"a tree head of another log: {named!r:.120}"


def parse_pin(data: bytes) -> list[bytes]:
    """Return the notes of a pin. git appends an empty line to the text of a tag that it prints.

    Raises:
        BadInputError: If there is no note. A pin without a tree head would prove nothing.

    """
    if len(data) > MAX_PIN_BYTES:
        raise BadInputError(f"pin: has more than {MAX_PIN_BYTES:,} bytes; `ockham pin RUN` prints a pin")
    parts = re.split(rb"(?<=\n)\n(?=[^\n\xe2])", data)
    notes = [part.rstrip(b"\n") + b"\n" for part in parts if part.strip()]
    if not notes:
        raise BadInputError("pin: empty, without a tree head; `ockham pin RUN` prints a pin")
    return notes


def write_git_tag(name: str, note: bytes) -> None:
    """Write a pin into an annotated tag of the git repository of the working folder.

    Raises:
        BadInputError: If the name is not valid, or git fails.

    """
    if not _TAG.fullmatch(name) or ".." in name:
        raise BadInputError(f"--git-tag {name!r:.80}: letters, digits, '.', '_', '/' and '-'")
    command = ["git", "tag", "--annotate", "--cleanup=verbatim", "--file=-", name]
    try:
        done = subprocess.run(  # noqa: S603 - git of the user's PATH
            command, input=note, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInputError(f"git made no tag: {error}") from None
    if done.returncode:
        raise BadInputError(f"git made no tag {name!r}: {done.stderr.decode(errors='replace').strip()[:300]}")
