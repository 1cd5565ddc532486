"""Pins: signed tree heads kept where the writer of the log cannot reach them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from ockham.errors import BadInputError, CannotJudgeError
from ockham.record.folder import RunFolder, read_file
from ockham.record.note import NoteError, VerifierKey, open_note
from ockham.record.report import Report
from ockham.record.tree_head import CHECKPOINT, TreeHead, origin, parse_head

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def newest_heads(folder: RunFolder) -> bytes:
    """The newest signed tree head of every log of a run, one after the other with an empty line between.

    Raises:
        CannotJudgeError: if there is none.

    """
    notes = []
    for attempt, rank in folder.require().logs():
        path = folder.log(attempt, rank) / CHECKPOINT
        if path.is_file():
            notes.append(read_file(path))
    if not notes:
        raise CannotJudgeError(f"run {folder.run_id!r} has no signed tree head yet")
    return b"\n".join(notes)


def split_pin(data: bytes) -> list[bytes]:
    """The notes of a pin; git puts an empty line behind the text of a tag that it prints."""
    parts = re.split(rb"(?<=\n)\n(?=[^\n\xe2])", data)
    return [part.rstrip(b"\n") + b"\n" for part in parts if part.strip()]


def pinned_heads(
    folder: RunFolder, pins: Sequence[bytes], keys: Sequence[VerifierKey], report: Report
) -> dict[tuple[int, int], list[TreeHead]]:
    """(attempt, rank) -> tree heads that pins hold; a log of this run that is pinned and gone is a finding.

    Raises:
        BadInputError: if a pin is none, or of another run.

    """
    wanted = {origin(folder.run_id, attempt, rank): (attempt, rank) for attempt, rank in folder.logs()}
    own = origin(folder.run_id, 1, 0).removesuffix("1-0")
    found: dict[tuple[int, int], list[TreeHead]] = {}
    for note in (note for pin in pins for note in split_pin(pin)):
        try:
            text, _ = open_note(note, keys)
            where, head = parse_head(text)
        except NoteError as error:
            raise BadInputError(f"this pin is no signed tree head of a known key: {error}") from None
        if where in wanted:
            found.setdefault(wanted[where], []).append(head)
        elif where.startswith(own):
            report.add(
                "tampering", f"log/{where.removeprefix(own):.40}",
                f"{head.size} events were pinned, and the whole log is gone",
            )  # fmt: skip
        else:
            raise BadInputError(f"this pin is of {where!r:.120}, and the run has: {', '.join(wanted)}")
    return found


def tag(name: str, note: bytes) -> None:
    """Put a pin into an annotated tag of the git repository of the working folder.

    Raises:
        BadInputError: if the name is none, or git refuses.

    """
    if not _TAG.fullmatch(name) or ".." in name:
        raise BadInputError(f"--git-tag {name!r:.80}: letters, digits, '.', '_', '/' and '-'")
    command = ["git", "tag", "--annotate", "--cleanup=verbatim", "--file=-", name]
    try:
        done = subprocess.run(command, input=note, capture_output=True, timeout=20, check=False)  # noqa: S603 - git of the user's own PATH
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInputError(f"git made no tag: {error}") from None
    if done.returncode:
        raise BadInputError(f"git made no tag {name!r}: {done.stderr.decode(errors='replace').strip()[:300]}")
