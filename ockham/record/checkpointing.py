"""Saving checkpoints: their files, and the events that name the decisions that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ockham.context import OccamContext
from ockham.errors import CheckpointError
from ockham.record.attempt import Attempt
from ockham.record.checkpoints import (
    KEEP_LAST_RESUMABLE,
    PRUNED_NEWER_KEPT,
    STATE,
    CheckpointFiles,
    delete_checkpoints,
    make_snapshot_id,
    parse_iteration,
    write_checkpoint,
)
from ockham.record.recorder import Recorder

CheckpointKind = Literal["accepted", "resume", "rollback", "anchor"]
CheckpointPacker = Callable[[Mapping[str, Any], Mapping[str, Any] | None], CheckpointFiles]


def save_checkpoint(
    recorder: Recorder,
    ctx: OccamContext,
    kind: CheckpointKind,
    pack: CheckpointPacker,
    *,
    policy_revision: str,
    state: Callable[[], Mapping[str, Any]],
    keep: int = KEEP_LAST_RESUMABLE,
    state_every: int = 0,
) -> str:
    """Write a checkpoint and log it. Return the snapshot ID. See `ockham.Run.save_checkpoint`.

    Args:
        recorder: Recorder of the attempt that the weights come from.
        ctx: Context of the batch that they come from.
        kind: With kind `resume` the newest ones are kept and a key frame follows, from which a replay can
            start.
        pack: Creates the files from metadata and, for kind `resume`, from the state.
        policy_revision: Revision that is stored in the metadata.
        state: Returns the state of the run. Called only for kind `resume`.
        keep: Number of resumable checkpoints that are kept.
        state_every: Steps between two states to which a rollback returns. The newest *keep* of them are kept.

    Raises:
        CheckpointError: If the files cannot be written, or the run cannot be resumed from them.

    """
    attempt, iter_num = recorder.attempt, ctx.iter_num
    folder, peers, log = attempt.folder, attempt.peers, attempt.log
    head = peers.run_on_all(log.flush)
    snapshot_id = make_snapshot_id(kind, iter_num, attempt.number)
    covered = {"log_size": head.size, "log_root": head.root.hex()}
    metadata = {
        "run_id": folder.run_id,
        "attempt": attempt.number,
        "rank": peers.rank,
        "iter_num": iter_num,
        "kind": kind,
        "policy_revision": policy_revision,
        **covered,
    }
    packed = pack(metadata, {**metadata, "run": state()} if kind == "resume" else None)
    if kind == "resume" and peers.rank == 0 and STATE not in packed.files:
        raise CheckpointError(f"{snapshot_id}: a resumable checkpoint contains its state in {STATE!r}")
    files = peers.run_on_rank_zero(lambda: write_checkpoint(folder.checkpoint(snapshot_id), packed.files))
    if kind == "resume":
        recorder.record_key_frame("CHECKPOINT", iter_num + 1)
    # Rank 0 writes and logs the files.
    if files is None:
        return snapshot_id
    saved = {
        "iter_num": iter_num,
        "snapshot_id": snapshot_id,
        "kind": kind,
        "decision_id": recorder.decision_id("accepted") if kind == "accepted" else None,
        "weights_sha256": packed.weights_sha256,
        "files": files,
        **covered,
    }
    log.append("checkpoint.saved", saved, iter_num=iter_num, urgent=True)
    if kind == "resume":
        attempt.resumable.append(snapshot_id)
        _prune(attempt, iter_num, keep, state_every)
    return snapshot_id


def _prune(attempt: Attempt, iter_num: int, keep: int, state_every: int) -> None:
    """Delete all but the newest resumable checkpoints, after the signed events that record it.

    The newest states of the interval are kept too. Otherwise frequent checkpoints would leave no state to
    which a rollback can return.
    """
    names = attempt.resumable
    states = [name for name in names if state_every and (parse_iteration(name) + 1) % state_every == 0]
    kept = {*names[-keep:]} if not states else {*names[-KEEP_LAST_RESUMABLE:], *states[-keep:]}
    old = [name for name in names if name not in kept]
    names[:] = [name for name in names if name in kept]
    if not old:
        return
    attempt.record_pruned(old, iter_num, PRUNED_NEWER_KEPT)
    delete_checkpoints(attempt.folder, old)
