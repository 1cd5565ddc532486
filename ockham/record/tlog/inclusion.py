"""Inclusion proofs: one event is part of a signed log. The form is C2SP tlog-proof.

c2sp.org/tlog-proof@v1
extra <base64: the line itself>
index 48211
<base64 hash>            the inclusion proof, the lowest first
...
                         an empty line, then the signed tree head
ockham/runs/night-1/1-0
...
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import inclusion_proof, leaf_hash, root_from_leaves, verify_inclusion
from ockham.record.tlog.note import VerifierKey, decode_canonical_base64, open_note
from ockham.record.tlog.tree_head import CHECKPOINT, TreeHead, parse_head

HEADER = "c2sp.org/tlog-proof@v1"
_PROOF = re.compile(
    rb"c2sp\.org/tlog-proof@v1\nextra (?P<extra>[A-Za-z0-9+/=]{1,100000})\nindex (?P<index>[0-9]{1,18})\n"
    rb"(?P<hashes>(?:[A-Za-z0-9+/]{43}=\n){0,64})\n(?P<note>[^\n].*)",
    re.DOTALL,
)


class InclusionResult(NamedTuple):
    """Result of a check: this line is event `sequence` of the log `origin`, which had `head.size` events."""

    line: bytes
    sequence: int
    origin: str
    head: TreeHead
    key: VerifierKey


def prove_inclusion(folder: RunFolder, attempt: int, rank: int, sequence: int) -> bytes:
    """Return the proof of one event against the newest signed tree head of its log.

    Raises:
        UnverifiableError: If no signature covers the event, or the log differs from what was signed.

    """
    note, leaves, lines = signed_leaves(folder, attempt, rank)
    if sequence >= len(leaves):
        raise UnverifiableError(
            f"event {sequence} is not signed; the newest signed tree head covers {len(leaves)} events"
        )
    hashes = [base64.b64encode(node).decode() for node in inclusion_proof(leaves, sequence)]
    extra = base64.b64encode(lines[sequence]).decode()
    text = "\n".join([HEADER, f"extra {extra}", f"index {sequence}", *hashes])
    return text.encode() + b"\n\n" + note


def signed_leaves(folder: RunFolder, attempt: int, rank: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """Return the newest signed tree head of a log, the leaf hashes that it covers, and all lines.

    Raises:
        UnverifiableError: If there is no tree head, or the log differs from what was signed.

    """
    note = _note(folder, attempt, rank)
    _, head = parse_head(note.decode().rpartition("\n\n")[0] + "\n")
    lines = [line for segment in folder.segments(attempt, rank) for line in read_complete_lines(segment)[0]]
    leaves = [leaf_hash(line) for line in lines[: head.size]]
    if len(leaves) < head.size or root_from_leaves(leaves) != head.root:
        raise UnverifiableError("the log differs from what was signed; run `ockham verify`")
    return note, leaves, lines


def verify_inclusion_proof(proof: bytes, keys: Sequence[VerifierKey]) -> InclusionResult:
    """Return the result of a proof.

    Raises:
        BadInputError: If it is malformed, not signed by a known key, or leads to another root.

    """
    found = _PROOF.fullmatch(proof)
    if found is None:
        raise BadInputError(
            "not a proof; it has a header, extra, index, at most 64 hashes, an empty line and a tree head"
        )
    try:
        line = decode_canonical_base64(found["extra"].decode())
        hashes = [decode_canonical_base64(text.decode()) for text in found["hashes"].split()]
        text, key = open_note(found["note"], keys)
        origin, head = parse_head(text)
    except ValueError as error:
        raise BadInputError(f"this proof cannot be checked: {error}") from None
    sequence = int(found["index"])
    if not verify_inclusion(leaf_hash(line), sequence, head.size, hashes, head.root):
        raise BadInputError("this proof does not lead from the event to the signed root")
    return InclusionResult(line, sequence, origin, head, key)


def _note(folder: RunFolder, attempt: int, rank: int) -> bytes:
    try:
        return read_regular_file(folder.log_dir(attempt, rank) / CHECKPOINT)
    except OSError:
        raise UnverifiableError(f"log {attempt}-{rank} of {folder.run_id} has no signed tree head") from None
