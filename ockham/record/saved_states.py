"""Saved states of a run to which a trainer can roll back: its resumable checkpoints at a fixed interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import LogError
from ockham.record.attempt import Attempt
from ockham.record.checkpoint_evidence import (
    SignedCheckpoint,
    find_file_problem,
    select_checkpoints,
    signed_checkpoints,
)
from ockham.record.checkpoints import STATE, read_json_object, resume_keys
from ockham.record.evidence import Evidence, read_evidence, select_kinds


class SavedState(NamedTuple):
    """A state whose files are those of a signed event.

    Attributes:
        snapshot_id: ID of the checkpoint.
        path: Its folder.
        weights_sha256: Digest of its weights.
        state: Content of its `state.json`.

    """

    snapshot_id: str
    path: Path
    weights_sha256: str
    state: dict[str, Any]


def find_saved_state(attempt: Attempt, every: int) -> SavedState | None:
    """Return the state to which a rollback returns now. Every rank calls it. None if there is no state.

    It is the newest whole state that no rollback of this trajectory has restored before. If each of them was
    restored, it is the oldest.

    Args:
        attempt: The open attempt.
        every: Steps between two states. Other checkpoints, such as that of Ctrl-C, are not used. Otherwise a
            run that was interrupted and resumed would differ from an uninterrupted one.

    Raises:
        LogError: If signed lines are missing or changed.

    """
    peers, folder = attempt.peers, attempt.folder
    peers.run_on_all(attempt.log.flush)
    chosen = peers.run_on_rank_zero(lambda: _choose(attempt, every))
    name, digest = peers.gather_json(None if chosen is None else [*_describe(chosen)])[0] or ("", "")
    if not name:
        return None
    path = folder.checkpoint(name)
    state = read_json_object(path / STATE)
    if len(each := state.get("ranks", [])) == peers.world_size:
        state["run"] = each[peers.rank]["run"]
    return SavedState(name, path, digest, state)


def _describe(checkpoint: SignedCheckpoint) -> tuple[str, str]:
    return checkpoint.snapshot_id, str(checkpoint.data["weights_sha256"])


def _choose(attempt: Attempt, every: int) -> SignedCheckpoint | None:
    is_rollback = select_kinds("rollback.performed")
    evidence = read_evidence(
        attempt.folder,
        resume_keys(attempt.keys),
        select=lambda line: select_checkpoints(line) or is_rollback(line),
    )
    if evidence.problems:
        raise LogError(f"{evidence.problems[0]}; run `ockham verify {attempt.folder.run_id}`")
    states = [each for each in signed_checkpoints(evidence).values() if _is_state(each, every)]
    restored = _restored_before(evidence)
    unused = [each for each in states if each.snapshot_id not in restored]
    used = [each for each in states if each.snapshot_id in restored]
    whole = (each for each in [*reversed(unused), *used] if not find_file_problem(attempt.folder, each))
    return next(whole, None)


def _is_state(checkpoint: SignedCheckpoint, every: int) -> bool:
    is_usable = checkpoint.data["kind"] == "resume" and checkpoint.pruned is None
    return is_usable and not checkpoint.superseded and (checkpoint.data["iter_num"] + 1) % every == 0


def _restored_before(evidence: Evidence) -> set[str]:
    """Return the states that rollbacks have restored, without rollbacks that a resume superseded."""
    resumes: Sequence[tuple[int, int]] = [
        (log[0], event["data"]["iter_num"])
        for log, sequence, event in evidence.events("run.resumed")
        if sequence == 0 and log[1] == 0
    ]
    return {
        event["data"].get("snapshot_id", "")
        for log, _, event in evidence.events("rollback.performed")
        if not any(number > log[0] and first <= event["data"]["iter_num"] for number, first in resumes)
    }
