"""Transparency-log signatures: keys and signed notes of C2SP (signed-note, tlog-checkpoint) with Ed25519.

    ockham/runs/night-1/1-0          origin: the log
    48211                            number of events
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — ockham-3f2a9c1b
    Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=

The key is created on first use in `$OCKHAM_KEY_DIR`, or else in the user's configuration folder, outside of
all runs.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ockham.errors import BadInputError
from ockham.record.durable_io import fsync_dir
from ockham.record.tlog.private_file import (
    make_private_dirs,
    read_private_file,
    require_private,
    require_private_folders,
)

ED25519 = 1
KEY_FILE = "log.key"
_MAX_NOTE = 65_536
_MAX_KEY_FILE_BYTES = 4_096


class VerifierKey(NamedTuple):
    """Name and Ed25519 public key. Its text is `name+keyid+base64(0x01 || key)`."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """First four bytes of SHA-256(name, newline, 0x01, key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([ED25519]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"


class Signer(NamedTuple):
    """A private key and the name in its signatures."""

    key: Ed25519PrivateKey
    verifier: VerifierKey

    def sign(self, text: str) -> bytes:
        """Return the note: the text, which ends in a newline, an empty line, and one signature line."""
        signature = base64.b64encode(self.verifier.id + self.key.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.verifier.name} {signature}\n".encode()


class NoteError(ValueError):
    """The bytes are not a note, or no known key has signed it."""


class UnknownKeyError(NoteError):
    """No known key has signed a note."""


def key_dir() -> Path:
    """Return the folder of the private key."""
    return Path(os.environ.get("OCKHAM_KEY_DIR") or platformdirs.user_config_dir("ockham"))


def load_or_create_signer(folder: Path | None = None) -> Signer:
    """Return the user's key. It is created on first use with mode 0600 in a folder of mode 0700.

    Raises:
        BadInputError: If the folder cannot be written, the file is not a key, or another user can read or
            replace the file.

    """
    path = (folder or key_dir()) / KEY_FILE
    try:
        data = read_private_file(path) if path.exists() else _make_key(path)
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(data.decode("ascii").strip()))
        require_private(path)
    except OSError as error:
        raise BadInputError(
            f"no signing key at {path}: {error.strerror}; name another folder with OCKHAM_KEY_DIR"
        ) from None
    except ValueError:
        raise BadInputError(f"{path} holds no key: 64 hex digits were expected") from None
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Signer(key, VerifierKey(f"ockham-{hashlib.sha256(public).hexdigest()[:8]}", public))


def local_verifier_key() -> VerifierKey | None:
    """Return this user's verifier key, or None if there is no key. Never creates one.

    Raises:
        BadInputError: If the file is not a key.

    """
    return load_or_create_signer().verifier if (key_dir() / KEY_FILE).is_file() else None


def parse_key(text: str) -> VerifierKey:
    """Return a verifier key from its text.

    Raises:
        BadInputError: If the text is not a verifier key.

    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        raw = decode_canonical_base64(encoded)
    except ValueError:
        raw = b""
    key = VerifierKey(name, raw[1:])
    if not name or len(raw) != 33 or raw[0] != ED25519 or key.id.hex() != key_id or set(name) & set(" \t\n"):
        raise BadInputError(
            f"{text!r:.120} is no verifier key: name+keyid+base64, as `ockham keygen` prints it"
        )
    return key


def read_key_file(path: Path) -> VerifierKey:
    """Return the verifier key in a file or pipe. The message of an error never contains its content.

    Raises:
        BadInputError: If the file cannot be read, or contains anything but one verifier key.

    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"key file {str(path)!r:.200}: cannot be read: {reason}") from None
    try:
        return parse_key(data.decode("utf-8") if len(data) <= _MAX_KEY_FILE_BYTES else "")
    except (ValueError, BadInputError):
        raise BadInputError(
            f"key file {str(path)!r:.200}: not a verifier key; accepted: one line name+keyid+base64, "
            "as `ockham keygen` prints it"
        ) from None


def decode_canonical_base64(text: str) -> bytes:
    """Return the bytes of canonical base64.

    The last character of an incomplete group has bits that a decoder ignores (RFC 4648, section 3.5). Without
    this check a signature could be written in several ways, and a changed byte would verify.

    Raises:
        ValueError: If it is not base64, or not the canonical text of its bytes.

    """
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with bits that stand for nothing")
    return raw


def open_note(note: bytes, keys: Sequence[VerifierKey]) -> tuple[str, VerifierKey]:
    """Return the text of a note, and the key in `keys` that has signed it.

    Raises:
        NoteError: If it is malformed, or its signature does not fit.
        UnknownKeyError: If none of the keys has signed it.

    """
    if len(note) > _MAX_NOTE:
        raise NoteError(f"a note of {len(note)} bytes; at most {_MAX_NOTE} are read")
    try:
        body = note.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("a note is UTF-8") from None
    text, separator, signatures = body.rpartition("\n\n")
    if not separator or not signatures.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in body):
        raise NoteError("no note: text, an empty line, signatures, each line ended")
    text += "\n"
    for line in signatures.splitlines():
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        try:
            raw = decode_canonical_base64(encoded)
        except ValueError:
            raw = b""
        if mark != "\u2014" or not name or len(raw) < 5:
            raise NoteError("a signature line reads: em dash, name, base64")
        for key in keys:
            if key.name == name and key.id == raw[:4]:
                _check(key, raw[4:], text)
                return text, key
    raise UnknownKeyError("no known key has signed it")


def _check(key: VerifierKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        raise NoteError(f"the signature of {key.name} does not fit") from None


def _make_key(path: Path) -> bytes:
    make_private_dirs(path.parent)
    require_private_folders(path)
    raw = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    data = raw.hex().encode() + b"\n"
    temporary = path.with_name(f".{KEY_FILE}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        # Two first runs at once: one key wins, both use it.
        os.link(temporary, path)
    except FileExistsError:
        data = read_private_file(path)
    finally:
        temporary.unlink()
    fsync_dir(path.parent)
    return data
