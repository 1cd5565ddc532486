"""Tree heads that pins contain, by log."""

from __future__ import annotations

from collections.abc import Sequence

from ockham.errors import BadInputError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import NoteError, VerifierKey, open_note
from ockham.record.tlog.pin import parse_pin
from ockham.record.tlog.tree_head import TreeHead, origin, parse_head
from ockham.record.verify.report import VerificationReport


def pinned_heads(
    folder: RunFolder, pins: Sequence[bytes], keys: Sequence[VerifierKey], report: VerificationReport
) -> dict[tuple[int, int], list[TreeHead]]:
    """Return (attempt, rank) -> tree heads in pins. A pinned log that is missing is a finding.

    Raises:
        BadInputError: If it is not a pin, or a pin of another run.

    """
    wanted = {origin(folder.run_id, attempt, rank): (attempt, rank) for attempt, rank in folder.logs()}
    own = origin(folder.run_id, 1, 0).removesuffix("1-0")
    found: dict[tuple[int, int], list[TreeHead]] = {}
    for note in (note for pin in pins for note in parse_pin(pin)):
        try:
            text, _ = open_note(note, keys)
            where, head = parse_head(text)
        except NoteError as error:
            raise BadInputError(f"not a pin signed by a known key: {error}") from None
        if where in wanted:
            found.setdefault(wanted[where], []).append(head)
        elif where.startswith(own):
            report.add(
                "tampering",
                f"log/{where.removeprefix(own):.40}",
                f"{head.size} events were pinned, and the whole log is gone",
            )
        else:
            raise BadInputError(f"this pin is of {where!r:.120}, and the run has: {', '.join(wanted)}")
    return found
