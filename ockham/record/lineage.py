"""Lineage of a weights file: the run and the decisions that made it, and whether the log confirms its bytes.

The metadata of a safetensors file names run, attempt, rank and the tree head before it was written. A later
event of that log contains the digest of the file. Both must agree, and a signature must cover the decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, RunError, UnverifiableError
from ockham.record.checkpoint_evidence import SignedCheckpoint, select_checkpoints, signed_checkpoints
from ockham.record.evidence import Evidence, LogKey, read_evidence
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
        metadata: Its metadata, or the state in its folder: run_id, attempt, rank, iter_num, kind,
            policy_revision, log_size, log_root.
        checkpoint_event: Data of the `checkpoint.saved` that names these bytes. None if no event does.
        event_id: ID of that event.
        signed: Number of events that the newest valid signature covers.
        problems: Contradictions. If empty, the log confirms these bytes.
        settings: Settings of the trainer in the signed first event of the log.

    """

    path: Path
    sha256: str
    metadata: Mapping[str, Any]
    checkpoint_event: Mapping[str, Any] | None
    event_id: str
    signed: int
    problems: tuple[str, ...]
    settings: Mapping[str, Any]


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
            metadata = read_safetensors_metadata(file)
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadInputError(f"{path}: foreign file, not written by a run of Ockham: {error}") from None
    kinds = {"run_id": str, "attempt": int, "rank": int, "log_size": int, "log_root": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(metadata.get(name), kind)]
    if wrong:
        raise BadInputError(
            f"{path}: foreign file, not written by a run of Ockham: its metadata has no {', '.join(wrong)}"
        )
    return metadata


def lineage(path: Path, runs: Path, keys: Sequence[VerifierKey], pins: Sequence[bytes] = ()) -> Lineage:
    """Return what the signed lines of a run contain about a weights file. The file can be anywhere.

    Raises:
        BadInputError: If the file has no metadata of a run, its run is not in `runs`, or a pin is invalid.

    """
    metadata = read_claims(path)
    with open_regular_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return trace_claims(path, digest, metadata, runs, keys, pins, find=partial(find_by_digest, digest))


def trace_claims(
    path: Path,
    digest: str,
    metadata: Mapping[str, Any],
    runs: Path,
    keys: Sequence[VerifierKey],
    pins: Sequence[bytes] = (),
    *,
    find: Callable[[Sequence[SignedCheckpoint]], tuple[SignedCheckpoint | None, str]],
) -> Lineage:
    """Return what the signed lines of a run contain about a file with these claims.

    Args:
        path: The file, or the folder of a checkpoint.
        digest: Digest of its weights.
        metadata: Claims: run_id, attempt, rank, log_size, log_root.
        runs: Folder of all runs.
        keys: Trusted keys.
        pins: Trusted tree heads.
        find: Returns the checkpoint of these weights among those of the claimed log, and what differs.

    Raises:
        BadInputError: If the run is not in `runs`, or a pin is invalid.

    """
    folder = RunFolder(runs, metadata["run_id"]).require_exists().require_own_name()
    place, size = (metadata["attempt"], metadata["rank"]), metadata["log_size"]
    report = VerificationReport(folder.run_id)
    evidence = read_evidence(
        folder,
        keys,
        pins=pinned_heads(folder, pins, keys, report),
        select=select_checkpoints,
        sizes={place: (size,)},
    )
    log = evidence.logs.get(place)
    own = [each for each in signed_checkpoints(evidence).values() if each.log == place]
    saved, difference = find(own)
    problems = [*evidence.problems, *(finding.message for finding in report.findings)]
    name = f"log {place[0]}-{place[1]}"
    if log is None or log.roots.get(size, b"").hex() != metadata["log_root"]:
        problems.append(f"{name} never had the root that the file names at {size} events")
    elif log.signed < size:
        problems.append("no known key has signed the decisions before these weights; give one with --key")
    if saved is None:
        problems.append(f"no signed event of {name} names these bytes")
    if difference:
        problems.append(difference)
    if saved is not None and (saved.data["log_size"], saved.data["log_root"]) != (size, metadata["log_root"]):
        problems.append("the event that names these bytes names another tree head")
    return Lineage(
        path,
        digest,
        metadata,
        None if saved is None else saved.data,
        "" if saved is None else saved.event_id,
        0 if log is None else log.signed,
        tuple(problems),
        _read_settings(evidence, place),
    )


def _read_settings(evidence: Evidence, place: LogKey) -> dict[str, Any]:
    """Return the settings in the signed first event of a log."""
    for log, _, event in evidence.events("run.started", "run.resumed"):
        if log == place and isinstance(event["data"].get("settings"), dict):
            return dict(event["data"]["settings"])
    return {}


class BaseStep(NamedTuple):
    """One step of the chain of runs from which weights come.

    Attributes:
        source: Run and checkpoint, or the folder of foreign weights.
        confirmed: True if signed lines of that run name the checkpoint with the recorded digest.
        message: The acceptance, or the reason why the step is not confirmed.

    """

    source: str
    confirmed: bool
    message: str


def trace_bases(settings: Mapping[str, Any], runs: Path, keys: Sequence[VerifierKey]) -> list[BaseStep]:
    """Return the runs from which a run's weights come, the nearest first, as far as the logs are at hand."""
    steps: list[BaseStep] = []
    seen: set[str] = set()
    while settings.get("from_run") and settings["from_run"] not in seen:
        run, checkpoint = str(settings["from_run"]), str(settings.get("checkpoint", ""))
        seen.add(run)
        source = f"run {run}, checkpoint {checkpoint}"
        try:
            folder = RunFolder(runs, run).require_exists().require_own_name()
            evidence = read_evidence(folder, keys, select=select_checkpoints)
        except (RunError, UnverifiableError) as error:
            steps.append(BaseStep(source, confirmed=False, message=f"the chain stops here: {error}"))
            return steps
        saved = signed_checkpoints(evidence).get(checkpoint)
        if evidence.problems:
            steps.append(BaseStep(source, confirmed=False, message=evidence.problems[0]))
        elif saved is None:
            message = "no signed event names this checkpoint"
            steps.append(BaseStep(source, confirmed=False, message=message))
        elif saved.data["weights_sha256"] != settings.get("weights_sha256"):
            message = "its signed event names other weights"
            steps.append(BaseStep(source, confirmed=False, message=message))
        else:
            decision = saved.data["decision_id"]
            message = f"accepted by decision {decision}" if decision else "not accepted by a decision"
            steps.append(BaseStep(source, confirmed=True, message=message))
        if saved is None:
            return steps
        settings = _read_settings(evidence, saved.log)
    if settings.get("init_from"):
        message = "outside of any run: nothing is known about these weights"
        steps.append(BaseStep(str(settings["init_from"]), confirmed=False, message=message))
    return steps


def find_by_digest(
    digest: str, checkpoints: Sequence[SignedCheckpoint]
) -> tuple[SignedCheckpoint | None, str]:
    """Return the newest checkpoint with a file of this digest."""
    for checkpoint in reversed(checkpoints):
        if digest in {file.get("sha256") for file in checkpoint.data["files"]}:
            return checkpoint, ""
    return None, ""
