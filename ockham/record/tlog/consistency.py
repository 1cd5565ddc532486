"""Consistency proofs: a log has only grown since a pinned tree head.

old 48211
<base64 hash>            the consistency proof
...
                         an empty line, then the present signed tree head
ockham/runs/night-1/1-0
...

There is one proof for each log of the pin. Each is the body that a C2SP witness takes (c2sp.org/tlog-witness,
add-checkpoint). A holder of the pin can check it without the log.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from ockham.errors import BadInputError
from ockham.record.tlog.merkle import consistency_proof, verify_consistency
from ockham.record.tlog.note import NoteError, VerifierKey, decode_canonical_base64, open_note
from ockham.record.tlog.pin import parse_pin
from ockham.record.tlog.tree_head import TreeHead, parse_head

# How such a proof begins.
PROOF_PREFIX = b"old "
_PART = re.compile(
    rb"old (?P<old>0|[1-9][0-9]{0,17})\n(?P<hashes>(?:[A-Za-z0-9+/]{43}=\n){0,63})\n(?P<note>[^\n].*)",
    re.DOTALL,
)


class ConsistencyResult(NamedTuple):
    """Result of a check: the `old` pinned events of the log `origin` are a prefix of `head`."""

    origin: str
    old: int
    head: TreeHead
    key: VerifierKey


def format_consistency_proof(old: int, leaves: Sequence[bytes], note: bytes) -> bytes:
    """Return the proof that the first `old` leaves are a prefix of all leaves, which the note signs."""
    hashes = "".join(f"{base64.b64encode(node).decode()}\n" for node in consistency_proof(leaves, old))
    return f"old {old}\n{hashes}\n".encode() + note


def verify_consistency_proofs(
    proof: bytes, pin: bytes, keys: Sequence[VerifierKey]
) -> list[ConsistencyResult]:
    """Return the result of each proof, checked against the pin.

    Raises:
        BadInputError: If one is malformed, not signed by a known key, of a log outside the pin, or wrong.

    """
    pinned, found = pinned_heads_by_origin(pin, keys), []
    for part in re.split(rb"(?m)^(?=old [0-9])", proof):
        if not part:
            continue
        match = _PART.fullmatch(part)
        if match is None:
            raise BadInputError(
                "not a consistency proof; "
                "it has an old size, at most 63 hashes, an empty line and a tree head"
            )
        try:
            hashes = [decode_canonical_base64(text.decode()) for text in match["hashes"].split()]
            text, key = open_note(match["note"], keys)
            where, head = parse_head(text)
        except ValueError as error:
            raise BadInputError(f"this proof cannot be checked: {error}") from None
        old = pinned.get(where)
        if old is None or old.size != int(match["old"]):
            raise BadInputError(
                f"this proof is of {where!r:.120} since event {int(match['old'])}, "
                "which the pin does not contain"
            )
        if not verify_consistency(old.size, old.root, head.size, head.root, hashes):
            raise BadInputError(
                f"{where}: the {old.size} events that were pinned do not begin the log that is signed now"
            )
        found.append(ConsistencyResult(where, old.size, head, key))
    return found


def pinned_heads_by_origin(pin: bytes, keys: Sequence[VerifierKey]) -> dict[str, TreeHead]:
    """Return origin -> tree head of a pin.

    Raises:
        BadInputError: If it is not a pin, or a known key has not signed it.

    """
    found = {}
    for note in parse_pin(pin):
        try:
            where, head = parse_head(open_note(note, keys)[0])
        except NoteError as error:
            raise BadInputError(f"not a pin signed by a known key: {error}") from None
        found[where] = head
    return found
