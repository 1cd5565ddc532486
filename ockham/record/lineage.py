"""Lineage of a weights file: the run and the decisions that made it, and whether the log confirms its bytes.

The metadata of a safetensors file names run, attempt, rank and the tree head before it was written. A later
event of that log contains the digest of the file. Both must agree, and a signature must cover the decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import BadInputError, LogError
from ockham.event import event_type
from ockham.record.recovery import check_signed_prefix, signed_heads
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import VerifierKey
from ockham.record.verify.files import read_safetensors_metadata

_SAVED = event_type("checkpoint.saved")
_MARK = b'"' + _SAVED.encode() + b'"'


class Lineage(NamedTuple):
    """Claims of a weights file, and what the log contains about it.

    Attributes:
        path: The file.
        sha256: Digest of its bytes.
        metadata: Its metadata: run_id, attempt, rank, iter_num, kind, policy_revision, log_size, log_root.
        checkpoint_event: Data of the `checkpoint.saved` that names these bytes. None if no event does.
        event_id: ID of that event.
        signed: Number of events that the newest valid signature covers.
        problems: Contradictions. If empty, the log confirms these bytes.

    """

    path: Path
    sha256: str
    metadata: Mapping[str, Any]
    checkpoint_event: Mapping[str, Any] | None
    event_id: str
    signed: int
    problems: tuple[str, ...]


def find_weights_file(path: Path) -> Path:
    """Return the file, or the safetensors file in a checkpoint folder.

    Raises:
        BadInputError: If there is no such file, or more than one.

    """
    if path.is_file():
        return path
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise BadInputError(f"{path}: a safetensors file or a folder with one was expected; there: {there}")
    return found[0]


def read_claims(path: Path) -> dict[str, Any]:
    """Return the metadata of a safetensors file that a run has written.

    Raises:
        BadInputError: If the file has no such metadata.

    """
    try:
        with open_regular_file(path) as file:
            told = read_safetensors_metadata(file)
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadInputError(f"{path}: no safetensors file with JSON metadata: {error}") from None
    kinds = {"run_id": str, "attempt": int, "rank": int, "log_size": int, "log_root": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(told.get(name), kind)]
    if wrong:
        raise BadInputError(f"{path} names no run of ours: its metadata has no {', '.join(wrong)}")
    return told


def lineage(path: Path, runs: Path, keys: Sequence[VerifierKey]) -> Lineage:
    """Return what the log of a run contains about a weights file. The file can be anywhere.

    Raises:
        BadInputError: If the file has no metadata of a run, or its run is not in `runs`.

    """
    told = read_claims(path)
    folder = RunFolder(runs, told["run_id"]).require_exists()
    with open_regular_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    attempt, rank = told["attempt"], told["rank"]
    root, saved, event_id = _read(folder, told, digest)
    problems = []
    if root is None or root.hex() != told["log_root"]:
        problems.append(
            f"log {attempt}-{rank} never had the root that the file names at {told['log_size']} events"
        )
    if saved is None:
        problems.append("no event of that log names these bytes")
    elif (saved["log_size"], saved["log_root"]) != (told["log_size"], told["log_root"]):
        problems.append("the event that names these bytes names another tree head")
    signed = 0
    try:
        check_signed_prefix(folder, attempt, rank, keys)
        signed = max(signed_heads(folder, attempt, rank, keys), default=0)
    except LogError as error:
        problems.append(str(error))
    if not problems and signed < told["log_size"]:
        problems.append("no known key has signed the decisions before these weights; give one with --key")
    return Lineage(path, digest, told, saved, event_id, signed, tuple(problems))


def _read(
    folder: RunFolder, told: Mapping[str, Any], digest: str
) -> tuple[bytes | None, Mapping[str, Any] | None, str]:
    """Return the root at the claimed size, and the event that names these bytes with its ID."""
    frontier, root, saved, event_id = CompactRange(), None, None, ""
    for segment in folder.segments(told["attempt"], told["rank"]):
        for line in read_complete_lines(segment)[0]:
            if frontier.size <= told["log_size"]:
                root = frontier.root() if frontier.size == told["log_size"] else root
                frontier.append(leaf_hash(line))
            if _MARK in line:
                event = _event(line)
                if any(file.get("sha256") == digest for file in event.get("data", {}).get("files", ())):
                    saved, event_id = event["data"], str(event["id"])
    if frontier.size == told["log_size"]:
        root = frontier.root()
    return root, saved, event_id


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) and event.get("type") == _SAVED else {}
