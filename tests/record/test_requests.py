"""Requests of people: signature, check, and the event that records one."""

from __future__ import annotations

import base64
import hashlib
import json
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.record.requests import (
    EVENT_KINDS,
    MAX_REQUEST_BYTES,
    RefusedRequest,
    check_request,
    describe_mismatch,
    event_fields,
    make_request,
    open_request,
    sign_request,
)
from ockham.record.tlog.note import load_or_create_signer
from tests.helpers.events import run_folder
from tests.helpers.requests import new_signer, signed_request


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("requests"))


def check_with_cryptography(note, key_text):
    """Check a note as C2SP describes it, without this package. Raise InvalidSignature if it does not fit."""
    text, _, rest = note.partition("\n\n\u2014 ")
    name, _, signature = rest.strip().partition(" ")
    key_name, key_id, encoded = key_text.split("+", 2)
    public, raw = base64.b64decode(encoded)[1:], base64.b64decode(signature)
    digest = hashlib.sha256(key_name.encode() + b"\n\x01" + public).digest()
    assert name == key_name
    assert raw[:4] == digest[:4] == bytes.fromhex(key_id)
    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], (text + "\n").encode())
    return json.loads(text.split("\n")[1])


@pytest.mark.parametrize("action", EVENT_KINDS)
def test_recorded_request_verifies_with_cryptography_alone(folder, action):
    """The event contains the complete note and the key."""
    kind, data = event_fields(signed_request(folder, action, settings=("gate.target=0.5",)))
    content = check_with_cryptography(data["request"], data["key"])
    assert (content["by"], content["reason"], content["run_id"]) == ("alice", "because of the loss", "a")
    assert content["request_id"] == data["request_id"]
    assert kind == EVENT_KINDS[action]
    with pytest.raises(InvalidSignature):
        check_with_cryptography(data["request"].replace("alice", "mallory"), data["key"])


def test_open_request_returns_what_was_signed(folder):
    """Request, note and key are equal."""
    signed = signed_request(folder, "INTERVENE", settings=("gate.target=0.5",))
    assert open_request(signed.note.encode(), [load_or_create_signer().verifier]) == signed


@given(st.data())
def test_open_request_with_one_changed_byte_is_refused(folder, data):
    """No byte of the note is without a meaning."""
    signed = signed_request(folder, "STOP")
    note = bytearray(signed.note.encode())
    position = data.draw(st.integers(0, len(note) - 1))
    note[position] ^= data.draw(st.integers(1, 255))
    opened = open_request(bytes(note), [load_or_create_signer().verifier])
    assert isinstance(opened, RefusedRequest)
    assert opened.reason_code in {"UNSIGNED", "WRONG_SIGNATURE"}


@given(st.binary(max_size=300))
def test_open_request_of_any_bytes_is_refused(data):
    """Untrusted bytes raise nothing."""
    assert isinstance(open_request(data, [load_or_create_signer().verifier]), RefusedRequest)


_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["NOTE", "a"])
_FIELDS = ("action", "by", "reason", "run_id", "settings", "x")


def is_acceptable(name, value):
    """Return True if a request may have this value."""
    if name == "settings":
        return isinstance(value, list) and all(
            isinstance(each, str) and len(each) >= 3 and each.isprintable() for each in value
        )
    choices = {"action": {*EVENT_KINDS}, "run_id": {"a"}, "x": set()}
    if name in choices:
        return isinstance(value, str) and value in choices[name]
    return isinstance(value, str) and value != "" and value.isprintable()


@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES | st.lists(_VALUES, max_size=3), max_size=2))
def test_signed_text_is_accepted_exactly_if_it_is_a_request(folder, changes):
    """A trusted key can sign anything. Only complete requests with known fields are accepted."""
    signer = load_or_create_signer()
    content = json.loads(signed_request(folder, "STOP").note.split("\n")[1]) | changes
    note = signer.sign(f"ockham/requests/a\n{json.dumps(content)}\n")
    opened = open_request(note, [signer.verifier])
    expected = all(is_acceptable(name, value) for name, value in changes.items())
    assert isinstance(opened, RefusedRequest) != expected


def test_tree_head_is_not_a_request():
    """The same key signs both, and the first lines differ."""
    signer = load_or_create_signer()
    note = signer.sign("ockham/runs/a/1-0\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
    opened = open_request(note, [signer.verifier])
    assert isinstance(opened, RefusedRequest)
    assert opened.reason_code == "MALFORMED"


def test_request_of_another_key_is_refused(folder):
    """A valid signature of an unknown key."""
    stranger = new_signer()
    opened = open_request(
        signed_request(folder, "STOP", stranger).note.encode(), [load_or_create_signer().verifier]
    )
    assert isinstance(opened, RefusedRequest)
    assert opened.reason_code == "WRONG_SIGNATURE"
    assert not isinstance(
        open_request(signed_request(folder, "STOP", stranger).note.encode(), [stranger.verifier]),
        RefusedRequest,
    )


def test_check_request_refuses_other_runs_duplicates_and_old_ones(folder, tmp_path):
    """A request is for one run, once, for one day."""
    signed = signed_request(folder, "STOP")
    digest, now = signed.request.run_json_sha256, time.time()
    assert check_request(signed, "a", digest, set(), now) is None
    refused = {
        "OTHER_RUN": check_request(signed, "b", digest, set(), now),
        "DUPLICATE": check_request(signed, "a", digest, {signed.request.request_id}, now),
        "EXPIRED": check_request(signed, "a", digest, set(), now + 24 * 3_600 + 60),
    }
    assert check_request(signed, "a", digest, set(), now + 24 * 3_600 - 60) is None
    assert {code: found and found.reason_code for code, found in refused.items()} == {c: c for c in refused}
    # An earlier run of the same name has another run.json.
    other = check_request(signed, "a", "0" * 64, set(), now)
    assert other is not None
    assert other.reason_code == "OTHER_RUN"


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "\x1b[31m", "x" * 2_001])
def test_make_request_refuses_unprintable_or_long_texts(folder, text):
    """One line of printable characters."""
    with pytest.raises(BadInputError, match="printable characters"):
        make_request(folder, "NOTE", "alice", text)
    with pytest.raises(BadInputError, match=r"--by .*printable characters"):
        make_request(folder, "NOTE", text, "reason")
    with pytest.raises(BadInputError, match=r"--set .*printable characters"):
        make_request(
            folder, "INTERVENE", "alice", "reason", settings=("gate.target=0.5", f"gate.eta={text}\n")
        )


def test_longest_request_fits_its_event_line(folder):
    """The largest accepted request, escaped twice, is shorter than a line."""
    quotes = '"' * 2_000
    request = make_request(folder, "INTERVENE", '"' * 100, quotes, settings=('a.b="' + '"' * 190,) * 16)
    signed = sign_request(request, load_or_create_signer())
    assert len(signed.note.encode()) <= MAX_REQUEST_BYTES
    assert len(json.dumps(event_fields(signed)[1])) < 50_000
    emoji = "\U0001f600" * 2_000
    wide = make_request(folder, "INTERVENE", "a", emoji, settings=("a.b=" + "\u20ac" * 190,) * 16)
    with pytest.raises(BadInputError, match="at most"):
        sign_request(wide, load_or_create_signer())


@given(st.sampled_from(["by", "reason", "run_id", "request_id", "settings", "key"]))
def test_describe_mismatch_names_a_changed_field(folder, name):
    """Each field of the event is compared with the signed request."""
    signed = signed_request(folder, "INTERVENE", settings=("gate.target=0.5",))
    kind, data = event_fields(signed)
    assert describe_mismatch(kind, data, "a", signed.key) is None
    changed = ["gate.target=0.9"] if name == "settings" else "other"
    assert name in str(describe_mismatch(kind, {**data, name: changed}, "a", signed.key))
    assert "INTERVENE" in str(describe_mismatch("stop.requested", data, "a", signed.key))
    assert "run a" in str(describe_mismatch(kind, data, "b", signed.key))
