"""Lineage of a checkpoint that another library wrote: the run whose state it contains, and its signed event.

The claims are in the state file of the folder. A copy of a single file has no claims: its run is found by the
digest, among the signed events of all runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError, OckhamError
from ockham.record.checkpoint_evidence import (
    SignedCheckpoint,
    compare_file,
    select_checkpoints,
    signed_checkpoints,
)
from ockham.record.evidence import Evidence, read_evidence
from ockham.record.lineage import Lineage, find_by_digest, trace_claims
from ockham.record.run_folder import RunFolder, list_runs, open_regular_file
from ockham.record.tlog.note import VerifierKey
from ockham.record.trainer_checkpoints import (
    digest_files,
    find_external_problem,
    make_trainer_snapshot_id,
    read_state,
    weights_digest,
    weights_files,
)


def find_trainer_folder(path: Path) -> Path | None:
    """Return the folder of the trainer's checkpoint to which a path belongs. None if it has no state.

    Args:
        path: The folder of a checkpoint, or a file in it.

    """
    folder = path if path.is_dir() else path.parent
    return None if read_state(folder) is None else folder


def trace_trainer_checkpoint(path: Path, folder: Path, runs: Path, keys: Sequence[VerifierKey]) -> Lineage:
    """Return what the signed lines of a run contain about a checkpoint, or about one file of it.

    Deleted files are accepted. Changed files are problems.

    Args:
        path: The folder, or the file.
        folder: The folder.
        runs: Folder of all runs.
        keys: Trusted keys.

    Raises:
        BadInputError: If the folder has no file of weights, or its run is not in `runs`.

    """
    state = read_state(folder)
    assert state is not None
    claims = {name: value for name, value in state.items() if not isinstance(value, dict)}
    name = path.relative_to(folder).as_posix()
    files = digest_files(folder)
    if path != folder:
        digest = next(file["sha256"] for file in files if file["name"] == name)
    elif weights_files(files):
        digest = weights_digest(files)
    else:
        raise BadInputError(f"{folder}: has no file of weights; pass another checkpoint, or a file")

    def find(checkpoints: Sequence[SignedCheckpoint]) -> tuple[SignedCheckpoint | None, str]:
        snapshot_id = make_trainer_snapshot_id(claims)
        for checkpoint in checkpoints:
            if checkpoint.snapshot_id == snapshot_id and checkpoint.is_external:
                return checkpoint, _find_problem(checkpoint, folder, path, name)
        return None, ""

    return trace_claims(path, digest, claims, runs, keys, find=find)


def _find_problem(checkpoint: SignedCheckpoint, folder: Path, path: Path, name: str) -> str:
    if path == folder:
        return find_external_problem(folder, checkpoint, complete=False)
    for file in checkpoint.data["files"]:
        if file["name"] == name:
            return compare_file(path, file)
    return f"{path}: no signed event names this file"


def trace_copy(path: Path, runs: Path, keys: Sequence[VerifierKey]) -> Lineage | None:
    """Return the lineage of a copy of one file, found by its digest. None if no signed event names it.

    Args:
        path: The file.
        runs: Folder of all runs.
        keys: Trusted keys.

    """
    with open_regular_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for run_id in list_runs(runs):
        try:
            evidence = read_evidence(RunFolder(runs, run_id), keys, select=select_checkpoints)
        except OckhamError:
            # A run that cannot be read confirms nothing.
            continue
        for checkpoint in reversed(signed_checkpoints(evidence).values()):
            named = {file["sha256"] for file in checkpoint.data["files"]}
            if checkpoint.is_external and digest in named:
                claims = _claims_of_event(run_id, evidence, checkpoint)
                return trace_claims(path, digest, claims, runs, keys, find=partial(find_by_digest, digest))
    return None


def _claims_of_event(run_id: str, evidence: Evidence, checkpoint: SignedCheckpoint) -> dict[str, Any]:
    attempt, rank = checkpoint.log
    opening = [
        event["data"]
        for log, _, event in evidence.events("run.started", "run.resumed")
        if log == checkpoint.log
    ]
    data = checkpoint.data
    return {
        "run_id": run_id,
        "attempt": attempt,
        "rank": rank,
        "iter_num": data["iter_num"],
        "kind": data["kind"],
        "policy_revision": opening[0]["policy_revision"] if opening else None,
        "log_size": data["log_size"],
        "log_root": data["log_root"],
    }
