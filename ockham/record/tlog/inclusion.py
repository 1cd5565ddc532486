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

import re
from collections.abc import Sequence
from typing import NamedTuple

from ockham.errors import BadInputError
from ockham.record.tlog.merkle import leaf_hash, verify_inclusion
from ockham.record.tlog.note import VerifierKey, decode_canonical_base64, open_note
from ockham.record.tlog.tree_head import TreeHead, parse_head

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
