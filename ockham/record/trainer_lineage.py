"""Lineage of a checkpoint that another library wrote: the run whose state it contains, and its signed event.

The claims are in the state file, in the folder or next to the file. A copy without it has no claims: its run
is found by the digest, among the signed events of all runs. No file of the library is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
from ockham.record.checkpoint_path import CheckpointPath, list_possible_checkpoints
from ockham.record.evidence import Evidence, read_evidence
from ockham.record.lineage import Lineage, find_by_digest, trace_claims
from ockham.record.run_folder import RunFolder, list_runs, open_regular_file
from ockham.record.tlog.note import VerifierKey
from ockham.record.trainer_checkpoints import (
    digest_files,
    find_external_problem,
    make_trainer_snapshot_id,
    name_files,
    read_state,
    weights_digest,
    weights_files,
)


def find_trainer_checkpoint(path: Path) -> CheckpointPath | None:
    """Return the trainer's checkpoint to which a path belongs. None if it has no state of a run.

    Args:
        path: The folder or the file of a checkpoint, or another file of it.

    """
    path = CheckpointPath.of(path).path
    possible = list_possible_checkpoints(path) if path.is_file() else [path]
    found = map(CheckpointPath.of, possible)
    return next((each for each in found if read_state(each.path) is not None), None)


def trace_trainer_checkpoint(
    path: Path, location: CheckpointPath, runs: Path, keys: Sequence[VerifierKey]
) -> Lineage:
    """Return what the signed lines of a run contain about a checkpoint, or about one file of it.

    Deleted files are accepted. Changed files are problems.

    Args:
        path: The checkpoint, or a file of it.
        location: The checkpoint.
        runs: Folder of all runs.
        keys: Trusted keys.

    Raises:
        BadInputError: If the folder has no file of weights, or its run is not in `runs`.

    """
    state = read_state(location.path)
    assert state is not None
    claims = {name: value for name, value in state.items() if not isinstance(value, dict)}
    path = CheckpointPath.of(path).path
    is_whole = path == location.path
    name = path.relative_to(location.folder).as_posix()
    files = digest_files(location.path)
    if not is_whole or location.is_file:
        digest = next(file["sha256"] for file in files if file["name"] == name)
    elif weights_files(files):
        digest = weights_digest(files)
    else:
        raise BadInputError(f"{path}: has no file of weights; pass another checkpoint, or a file")

    def find(checkpoints: Sequence[SignedCheckpoint]) -> tuple[SignedCheckpoint | None, str]:
        snapshot_id = make_trainer_snapshot_id(claims)
        for checkpoint in checkpoints:
            if checkpoint.snapshot_id == snapshot_id and checkpoint.is_external:
                if is_whole:
                    return checkpoint, find_external_problem(path, checkpoint, complete=False)
                return checkpoint, _find_problem(name_files(location, checkpoint), path, name)
        return None, ""

    return trace_claims(path, digest, claims, runs, keys, find=find)


def _find_problem(named: Mapping[str, Mapping[str, Any]], path: Path, name: str) -> str:
    return compare_file(path, named[name]) if name in named else f"{path}: no signed event names this file"


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
