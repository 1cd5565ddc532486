"""Signatures of the standalone verifier of an evidence archive: C2SP verifier keys and signed notes.

The packed verifier contains this file, so it imports nothing of the package.
"""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Key = tuple[str, bytes, bytes]


def strict_base64(text: str) -> bytes:
    """Return the bytes of canonical base64. A decoder ignores the spare bits of the last character."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with bits that stand for nothing")
    return raw


def parse_key(text: str) -> Key:
    """Return name, key ID and public key of a C2SP verifier key."""
    name, key_id, encoded = text.strip().split("+", 2)
    raw = strict_base64(encoded)
    digest = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if len(raw) != 33 or raw[0] != 1 or digest.hex() != key_id:
        raise ValueError("no Ed25519 verifier key")
    return name, digest, raw[1:]


def open_note(note: bytes, key: Key) -> tuple[str, str]:
    """Return the signed text of a note and its problem, which is empty if the key has signed the text."""
    text, _, signed = note.partition(b"\n\n")
    match = re.fullmatch(rb"\xe2\x80\x94 (\S+) (\S+)\n", signed)
    try:
        raw = strict_base64(match[2].decode()) if match else b""
    except ValueError:
        raw = b""
    if match is None or match[1] != key[0].encode() or raw[:4] != key[1]:
        return "", "that the given key has not signed"
    try:
        Ed25519PublicKey.from_public_bytes(key[2]).verify(raw[4:], text + b"\n")
        return text.decode(), ""
    except InvalidSignature:
        return "", "whose signature does not fit"
    except ValueError:
        return "", "that is not a text"
