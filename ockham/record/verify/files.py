"""Verification of files that events name: policies, checkpoints, and the tree head in their metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ockham.errors import RunError
from ockham.record.checkpoint_evidence import TRAINER_KIND
from ockham.record.run_folder import RunFolder, open_regular_file, read_regular_file
from ockham.record.verify.log import LogVerifier
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import VerificationReport

# The limit of the safetensors library itself.
MAX_HEADER_BYTES = 100_000_000


def check_log_references(
    folder: RunFolder, place: tuple[int, int], summary: LogSummary, report: VerificationReport
) -> None:
    """Check the policies, accepting decisions and end of a complete log."""
    for revision, sequence in sorted(summary.policies.items(), key=lambda pair: pair[1]):
        _policy(folder, revision, sequence, report)
    # A batch's decisions then have no context.
    ended_inside = summary.ended_mid_batch and summary.pending_batches == 1
    if summary.finished and summary.pending and not ended_inside:
        what = f"{summary.pending} decisions at the end belong to no context"
        report.add("contradiction", f"log/{place[0]}-{place[1]}", what)
    for saved, fits in summary.checkpoints():
        if not fits:
            report.add(
                "checkpoint",
                saved["snapshot_id"],
                f"names decision {saved['decision_id']}, "
                f"which accepted nothing at iteration {saved['iter_num']}",
                saved["sequence"],
            )


def _policy(folder: RunFolder, revision: str, sequence: int, report: VerificationReport) -> None:
    try:
        found = hashlib.sha256(read_regular_file(folder.policy(revision))).hexdigest()
    except OSError:
        found = ""
    if f"sha256:{found}" != revision:
        place = f"policies/{revision.removeprefix('sha256:')}.json"
        report.add("policy missing", place, "has other bytes" if found else "is missing", sequence)


def check_checkpoints(
    folder: RunFolder, check: LogVerifier, pruned: Collection[str], report: VerificationReport
) -> None:
    """Check that checkpoint files match their events, and that their tree head belongs to this log."""
    for saved, _ in check.summary.checkpoints():
        # A schema's integer may be written 7.0.
        root = check.tree.root_at(int(saved["log_size"]))
        if root is None or root.hex() != saved["log_root"]:
            what = f"names a root of {saved['log_size']} events that the log never had"
            report.add("tampering", saved["snapshot_id"], what, saved["sequence"], check.tamper_cause)
        # A trainer keeps files of kind `trainer` outside of the run, and deletes them when it likes. Their
        # folder is a path from an untrusted log, so nothing is opened there. `ockham lineage` compares them.
        if saved["snapshot_id"] in pruned or saved["kind"] == TRAINER_KIND:
            continue
        try:
            path = folder.checkpoint(saved["snapshot_id"])
        except RunError as error:
            # A name that leaves the folder, or that no writer of ours gives.
            report.add("checkpoint", f"log/{check.attempt}-{check.rank}", str(error), saved["sequence"])
            continue
        for file in saved["files"]:
            report.count("checkpoint files")
            what = _file(path, file, saved)
            if what:
                place = f"checkpoints/{saved['snapshot_id']}/{file['name']}"
                report.add("checkpoint", place, what, saved["sequence"])


def _file(path: Path, file: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """Return the problem of one file of a checkpoint, or an empty string."""
    digest, head = "", None
    try:
        with open_regular_file(path / Path(file["name"]).name) as opened:
            # Weights may be larger than memory.
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            opened.seek(0)
            head = read_safetensors_metadata(opened) if file["name"].endswith(".safetensors") else {}
    except OSError:
        return "is missing, or no regular file; a copy that was made while the run was written can lack it"
    except ValueError:
        # No safetensors file, or a name that no file can have.
        pass
    if digest != file["sha256"]:
        return "has other bytes than recorded"
    if head is None:
        return "not a safetensors file"
    if "log_size" in head and (head["log_size"], head.get("log_root")) != (
        saved["log_size"],
        saved["log_root"],
    ):
        return "names another tree head than the log does"
    return ""


def read_safetensors_metadata(file: BinaryIO) -> dict[str, Any]:
    """Return the metadata of a safetensors file. Values that are JSON are parsed, others are text.

    The file starts with eight bytes of length and a JSON header.

    Raises:
        ValueError: If it is not such a file.

    """
    size = int.from_bytes(file.read(8), "little")
    if not 0 < size <= MAX_HEADER_BYTES:
        raise ValueError(f"a safetensors header of {size} bytes")
    head = orjson.loads(file.read(size))
    if not isinstance(head, dict):
        raise ValueError("a safetensors header is an object")  # noqa: TRY004 - one error for all
    metadata = head.get("__metadata__")
    if not isinstance(metadata, dict | None) or not all(
        isinstance(value, str) for value in (metadata or {}).values()
    ):
        raise ValueError("the metadata of a safetensors file is text by name")
    return {key: _parse_json(value) for key, value in (metadata or {}).items()}


def _parse_json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
