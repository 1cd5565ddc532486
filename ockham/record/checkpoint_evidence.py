"""Checkpoints that signed events name, and the check of their files against these events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import RunError
from ockham.record.evidence import Evidence, LogKey, select_kinds
from ockham.record.run_folder import RunFolder, open_regular_file

CHECKPOINT_KINDS = ("checkpoint.saved", "checkpoint.pruned", "run.resumed")
select_checkpoints = select_kinds(*CHECKPOINT_KINDS)
# Kind of the checkpoints that another library writes, outside of the run folder. It may delete them.
TRAINER_KIND = "trainer"


class SignedCheckpoint(NamedTuple):
    """A checkpoint that a signed event names.

    Attributes:
        log: Attempt and rank of the event.
        sequence: Sequence of the event.
        event_id: ID of the event.
        data: Data of `checkpoint.saved`.
        pruned: Reason code of the signed `checkpoint.pruned`. None if the files must exist.
        superseded: True if a later attempt continued from an earlier iteration.

    """

    log: LogKey
    sequence: int
    event_id: str
    data: Mapping[str, Any]
    pruned: str | None = None
    superseded: bool = False

    @property
    def snapshot_id(self) -> str:
        """ID of the checkpoint."""
        return str(self.data["snapshot_id"])

    @property
    def is_external(self) -> bool:
        """True if the run folder does not contain the files."""
        return bool(self.data["kind"] == TRAINER_KIND)


def signed_checkpoints(evidence: Evidence) -> dict[str, SignedCheckpoint]:
    """Return the checkpoints of a run by ID, in the order of their events."""
    found: dict[str, SignedCheckpoint] = {}
    for log, sequence, event in evidence.events(*CHECKPOINT_KINDS):
        data, kind = event["data"], event["type"]
        if kind == "ockham.checkpoint.saved.v1":
            found[data["snapshot_id"]] = SignedCheckpoint(log, sequence, str(event["id"]), data)
        elif kind == "ockham.checkpoint.pruned.v1" and data["snapshot_id"] in found:
            # A checkpoint that was pruned before it was saved does not exist.
            saved = found[data["snapshot_id"]]
            found[data["snapshot_id"]] = saved._replace(pruned=data["reason_code"])
        elif kind == "ockham.run.resumed.v1" and sequence == 0 and log[1] == 0:
            for name, saved in found.items():
                if saved.log[0] < log[0] and saved.data["iter_num"] >= data["iter_num"]:
                    found[name] = saved._replace(superseded=True)
    return found


def find_file_problem(folder: RunFolder, checkpoint: SignedCheckpoint, *, digest: bool = True) -> str:
    """Return what differs between the files of a checkpoint and its event. Empty if they agree.

    Args:
        folder: The run.
        checkpoint: The checkpoint.
        digest: Compare SHA-256 digests. Without, only size and existence are compared.

    """
    try:
        path = folder.checkpoint(checkpoint.snapshot_id)
    except RunError as error:
        return str(error)
    named = ((path / Path(file["name"]).name, file) for file in checkpoint.data["files"])
    problems = (compare_file(name, file, digest=digest) for name, file in named)
    return next(filter(None, problems), "")


def compare_file(path: Path, file: Mapping[str, Any], *, digest: bool = True) -> str:
    """Return what differs between a file and its entry in an event. Empty if they agree.

    Args:
        path: The file.
        file: Name, sha256 and bytes.
        digest: Compare SHA-256 digests. Without, only size and existence are compared.

    """
    try:
        with open_regular_file(path) as opened:
            size = opened.seek(0, 2)
            opened.seek(0)
            actual = hashlib.file_digest(opened, "sha256").hexdigest() if digest else file["sha256"]
    except (OSError, ValueError) as error:
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    if size != file["bytes"] or actual != file["sha256"]:
        return f"{path}: differs from the log: sha256 {actual} of {size} bytes, the log has {file['sha256']}"
    return ""
