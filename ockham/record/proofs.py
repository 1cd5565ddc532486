"""Proofs for third parties, created from the signed lines of a run.

`ockham.record.tlog.inclusion` and `ockham.record.tlog.consistency` describe and check them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.evidence import Evidence, LogKey, SignedLog, read_evidence, read_leaves
from ockham.record.run_folder import RunFolder
from ockham.record.signed_heads import find_note
from ockham.record.tlog.consistency import format_consistency_proof, pinned_heads_by_origin
from ockham.record.tlog.inclusion import HEADER
from ockham.record.tlog.merkle import inclusion_proof, root_from_leaves
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tree_head import origin
from ockham.record.verify.run import own_keys


class _SignedTree(NamedTuple):
    """Signed lines of a log, the note of their tree head, and their leaf hashes."""

    log: SignedLog
    note: bytes
    leaves: list[bytes]


def prove_inclusion(
    folder: RunFolder, attempt: int, rank: int, sequence: int, keys: Sequence[VerifierKey] = ()
) -> bytes:
    """Return the proof of one event against the newest signed tree head of its log.

    Args:
        folder: The run.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        sequence: Sequence number of the event.
        keys: Keys that may have signed. Without one, the keys of the run and of this machine are used.

    Raises:
        UnverifiableError: If no signature covers the event, or the run differs from what was signed.

    """
    keys = keys or own_keys(folder)
    mark = f'"sequence":{sequence},'.encode()
    evidence = read_evidence(folder, keys, select=lambda line: mark in line)
    tree = _read_tree(folder, evidence, (attempt, rank), keys)
    lines = dict(tree.log.lines)
    if sequence not in lines:
        raise UnverifiableError(
            f"event {sequence} is not signed; the newest signed tree head covers {tree.log.signed} events"
        )
    hashes = [base64.b64encode(node).decode() for node in inclusion_proof(tree.leaves, sequence)]
    extra = base64.b64encode(lines[sequence]).decode()
    text = "\n".join([HEADER, f"extra {extra}", f"index {sequence}", *hashes])
    return text.encode() + b"\n\n" + tree.note


def prove_consistency(folder: RunFolder, pin: bytes, keys: Sequence[VerifierKey]) -> bytes:
    """Return the proofs for every log of a run that has a tree head in the pin.

    Raises:
        BadInputError: If it is not a pin, or has no tree head of this run.
        UnverifiableError: If the run differs from what was signed.

    """
    pinned = pinned_heads_by_origin(pin, keys)
    places = {origin(folder.run_id, *place): place for place in folder.logs()}
    if not set(pinned) & set(places):
        raise BadInputError(f"this pin is of {', '.join(pinned)}, and not of run {folder.run_id!r}")
    evidence = read_evidence(folder, keys)
    parts = []
    for where, place in places.items():
        old = pinned.get(where)
        if old is None:
            continue
        tree = _read_tree(folder, evidence, place, keys)
        if old.size > tree.log.signed:
            raise BadInputError(
                f"log {tree.log.name} has {tree.log.signed} signed events, but {old.size} were pinned; "
                "run `ockham verify --pin`"
            )
        parts.append(format_consistency_proof(old.size, tree.leaves, tree.note))
    return b"".join(parts)


def _read_tree(
    folder: RunFolder, evidence: Evidence, place: LogKey, keys: Sequence[VerifierKey]
) -> _SignedTree:
    """Return the signed lines of a log with their tree head.

    Raises:
        UnverifiableError: If there is no tree head, or the run differs from what was signed.

    """
    if evidence.problems:
        raise UnverifiableError(
            f"the run differs from what was signed: {evidence.problems[0]}; "
            f"run `ockham verify {folder.run_id}`"
        )
    log = evidence.logs.get(place)
    note = b"" if log is None else find_note(folder, *place, log.head, keys)
    if log is None or not note:
        raise UnverifiableError(f"log {place[0]}-{place[1]} of {folder.run_id} has no signed tree head")
    leaves = read_leaves(folder, *place, log.signed)
    if len(leaves) < log.signed or root_from_leaves(leaves) != log.root:
        raise UnverifiableError(f"log {log.name} changed while it was read; run the command again")
    return _SignedTree(log, note, leaves)
