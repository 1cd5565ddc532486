"""Lineage of a weights file: the run and the decisions that made it, and whether the log confirms its bytes.

The metadata of a safetensors file names run, attempt, rank and the tree head before it was written. A later
event of that log contains the digest of the file. Both must agree, and a signature must cover the decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError
from ockham.record.checkpoint_evidence import select_checkpoints, signed_checkpoints
from ockham.record.evidence import read_evidence
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.tlog.note import VerifierKey
from ockham.record.verify.files import read_safetensors_metadata
from ockham.record.verify.pins import pinned_heads
from ockham.record.verify.report import VerificationReport


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


def lineage(path: Path, runs: Path, keys: Sequence[VerifierKey], pins: Sequence[bytes] = ()) -> Lineage:
    """Return what the signed lines of a run contain about a weights file. The file can be anywhere.

    Raises:
        BadInputError: If the file has no metadata of a run, its run is not in `runs`, or a pin is invalid.

    """
    told = read_claims(path)
    folder = RunFolder(runs, told["run_id"]).require_exists().require_own_name()
    with open_regular_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    place, size = (told["attempt"], told["rank"]), told["log_size"]
    report = VerificationReport(folder.run_id)
    evidence = read_evidence(
        folder,
        keys,
        pins=pinned_heads(folder, pins, keys, report),
        select=select_checkpoints,
        sizes={place: (size,)},
    )
    log = evidence.logs.get(place)
    saved = next(
        (
            checkpoint
            for checkpoint in reversed(signed_checkpoints(evidence).values())
            if checkpoint.log == place
            and any(file.get("sha256") == digest for file in checkpoint.data["files"])
        ),
        None,
    )
    problems = [*evidence.problems, *(finding.message for finding in report.findings)]
    name = f"log {place[0]}-{place[1]}"
    if log is None or log.roots.get(size, b"").hex() != told["log_root"]:
        problems.append(f"{name} never had the root that the file names at {size} events")
    elif log.signed < size:
        problems.append("no known key has signed the decisions before these weights; give one with --key")
    if saved is None:
        problems.append(f"no signed event of {name} names these bytes")
    if saved is not None and (saved.data["log_size"], saved.data["log_root"]) != (size, told["log_root"]):
        problems.append("the event that names these bytes names another tree head")
    return Lineage(
        path,
        digest,
        told,
        None if saved is None else saved.data,
        "" if saved is None else saved.event_id,
        0 if log is None else log.signed,
        tuple(problems),
    )
