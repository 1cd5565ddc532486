"""Checkpoint folders: atomic writing, finding the newest resumable one, pruning old ones.

The content of the files belongs to the trainer. This module treats them as bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, CheckpointError, DataError, LogError
from ockham.record.checkpoint_evidence import (
    SignedCheckpoint,
    find_file_problem,
    select_checkpoints,
    signed_checkpoints,
)
from ockham.record.checkpoint_path import describe_location
from ockham.record.durable_io import atomic_path, fsync_dir, temporary_target
from ockham.record.evidence import Evidence, read_evidence, select_kinds
from ockham.record.run_folder import SNAPSHOT_ID, RunFolder, read_regular_file
from ockham.record.tlog.note import VerifierKey, load_or_create_signer

STATE = "state.json"
KEEP_LAST_RESUMABLE = 2
# Reason codes of `checkpoint.pruned`.
PRUNED_NEWER_KEPT = "NEWER_KEPT"
PRUNED_DAMAGED = "DAMAGED"
RESUME_FROM_START = "start"


class CheckpointFiles(NamedTuple):
    """Files of one checkpoint by name, and the digest of the weights.

    A resumable checkpoint contains the state given by `Run.save_checkpoint` as JSON in `state.json`.
    """

    files: Mapping[str, bytes]
    weights_sha256: str


class ResumePoint(NamedTuple):
    """Point at which a run can be resumed: its newest resumable checkpoint, or its beginning.

    Attributes:
        settings: Last settings of the trainer.
        path: Checkpoint folder, None at the beginning.
        snapshot_id: ID of the checkpoint, None at the beginning.
        state: Content of its state file.
        data: Training data of the run.
        ended: Reason code of the end, None if the run was killed.
        damaged: ID and problem of each checkpoint whose files are not those of its event.
        resumable: IDs of the whole resumable checkpoints, the oldest first.
        leftovers: IDs of pruned checkpoints, whose files a kill can have left.
        keys: Trusted keys besides this machine's.
        run_id: The run.

    """

    iter_num: int
    snapshot_id: str | None
    path: Path | None
    state: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    ended: str | None = None
    damaged: tuple[tuple[str, str], ...] = ()
    resumable: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    keys: tuple[VerifierKey, ...] = ()
    run_id: str = ""

    def require_data(self, run_id: str, data: Mapping[str, Any]) -> None:
        """Check that the run continues on the data it was started on.

        Raises:
            DataError: If the digests differ.

        """
        if self.data.get("sha256") != data.get("sha256"):
            was, now = self.data.get("name"), data.get("name")
            raise DataError(
                f"run {run_id!r} was started on other data ({was!r}, another digest) than {now!r}"
            )

    def is_complete(self, max_iters: int) -> bool:
        """Return True if the run has completed all of these steps.

        A resume would then add an empty attempt.

        Raises:
            BadInputError: If it has done more than these steps.

        """
        if max_iters < self.iter_num:
            raise BadInputError(
                f"max_iters={max_iters}: the run has done {self.iter_num} steps already; "
                f"a resumed run takes {self.iter_num} or more"
            )
        return self.iter_num == max_iters and self.ended == "COMPLETED"


def make_snapshot_id(kind: str, iter_num: int, attempt: int) -> str:
    """Return `accepted-00000120`, or `accepted-00000120.2` in the second attempt.

    A later attempt can repeat an iteration.
    """
    return f"{kind}-{iter_num:08d}" + (f".{attempt}" if attempt > 1 else "")


def parse_iteration(snapshot_id: str) -> int:
    """Return the iteration in the ID of a snapshot, such as 120 of `accepted-00000120.2`."""
    return int(snapshot_id.rpartition("-")[2].partition(".")[0])


def write_checkpoint(folder: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Write files as one checkpoint folder. Return name, sha256 and bytes of each.

    Raises:
        CheckpointError: If the files cannot be written. No file remains then.

    """
    try:
        # Left by a crash.
        _remove_temporary(folder.parent, folder.name)
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            for name, data in files.items():
                with (temporary / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            fsync_dir(temporary)
        fsync_dir(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {folder}: {error.strerror}") from None
    return [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    ]


def find_resume_point(
    runs: str | Path,
    run_id: str,
    *,
    rank: int = 0,
    world_size: int = 1,
    snapshot_id: str = "",
    keys: Sequence[VerifierKey] = (),
) -> ResumePoint:
    """Return the point at which a run can be resumed.

    Only checkpoints that a signed event names are used, and only if their files are those of the event. A
    damaged one is skipped in favour of the newest whole one before it.

    Args:
        runs: Folder of all runs.
        run_id: The run.
        rank: Rank whose state is returned if the checkpoint was saved by as many ranks; otherwise rank 0's is
            returned.
        world_size: Number of ranks that resume.
        snapshot_id: Checkpoint to resume from. Empty selects the newest, `start` the beginning of the run.
        keys: Trusted keys besides this machine's, for a run that was started elsewhere.

    Raises:
        RunError: If the run does not exist.
        LogError: If signed lines are missing or changed.
        CheckpointError: If the requested checkpoint cannot be used, or none is whole.

    """
    folder = RunFolder(runs, run_id).require_exists().require_own_name()
    evidence = read_resume_evidence(folder, keys)
    found = list(signed_checkpoints(evidence).values())
    candidates = [each for each in found if _is_usable(each) and not each.superseded]
    if not candidates and not snapshot_id:
        _refuse_lost_steps(folder, found)
    chosen, damaged = _choose(folder, candidates, snapshot_id)
    beginning = describe_beginning(folder, evidence, found, damaged, keys)
    if chosen is None:
        return beginning
    path = folder.checkpoint(chosen.snapshot_id)
    state = read_json_object(path / STATE)
    if len(each := state.get("ranks", [])) == world_size:
        state["run"] = each[rank]["run"]
    settings = {**beginning.settings, **state.get("trainer", {}).get("settings", {})}
    return beginning._replace(
        iter_num=int(state["iter_num"]) + 1, snapshot_id=path.name, path=path, state=state, settings=settings
    )


def _refuse_lost_steps(folder: RunFolder, found: Sequence[SignedCheckpoint]) -> None:
    """Refuse to begin again a run whose only checkpoints are those of another trainer."""
    external = [each for each in found if each.is_external and not each.superseded]
    if external:
        raise CheckpointError(
            f"{folder.run_id}: its checkpoints were written by another trainer; use "
            f"ockham.find_trainer_resume_point({describe_location(external[-1].data)!r:.200}), "
            f"or begin again with {RESUME_FROM_START!r}"
        )


def describe_beginning(
    folder: RunFolder,
    evidence: Evidence,
    found: Sequence[SignedCheckpoint],
    damaged: Sequence[tuple[str, str]],
    keys: Sequence[VerifierKey],
) -> ResumePoint:
    """Return the beginning of a run as a point to resume from.

    Args:
        folder: The run.
        evidence: Its signed events.
        found: Its checkpoints.
        damaged: ID and problem of resumable checkpoints that cannot be used.
        keys: Trusted keys besides this machine's.

    """
    about = read_signed_run_json(folder, evidence)
    damaged = [*damaged, *_missing_others(folder, found)]
    gone = {name for name, _ in damaged}
    return ResumePoint(
        0,
        None,
        None,
        {},
        dict(about["settings"]),
        about["data"],
        _ended(evidence),
        damaged=tuple(damaged),
        resumable=tuple(
            each.snapshot_id for each in found if _is_usable(each) and each.snapshot_id not in gone
        ),
        leftovers=tuple(each.snapshot_id for each in found if each.pruned == PRUNED_NEWER_KEPT),
        keys=tuple(keys),
        run_id=folder.run_id,
    )


def _is_usable(checkpoint: SignedCheckpoint) -> bool:
    return bool(checkpoint.data["kind"] == "resume") and checkpoint.pruned is None


def read_signed_run_json(folder: RunFolder, evidence: Evidence) -> dict[str, Any]:
    """Return the content of run.json, which must be the file that the signed first events name.

    Raises:
        LogError: If it is another file.
        CheckpointError: If it cannot be read, or has no settings or data.

    """
    about = read_json_object(folder.run_json)
    digest = hashlib.sha256(read_regular_file(folder.run_json)).hexdigest()
    for _, _, event in evidence.events("run.started", "run.resumed"):
        if event["data"].get("run_json_sha256", digest) != digest:
            raise LogError(
                f"{folder.run_json}: differs from the signed digest; run `ockham verify {folder.run_id}`"
            )
    if not isinstance(about.get("settings"), dict) or not isinstance(about.get("data"), dict):
        raise CheckpointError(
            f"{folder.run_json}: `settings` or `data` is missing; it must be as the run wrote it"
        )
    return about


def read_resume_evidence(folder: RunFolder, keys: Sequence[VerifierKey]) -> Evidence:
    """Return the signed events about the checkpoints and ends of a run.

    Raises:
        LogError: If signed lines are missing or changed, or no known key has signed the run.

    """
    is_end = select_kinds("run.finished")
    evidence = read_evidence(
        folder, resume_keys(keys), select=lambda line: select_checkpoints(line) or is_end(line)
    )
    if evidence.problems:
        raise LogError(f"{evidence.problems[0]}; run `ockham verify {folder.run_id}`")
    logs = evidence.logs.values()
    if any(log.events for log in logs) and not any(log.heads for log in logs):
        named = read_json_object(folder.run_json).get("verifier_key")
        raise LogError(
            f"no known key has signed run {folder.run_id}; it names the key {str(named)[:120]!r}; "
            "if you trust it, pass it with --key"
        )
    return evidence


def resume_keys(keys: Sequence[VerifierKey] = ()) -> tuple[VerifierKey, ...]:
    """Return the keys that may have signed the logs to resume: the user's key and the given ones.

    The key in run.json is the run's own claim: it would authenticate lines that someone else has signed.
    """
    return (load_or_create_signer().verifier, *keys)


def _choose(
    folder: RunFolder, candidates: Sequence[SignedCheckpoint], snapshot_id: str
) -> tuple[SignedCheckpoint | None, list[tuple[str, str]]]:
    """Return the checkpoint to resume from, None for the beginning, and the damaged ones with reasons."""
    if snapshot_id == RESUME_FROM_START:
        return None, []
    names = [each.snapshot_id for each in candidates]
    if snapshot_id and snapshot_id not in names:
        raise CheckpointError(
            f"{folder.run_id}: no signed event names a resumable checkpoint {snapshot_id[:100]!r}; "
            f"existing: {', '.join([*names[-8:], RESUME_FROM_START])}"
        )
    damaged: list[tuple[str, str]] = []
    for checkpoint in reversed(candidates):
        if snapshot_id and checkpoint.snapshot_id != snapshot_id:
            continue
        problem = find_file_problem(folder, checkpoint)
        if not problem:
            return checkpoint, damaged
        damaged.append((checkpoint.snapshot_id, problem))
    if damaged:
        raise CheckpointError(
            f"no whole checkpoint to resume from: {damaged[0][1]}; "
            f"--resume-from {RESUME_FROM_START} begins again"
        )
    return None, []


def _missing_others(folder: RunFolder, found: Sequence[SignedCheckpoint]) -> list[tuple[str, str]]:
    """Return the checkpoints of other kinds whose files are missing or of another size."""
    others = (
        each
        for each in found
        if each.data["kind"] != "resume" and each.pruned is None and not each.is_external
    )
    problems = ((each.snapshot_id, find_file_problem(folder, each, digest=False)) for each in others)
    return [(name, problem) for name, problem in problems if problem]


def _ended(evidence: Evidence) -> str | None:
    """Return the reason code of the signed end of the newest attempt."""
    newest = max(evidence.logs, default=(0, 0))[0]
    ends = [event["data"] for log, _, event in evidence.events("run.finished") if log == (newest, 0)]
    return str(ends[-1]["reason_code"]) if ends else None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: If it cannot be read.

    """
    try:
        value = json.loads(read_regular_file(path))
        if isinstance(value, dict):
            return value
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    raise CheckpointError(f"{path}: holds no JSON object")


def delete_checkpoints(folder: RunFolder, snapshot_ids: Sequence[str]) -> None:
    """Delete the files of checkpoints that a signed event has pruned."""
    for snapshot_id in snapshot_ids:
        shutil.rmtree(folder.checkpoint(snapshot_id), ignore_errors=True)


def remove_leftovers(folder: RunFolder, snapshot_ids: Sequence[str]) -> None:
    """Remove what a kill left: temporary folders, and files of pruned checkpoints. Call it as the writer."""
    _remove_temporary(folder.checkpoints)
    delete_checkpoints(folder, snapshot_ids)


def _remove_temporary(checkpoints: Path, snapshot_id: str = "") -> None:
    """Remove unfinished folders of one checkpoint, or of all. Folders with other names remain."""
    for path in checkpoints.glob(".*.tmp"):
        target = temporary_target(path.name)
        if SNAPSHOT_ID.fullmatch(target) and snapshot_id in ("", target):
            shutil.rmtree(path, ignore_errors=True)
