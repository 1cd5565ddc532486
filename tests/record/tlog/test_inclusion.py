"""Inclusion proofs: they exist for signed events only, and every changed proof is refused."""

from __future__ import annotations

import base64
import random

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.proofs import prove_inclusion
from ockham.record.tlog.inclusion import verify_inclusion_proof
from ockham.record.tlog.merkle import inclusion_proof, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import TreeHead
from tests.helpers.events import lines, log_folder, run_folder


@pytest.fixture
def folder(tmp_path):
    return log_folder(tmp_path)


def keys():
    return [load_or_create_signer().verifier]


@pytest.mark.parametrize("sequence", [0, 1, 9, 10, 15, 16, 25])
def test_every_signed_event_has_a_valid_proof(folder, sequence):
    """The file has the form of C2SP."""
    whole = lines(folder)
    assert len(whole) == 26
    proof = prove_inclusion(folder, 1, 0, sequence)
    text, _, note = proof.partition(b"\n\n")
    metadata = text.decode().split("\n")
    assert metadata[:3] == [
        "c2sp.org/tlog-proof@v1",
        f"extra {base64.b64encode(whole[sequence]).decode()}",
        f"index {sequence}",
    ]
    hashes = inclusion_proof([leaf_hash(line) for line in whole], sequence)
    assert [base64.b64decode(each) for each in metadata[3:]] == hashes
    assert note == (folder.log_dir(1, 0) / "checkpoint").read_bytes()
    proven = verify_inclusion_proof(proof, keys())
    assert (proven.line, proven.sequence, proven.origin) == (whole[sequence], sequence, "ockham/runs/a/1-0")
    assert proven.head == TreeHead(26, proven.head.root)
    assert proven.key == keys()[0]


def test_unsigned_event_has_no_proof(folder, tmp_path):
    """The same holds for a log without a head."""
    with pytest.raises(
        UnverifiableError, match="event 26 is not signed; the newest signed tree head covers 26"
    ):
        prove_inclusion(folder, 1, 0, 26)
    for name in ("checkpoint", "checkpoints"):
        (folder.log_dir(1, 0) / name).unlink()
    with pytest.raises(UnverifiableError, match="log 1-0 of a has no signed tree head"):
        prove_inclusion(folder, 1, 0, 0)
    with pytest.raises(UnverifiableError, match="log 1-0 of b has no signed tree head"):
        prove_inclusion(run_folder(tmp_path, "b"), 1, 0, 0)


def test_unsigned_lines_do_not_affect_proofs(folder):
    """They were written after the head."""
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b"later\n")
    assert verify_inclusion_proof(prove_inclusion(folder, 1, 0, 25), keys()).sequence == 25
    with pytest.raises(UnverifiableError, match="event 26 is not signed"):
        prove_inclusion(folder, 1, 0, 26)


@pytest.mark.parametrize(
    "attack",
    [
        lambda data: data.replace(b'"q":0.25', b'"q":0.26', 1),
        lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    ],
)
def test_changed_log_has_no_proofs(folder, attack):
    """This includes proofs of unchanged lines."""
    segment = folder.segments(1, 0)[-1]
    segment.write_bytes(attack(segment.read_bytes()))
    with pytest.raises(
        UnverifiableError, match=r"^the run differs from what was signed: .*; run `ockham verify a`$"
    ):
        prove_inclusion(folder, 1, 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b"proof@v1",
            b"proof@v2",
            "^not a proof; it has a header, extra, index, at most 64 hashes, an empty line and a tree head$",
        ),
        (b"\nindex 5\n", b"\nindex 05 \n", "not a proof; it has a header"),
        (b"\nindex 5\n", b"\nindex 6\n", "^this proof does not lead from the event to the signed root$"),
        (b"\nindex 5\n", b"\nindex 999999999999999999\n", "does not lead from the event"),
        (b"extra ", b"extra Q", "cannot be checked"),
        ("\u2014 ockham".encode(), "\u2014 other".encode(), "cannot be checked: no known key"),
        (b"/1-0\n26\n", b"/1-0\n27\n", "cannot be checked: the signature of"),
    ],
)
def test_changed_proof_is_refused_with_the_reason(folder, old, new, message):
    """Each part is changed in turn."""
    proof = prove_inclusion(folder, 1, 0, 5)
    assert old in proof
    with pytest.raises(BadInputError, match=message):
        verify_inclusion_proof(proof.replace(old, new, 1), keys())


def test_proof_can_be_checked_without_the_log(folder):
    """Any change of it is refused."""
    sequence = 20
    proof = prove_inclusion(folder, 1, 0, sequence)
    proven = verify_inclusion_proof(proof, keys())
    assert proven.line == lines(folder)[sequence]
    assert proven.sequence == sequence
    draw = random.Random(5)
    for at in draw.sample(range(len(proof)), 150):
        changed = bytearray(proof)
        changed[at] ^= 1
        with pytest.raises(BadInputError):
            verify_inclusion_proof(bytes(changed), keys())
    with pytest.raises(BadInputError):
        verify_inclusion_proof(proof.replace(b"index 20\n", b"index 21\n"), keys())


def test_proof_with_a_missing_or_extra_hash_is_refused(folder):
    """Position and size determine the length."""
    head, _, rest = prove_inclusion(folder, 1, 0, 5).partition(b"\nindex 5\n")
    first = rest.partition(b"\n")[0]
    for hashes in (rest[len(first) + 1 :], first + b"\n" + rest):
        with pytest.raises(BadInputError, match="does not lead"):
            verify_inclusion_proof(head + b"\nindex 5\n" + hashes, keys())


def test_signed_text_that_is_not_a_tree_head_is_refused(folder):
    """The key is the right one."""
    text, _, _ = prove_inclusion(folder, 1, 0, 5).partition(b"\n\n")
    with pytest.raises(BadInputError, match=r"cannot be checked: .*tree size"):
        verify_inclusion_proof(text + b"\n\n" + load_or_create_signer().sign("one\ntwo\nthree\n"), keys())
