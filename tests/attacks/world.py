"""The files of one run in memory, as attacks and crashes change them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Files = dict[str, bytes]
_LOG = re.compile(r"log/([1-9][0-9]{0,8}-(?:0|[1-9][0-9]{0,5}))/")


class Draw(Protocol):
    """Source of choices: a seeded generator, or hypothesis."""

    def integer(self, low: int, high: int) -> int:
        """Return a number from low to high, both included."""


def choose(draw: Draw, values: Iterable[Any]) -> Any:
    """Return one of the values."""
    listed = list(values)
    return listed[draw.integer(0, len(listed) - 1)]


@dataclass(frozen=True)
class Key:
    """A signing key in C2SP form."""

    private: Ed25519PrivateKey
    name: str

    @property
    def raw(self) -> bytes:
        """The public key with its algorithm byte."""
        public = self.private.public_key()
        return b"\1" + public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    @property
    def text(self) -> str:
        """The verifier key."""
        return f"{self.name}+{self._id().hex()}+{base64.b64encode(self.raw).decode()}"

    def sign(self, origin: str, size: int, root: bytes) -> bytes:
        """Return a signed tree head."""
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self._id() + self.private.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.name} {signature}\n".encode()

    def _id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + self.raw).digest()[:4]


def make_key(seed: bytes) -> Key:
    """Return a key that depends on the seed only."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
    return Key(private, f"ockham-{hashlib.sha256(seed).hexdigest()[:8]}")


def tree_root(lines: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of RFC 6962, section 2.1."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\0" + lines[0]).digest()
    half = 1 << (len(lines) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(lines[:half]) + tree_root(lines[half:])).digest()


def list_logs(files: Mapping[str, bytes]) -> list[str]:
    """Return the names of all logs that have a file, such as `1-0`."""
    return sorted({match[1] for path in files if (match := _LOG.match(path))})


def list_segments(files: Mapping[str, bytes], log: str) -> list[str]:
    """Return the segments of a log in order."""
    return sorted(path for path in files if re.fullmatch(rf"log/{log}/[0-9]{{12}}\.jsonl", path))


def read_lines(files: Mapping[str, bytes], log: str) -> list[bytes]:
    """Return the complete lines of a log."""
    return [line for path in list_segments(files, log) for line in files[path].split(b"\n")[:-1]]


def write_lines(files: Files, log: str, lines: Sequence[bytes], tail: bytes = b"") -> None:
    """Replace the lines of a log. Segments begin where they began."""
    firsts = sorted({0, *(int(Path(path).stem) for path in list_segments(files, log))})
    for path in list_segments(files, log):
        del files[path]
    kept = [first for first in firsts if first < len(lines)] or [0]
    for first, after in zip(kept, [*kept[1:], len(lines)], strict=True):
        part = b"".join(line + b"\n" for line in lines[first:after])
        files[f"log/{log}/{first:012d}.jsonl"] = part + (tail if first == kept[-1] else b"")


def read_notes(files: Mapping[str, bytes], log: str) -> list[bytes]:
    """Return the complete notes in the history of a log."""
    parts = files.get(f"log/{log}/checkpoints", b"").split(b"\n\n")
    return [
        parts[at] + b"\n\n" + parts[at + 1] + b"\n"
        for at in range(0, len(parts) - 1, 2)
        if at + 2 < len(parts)
    ]


def write_notes(
    files: Files, log: str, notes: Sequence[bytes], newest: bytes | None, torn: bytes = b""
) -> None:
    """Replace the history and the newest tree head. None or an empty history removes the file."""
    write_or_remove(files, f"log/{log}/checkpoints", b"".join(note + b"\n" for note in notes) + torn)
    write_or_remove(files, f"log/{log}/checkpoint", newest or b"")


def write_or_remove(files: Files, path: str, data: bytes) -> None:
    """Write a file. Without data, remove it."""
    if data:
        files[path] = data
    else:
        files.pop(path, None)


def note_size(note: bytes) -> int:
    """Return the size in a tree head."""
    return int(note.split(b"\n")[1])


def write_tiles(files: Files, log: str, lines: Sequence[bytes], sizes: Iterable[int]) -> None:
    """Replace the tiles of a log by those of trees of these sizes, which must be below 256."""
    remove_below(files, f"log/{log}/tile/")
    for size in filter(None, sizes):
        leaves = b"".join(hashlib.sha256(b"\0" + line).digest() for line in lines[:size])
        files[f"log/{log}/tile/0/000.p/{size}"] = leaves


def remove_below(files: Files, prefix: str) -> None:
    """Remove all files whose path begins with the prefix."""
    for path in [path for path in files if path.startswith(prefix)]:
        del files[path]


def read_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line, or an empty one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) and isinstance(event.get("data"), dict) else {}


def write_event(event: Mapping[str, Any]) -> bytes:
    """Return the line of an event as the writer encodes it."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def is_kind(event: Mapping[str, Any], kind: str) -> bool:
    """Return True if an event is of a kind such as `run.finished`."""
    return event.get("type") == f"ockham.{kind}.v1"


@dataclass
class World:
    """A run folder in memory.

    Attributes:
        files: Bytes by path below the run folder.
        folders: Folders without a file.
        name: Name of the run folder.
        run_id: Run ID of the recorded run.
        donors: Files of other runs, from which an attacker can take parts.
        attic: Files of all checkpoints ever saved, by path.
        old_key: A stolen key that is not trusted.
        operations: Names of the changes, in order.

    """

    files: Files
    run_id: str
    donors: Sequence[Files]
    attic: Mapping[str, bytes]
    old_key: Key
    name: str = ""
    folders: set[str] = field(default_factory=set)
    operations: list[str] = field(default_factory=list)

    def write(self, runs: Path) -> Path:
        """Write the run folder below *runs* and return it."""
        root = runs / (self.name or self.run_id)
        for folder in {str(Path(path).parent) for path in self.files} | self.folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for path, data in self.files.items():
            (root / path).write_bytes(data)
        return root


def read_folder(root: Path) -> Files:
    """Return all files below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
