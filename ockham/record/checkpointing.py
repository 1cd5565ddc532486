"""Keeping weights: the files of a checkpoint, and the events that say which decisions made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ockham.context import OccamContext
from ockham.errors import CheckpointError
from ockham.record.checkpoints import STATE, CheckpointFiles, make_snapshot_id, prune, write_checkpoint
from ockham.record.recorder import Recorder

CheckpointKind = Literal["accepted", "resume", "rollback", "anchor"]
CheckpointPacker = Callable[[Mapping[str, Any], Mapping[str, Any] | None], CheckpointFiles]


def save_checkpoint(
    recorder: Recorder, ctx: OccamContext, kind: CheckpointKind, pack: CheckpointPacker, *, policy_revision: str,
    state: Callable[[], Mapping[str, Any]],
) -> str:  # fmt: skip
    """Write a checkpoint, and log it; returns the snapshot ID. `ockham.Run.checkpoint` says what for.

    Args:
        recorder: of the attempt that the weights come from.
        ctx: the context of the batch that they come from.
        kind: of kind `resume` the newest two stay, and a key frame follows: replay can start there.
        pack: makes the files from metadata and, for kind `resume`, from the state.
        policy_revision: stands in the metadata.
        state: of the run, asked for where `kind` is `resume`.

    Raises:
        CheckpointError: if the disk refuses, or nobody could go on from the files.

    """
    attempt, iter_num = recorder.attempt, ctx.iter_num
    folder, peers, log = attempt.folder, attempt.peers, attempt.log
    head = peers.run_on_all(log.flush)
    snapshot_id = make_snapshot_id(kind, iter_num, attempt.number)
    covered = {"log_size": head.size, "log_root": head.root.hex()}
    metadata = {
        "run_id": folder.run_id, "attempt": attempt.number, "rank": peers.rank, "iter_num": iter_num, "kind": kind,
        "policy_revision": policy_revision, **covered,
    }  # fmt: skip
    packed = pack(metadata, {**metadata, "run": state()} if kind == "resume" else None)
    if kind == "resume" and peers.rank == 0 and STATE not in packed.files:
        raise CheckpointError(f"{snapshot_id}: a checkpoint to go on from keeps its state in {STATE!r}")
    files = peers.run_on_rank_zero(lambda: write_checkpoint(folder.checkpoint(snapshot_id), packed.files))
    if kind == "resume":
        recorder.record_key_frame("CHECKPOINT", iter_num + 1)
    if files is None:  # written by rank 0, whose log says so
        return snapshot_id
    saved = {
        "iter_num": iter_num, "snapshot_id": snapshot_id, "kind": kind,
        "decision_id": recorder.decision_id("accepted") if kind == "accepted" else None,
        "weights_sha256": packed.weights_sha256, "files": files, **covered,
    }  # fmt: skip
    log.append("checkpoint.saved", saved, iter_num=iter_num, urgent=True)
    for old in prune(folder) if kind == "resume" else ():
        pruned = {"iter_num": iter_num, "snapshot_id": old, "kind": kind, "reason_code": "NEWER_KEPT"}
        log.append("checkpoint.pruned", pruned, iter_num=iter_num)
    return snapshot_id
