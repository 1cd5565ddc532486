"""Checkpoints of another library: the state of the run in or next to them, and the event with their files.

The trainer writes them to a place of its own and deletes them when it likes. A checkpoint is a folder, or one
file. The state of the run is in the folder, or next to the file. So a training that continues from it is a
further attempt of the same run:

    state = run.checkpoint_state()            # key frame, signed tree head
    write_state(path, state)                  # before the trainer completes its own files
    run.record_checkpoint(path, state)        # when all files are written
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from ockham.errors import CheckpointError
from ockham.record.checkpoint_evidence import (
    TRAINER_KIND,
    SignedCheckpoint,
    compare_file,
    signed_checkpoints,
)
from ockham.record.checkpoint_path import STATE_FILE, CheckpointPath, describe_location, single_file_name
from ockham.record.checkpoints import (
    ResumePoint,
    describe_beginning,
    make_snapshot_id,
    read_json_object,
    read_resume_evidence,
)
from ockham.record.durable_io import atomic_write
from ockham.record.recorder import Recorder
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.tlog.note import VerifierKey

# Files that a trainer may load. None of them may be in a checkpoint without being signed.
LOADED_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".pkl"})
_WEIGHTS_NAMES = ("model", "adapter_model", "pytorch_model")
_WEIGHTS_SUFFIXES = frozenset({".safetensors", ".bin"})
_STATE_FIELDS: Mapping[str, type] = {
    "run_id": str,
    "attempt": int,
    "rank": int,
    "iter_num": int,
    "kind": str,
    "policy_revision": str,
    "log_size": int,
    "log_root": str,
    "run": dict,
}


def checkpoint_state(
    recorder: Recorder, iter_num: int, *, policy_revision: str, state: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the state of a run after a batch, as a checkpoint of another library stores it.

    All events so far are signed before, and a key frame is recorded.

    Args:
        recorder: Recorder of the attempt.
        iter_num: Iteration of the last batch.
        policy_revision: Revision of the policy.
        state: Returns the state of the run.

    """
    attempt = recorder.attempt
    recorder.record_key_frame("CHECKPOINT", iter_num + 1)
    head = attempt.log.flush()
    return {
        "run_id": attempt.folder.run_id,
        "attempt": attempt.number,
        "rank": attempt.peers.rank,
        "iter_num": iter_num,
        "kind": TRAINER_KIND,
        "policy_revision": policy_revision,
        "log_size": head.size,
        "log_root": head.root.hex(),
        "run": state(),
    }


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a run into the folder of a checkpoint, or next to its file.

    Args:
        path: The folder, which exists, or the file, which may not exist yet.
        state: What `checkpoint_state` returned, with additions.

    Raises:
        CheckpointError: If it cannot be written.

    """
    location = CheckpointPath.of(path)
    target = location.own_file(STATE_FILE)
    named = {**state, "file": location.file_name} if location.is_file else state
    try:
        atomic_write(target, orjson.dumps(named, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror}") from None


def record_checkpoint(recorder: Recorder, path: Path, state: Mapping[str, Any]) -> str:
    """Record the files of a complete checkpoint. Return the snapshot ID when the event is signed.

    Args:
        recorder: Recorder of the attempt.
        path: Folder or file of the checkpoint. It is recorded as it is given.
        state: What `checkpoint_state` returned, with additions.

    Raises:
        CheckpointError: If the files cannot be read.

    """
    attempt, iter_num = recorder.attempt, state["iter_num"]
    location, files = CheckpointPath.of(path), digest_files(path)
    snapshot_id = make_trainer_snapshot_id({**state, "file": location.file_name})
    saved = {
        "iter_num": iter_num,
        "snapshot_id": snapshot_id,
        "kind": TRAINER_KIND,
        "folder": str(location.folder)[:4096],
        "decision_id": None,
        "weights_sha256": weights_digest(files, location.file_name),
        "files": files,
        "log_size": state["log_size"],
        "log_root": state["log_root"],
    }
    attempt.log.append("checkpoint.saved", saved, iter_num=iter_num, urgent=True)
    # The next attempt uses only signed checkpoints.
    attempt.log.flush()
    return snapshot_id


def make_trainer_snapshot_id(state: Mapping[str, Any]) -> str:
    """Return the snapshot ID of the checkpoint that has this state. Several files can be of one iteration."""
    snapshot_id = make_snapshot_id(TRAINER_KIND, state["iter_num"], state["attempt"])
    name = state.get("file")
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=4).hexdigest() if name else ""
    return f"{snapshot_id}-{digest}" if digest else snapshot_id


def digest_files(path: Path) -> list[dict[str, Any]]:
    """Return name, sha256 and bytes of every regular file of a checkpoint, in order of name.

    Raises:
        CheckpointError: If a file cannot be read.

    """
    location, found = CheckpointPath.of(path), []
    try:
        for name in location.names():
            with open_regular_file(location.folder / name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found.append({"name": name, "sha256": digest, "bytes": file.tell()})
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from None
    return found


def weights_files(files: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of the files that contain the weights."""
    return [
        file
        for file in files
        if PurePosixPath(file["name"]).suffix in _WEIGHTS_SUFFIXES and file["name"].startswith(_WEIGHTS_NAMES)
    ]


def weights_digest(files: Sequence[Mapping[str, Any]], file_name: str = "") -> str:
    """Return the digest of the file of weights. With several files, of the list of their digests.

    Args:
        files: All files of the checkpoint.
        file_name: Name of the single file that the trainer wrote. Empty for a folder.

    """
    named = [file for file in files if file["name"] == file_name] or weights_files(files) or files
    if len(named) == 1:
        return str(named[0]["sha256"])
    lines = (f"{file['sha256']}  {file['name']}\n" for file in named)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_state(checkpoint: Path) -> dict[str, Any] | None:
    """Return the state of the run in or next to a checkpoint. None without one.

    Raises:
        CheckpointError: If the state is unreadable or incomplete.

    """
    path = CheckpointPath.of(checkpoint).own_file(STATE_FILE)
    if not path.exists():
        return None
    state = read_json_object(path)
    wrong = [name for name, kind in _STATE_FIELDS.items() if not isinstance(state.get(name), kind)]
    if wrong:
        raise CheckpointError(f"{path}: {', '.join(wrong)} is missing or has another type; restore the file")
    return state


def find_trainer_resume_point(
    checkpoint: str | Path, runs: str | Path = "runs", *, keys: Sequence[VerifierKey] = ()
) -> ResumePoint:
    """Return the point at which the run of a trainer's checkpoint is resumed.

        point = ockham.find_trainer_resume_point("out/checkpoint-40")
        with ockham.Run(resumed=point) as run:
            ...  # pass OckhamCallback(run) and resume_from_checkpoint="out/checkpoint-40" to the trainer

    The files of the checkpoint must be those of a signed event.

    Args:
        checkpoint: Folder or file that the trainer has written.
        runs: Folder of all runs.
        keys: Trusted keys besides this machine's, for a run that was started elsewhere.

    Raises:
        RunError: If the run of the checkpoint is not in `runs`.
        LogError: If signed lines of the run are missing or changed.
        CheckpointError: If the checkpoint has no state of a run, no signed event names it, a later attempt
            has superseded it, or its files differ from the event.

    """
    path = CheckpointPath.of(checkpoint).path
    state = read_state(path)
    if state is None:
        raise CheckpointError(f"{path}: has no {STATE_FILE}, so it was not written in a run of Ockham")
    folder = RunFolder(runs, state["run_id"]).require_exists().require_own_name()
    evidence = read_resume_evidence(folder, keys)
    found = list(signed_checkpoints(evidence).values())
    saved = _find_saved(path, state, found)
    if problem := find_external_problem(path, saved, complete=True):
        raise CheckpointError(f"{problem}; restore the file, or resume from another checkpoint")
    return describe_beginning(folder, evidence, found, (), keys)._replace(
        iter_num=state["iter_num"] + 1, snapshot_id=saved.snapshot_id, path=path, state=state
    )


def _find_saved(path: Path, state: Mapping[str, Any], found: Sequence[SignedCheckpoint]) -> SignedCheckpoint:
    """Return the checkpoint that a signed event names and no later attempt has superseded.

    Raises:
        CheckpointError: If no such checkpoint exists. The message names usable ones.

    """
    external = [each for each in found if each.is_external]
    known = [f"{describe_location(each.data):.200}" for each in external if not each.superseded]
    hint = f"checkpoints that can be used: {', '.join(known[-4:]) or 'none'}"
    snapshot_id = make_trainer_snapshot_id(state)
    for each in external:
        if each.snapshot_id == snapshot_id and each.superseded:
            raise CheckpointError(
                f"{path}: a later attempt of run {state['run_id']!r} has superseded it; {hint}"
            )
        if each.snapshot_id == snapshot_id:
            return each
    raise CheckpointError(
        f"{path}: no signed event of run {state['run_id']!r} names it. Either the process was killed before "
        f"the log was signed, or the log is older than the checkpoint; {hint}"
    )


def find_external_problem(path: Path, saved: SignedCheckpoint, *, complete: bool) -> str:
    """Return what differs between a trainer's checkpoint and its event. Empty if they agree.

    Args:
        path: Folder or file of the checkpoint. It may have been moved or renamed.
        saved: Its signed event.
        complete: Report missing files, and files that a trainer may load but no event names.

    """
    location = CheckpointPath.of(path)
    named = name_files(location, saved)
    for name, file in named.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            return f"{path}: the event names {name!r:.100}, which is outside of the folder"
        if not complete and not (location.folder / name).exists():
            continue
        if problem := compare_file(location.folder / name, file):
            return problem
    if not complete:
        return ""
    there = location.names()
    added = [name for name in there if name not in named and Path(name).suffix in LOADED_SUFFIXES]
    return f"{location.folder / added[0]}: no signed event names this file" if added else ""


def name_files(location: CheckpointPath, saved: SignedCheckpoint) -> dict[str, Mapping[str, Any]]:
    """Return the files that an event names, by their present names. A single file may have been renamed."""
    recorded = single_file_name(saved.data) if location.is_file else ""
    named = {}
    for file in saved.data["files"]:
        name = str(file["name"])
        if recorded and name.startswith(recorded):
            name = location.file_name + name.removeprefix(recorded)
        named[name] = file
    return named
