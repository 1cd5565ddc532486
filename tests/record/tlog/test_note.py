"""Notes, keys and tree heads: they are signed and parsed, and every change is refused."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.record.tlog.merkle import EMPTY
from ockham.record.tlog.note import (
    NoteError,
    VerifierKey,
    decode_canonical_base64,
    key_dir,
    load_or_create_signer,
    open_note,
    parse_key,
)
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, split_history

# The example of the C2SP signed-note page: PeterNeumann's key and note, made by another implementation.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = (
    b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    b"\xe2\x80\x94 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNX"
    b"gKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_note_of_another_implementation_opens():
    """The published example verifies, and a changed letter does not."""
    text, key = open_note(PETERS_NOTE, [parse_key(PETER)])
    assert text.startswith("If you think cryptography")
    assert str(key) == PETER
    with pytest.raises(NoteError, match="does not fit"):
        open_note(PETERS_NOTE.replace(b"answer", b"Answer"), [parse_key(PETER)])


def test_key_is_created_once_with_mode_0600(tmp_path):
    """openssl reads it as Ed25519."""
    one, two = load_or_create_signer(tmp_path / "k"), load_or_create_signer(tmp_path / "k")
    assert str(one.verifier) == str(two.verifier)
    assert stat.S_IMODE(os.stat(tmp_path / "k" / "log.key").st_mode) == 0o600
    assert str(parse_key(str(one.verifier))) == str(one.verifier)


def test_openssl_accepts_the_signature(tmp_path):
    """openssl pkeyutl checks text and signature."""
    own = load_or_create_signer(tmp_path)
    text = checkpoint_body("ockham/runs/a/1-0", TreeHead(0, EMPTY))
    note = own.sign(text).decode()
    signature = base64.b64decode(note.splitlines()[-1].split(" ")[2])[4:]
    # SubjectPublicKeyInfo of Ed25519 (RFC 8410).
    prefix = bytes.fromhex("302a300506032b6570032100")
    (tmp_path / "key.der").write_bytes(prefix + own.verifier.public)
    (tmp_path / "text").write_text(text, encoding="utf-8")
    (tmp_path / "sig").write_bytes(signature)
    words = "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in text -sigfile sig"
    try:
        done = subprocess.run(words.split(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    assert done.returncode == 0, done.stderr


def test_every_changed_byte_of_a_note_is_refused(tmp_path):
    """Every bit, and every value of the last bytes."""
    own = load_or_create_signer(tmp_path)
    note = own.sign(checkpoint_body("ockham/runs/a/1-0", TreeHead(7, bytes(range(32)))))
    flips = [(at, 1 << bit) for at in range(len(note)) for bit in range(8)]
    flips += [(at, value) for at in range(len(note) - 6, len(note)) for value in range(1, 256)]
    verified = []
    for at, value in flips:
        changed = bytearray(note)
        changed[at] ^= value
        try:
            open_note(bytes(changed), [own.verifier])
            verified.append((at, value))
        except NoteError:
            pass
    assert verified == []


@given(st.binary(max_size=400))
def test_random_bytes_raise_a_typed_error(data):
    """No other exception is raised."""
    with pytest.raises(NoteError):
        open_note(data, [parse_key(PETER)])


def test_invalid_verifier_key_is_one_clear_error():
    """Wrong ID, wrong type, no name."""
    for text in (
        "",
        "a+b",
        "a+00000000+!",
        PETER.replace("Peter", "Peter "),
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("ARpc", "AZpc"),
        "+" + PETER.split("+", 1)[1],
    ):
        with pytest.raises(BadInputError, match="no verifier key"):
            parse_key(text)


def test_invalid_key_file_is_named(tmp_path):
    """The error contains path and expectation."""
    (tmp_path / "log.key").write_text("not a key")
    with pytest.raises(BadInputError, match=r"log\.key holds no key: 64 hex digits"):
        load_or_create_signer(tmp_path)


def test_key_dir_is_the_variable_or_the_user_configuration(tmp_path, monkeypatch):
    """The variable is OCKHAM_KEY_DIR."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "mine"))
    assert key_dir() == tmp_path / "mine"
    for name in ("OCKHAM_KEY_DIR", None):
        if name:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv("OCKHAM_KEY_DIR", "")
        assert key_dir() == tmp_path / "ockham"


def test_key_dir_is_private_to_its_owner(tmp_path):
    """The key name is derived from the public key."""
    own = load_or_create_signer(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert own.verifier.name == f"ockham-{hashlib.sha256(own.verifier.public).hexdigest()[:8]}"


def test_key_name_can_be_any_text_without_a_space():
    """A single letter is valid."""
    public = parse_key(PETER).public
    key = VerifierKey("Xavier/X", public)
    assert parse_key(f"  {key}\n") == key
    for name in ("a b", "a\tb"):
        with pytest.raises(BadInputError, match="no verifier key"):
            parse_key(str(VerifierKey(name, public)))


def test_base64_has_one_canonical_text():
    """Spare bits, other letters and missing padding are refused."""
    assert decode_canonical_base64("AA==") == b"\0"
    with pytest.raises(ValueError, match=r"^base64 with bits that stand for nothing$"):
        decode_canonical_base64("AB==")
    for text in ("A A==", "AA", "AA=", "AA==\n", "A-==", "=AA="):
        with pytest.raises(ValueError, match=r"base64|padding|character|discontinuous|Excess"):
            decode_canonical_base64(text)


def test_note_of_maximum_length_opens(tmp_path):
    """The text can contain empty lines."""
    own = load_or_create_signer(tmp_path)
    signature = own.sign("a\n").decode().rpartition("\n\n")[2]
    longest = "x" * (65_536 - len(signature.encode()) - 2) + "\n"
    for text in (longest, "a\n\nb\n"):
        assert open_note(own.sign(text), [own.verifier]) == (text, own.verifier)
    assert len(own.sign(longest)) == 65_536
    with pytest.raises(NoteError, match="a note of 65537 bytes; at most 65536 are read"):
        open_note(own.sign("x" + longest), [own.verifier])


def test_key_dir_that_cannot_be_created_is_named(tmp_path):
    """The error names the reason and the variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        BadInputError, match=r"no signing key at .*/file/k/log\.key: Not a directory; .* OCKHAM_KEY_DIR"
    ):
        load_or_create_signer(tmp_path / "file" / "k")


def test_concurrent_first_runs_use_one_key(tmp_path, monkeypatch):
    """No part of the other key remains."""
    first = load_or_create_signer(tmp_path / "first")

    def too_late(_, path):
        Path(path).write_bytes((tmp_path / "first" / "log.key").read_bytes())
        Path(path).chmod(0o600)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", too_late)
    assert load_or_create_signer(tmp_path / "k").verifier == first.verifier
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["log.key"]


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (b"x" * 1_000_001, "a note of 1000001 bytes"),
        (b"\xff\n\n\n", "^a note is UTF-8$"),
        (b"text\n", "no note: text, an empty line"),
        (b"text\n\nsignature", "no note: text, an empty line"),
        (b"te\txt\n\n\xe2\x80\x94 a AAAAAAA=\n", "no note: text, an empty line"),
        (b"text\n\n- a AAAAAAA=\n", "a signature line reads"),
        (b"text\n\n\xe2\x80\x94  AAAAAAA=\n", "^a signature line reads: em dash, name, base64$"),
        (b"text\n\n\xe2\x80\x94 a b AAAAAAA=\n", "a signature line reads"),
        (b"text\n\n\xe2\x80\x94 a AAAAAA==\n", "a signature line reads"),
        (b"text\n\n\xe2\x80\x94 a AAAAAAB=\n", "a signature line reads"),
        (b"text\n\n\xe2\x80\x94 a AAAAAAA=\n", "no known key has signed it"),
        (b"text\n\n", "no note: text, an empty line"),
    ],
)
def test_invalid_notes_have_distinct_errors(note, message):
    """Too long, other encoding, no signature, invalid line, unknown key."""
    with pytest.raises(NoteError, match=message):
        open_note(note, [parse_key(PETER)])


def test_note_with_several_signatures_opens_with_a_known_key(tmp_path):
    """The position does not matter."""
    own, other = load_or_create_signer(tmp_path / "a"), load_or_create_signer(tmp_path / "b")
    note = own.sign("text\n")
    second = other.sign("text\n").rpartition(b"\n\n")[2]
    for both in (note + second, note.replace(b"\n\n", b"\n\n" + second)):
        assert open_note(both, [own.verifier]) == ("text\n", own.verifier)
        assert open_note(both, [other.verifier]) == ("text\n", other.verifier)
    with pytest.raises(NoteError, match="no known key"):
        open_note(note, [VerifierKey(own.verifier.name, other.verifier.public)])
    with pytest.raises(NoteError, match="no known key"):
        open_note(note, [VerifierKey("else", own.verifier.public)])


def test_history_is_split_without_its_torn_tail(tmp_path):
    """All complete notes are returned."""
    own = load_or_create_signer(tmp_path)
    notes = [own.sign(checkpoint_body("o", TreeHead(n, bytes(32)))) for n in (1, 2)]
    data = b"".join(note + b"\n" for note in notes)
    assert split_history(data) == (notes, b"")
    for cut in range(1, len(notes[0])):
        assert split_history(data + notes[0][:cut]) == (notes, notes[0][:cut])
