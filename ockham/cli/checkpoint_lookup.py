"""Lookup of a checkpoint by its ID in the signed lines of a run, and the check of its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ockham.cli.options import list_names, read_run_keys
from ockham.errors import BadInputError, CheckpointError

if TYPE_CHECKING:
    from ockham.record.checkpoint_evidence import SignedCheckpoint
    from ockham.record.evidence import Evidence
    from ockham.record.run_folder import RunFolder


class CheckpointInfo(NamedTuple):
    """A checkpoint as the log records it, its folder, and the signed events that it was read from."""

    folder: Path
    snapshot_id: str
    kind: str
    iter_num: int
    decision_id: str | None
    reason_code: str | None
    val_loss: float | None
    weights_sha256: str
    evidence: Evidence

    def describe(self) -> str:
        """Return one sentence with the ID, the accepting decision, the loss and the digest."""
        acceptance = f"kind {self.kind}, not accepted by a decision"
        if self.decision_id:
            acceptance = f"accepted by decision {self.decision_id} because {self.reason_code}"
        loss = "no validation loss"
        if self.val_loss is not None:
            loss = f"validation loss {self.val_loss:.4f} nats/token"
        return (
            f"checkpoint {self.snapshot_id} (iteration {self.iter_num}): {acceptance}; {loss}; "
            f"weights sha256 {self.weights_sha256[:16]}..., as logged"
        )


def find_checkpoint(runs: Path, run_id: str, name: str = "") -> CheckpointInfo:
    """Return the checkpoint whose ID starts with *name*, and check its files against the log.

    Args:
        runs: Folder of all runs.
        run_id: Full run ID.
        name: Unique prefix of the ID. Empty selects the newest accepted checkpoint, or the newest one if
            none was accepted.

    Raises:
        BadInputError: If no checkpoint or more than one matches.
        CheckpointError: If a file is missing or differs from the log.

    """
    from ockham.record.checkpoint_evidence import find_file_problem, signed_checkpoints
    from ockham.record.checkpoint_path import describe_location
    from ockham.record.run_folder import RunFolder

    folder = RunFolder(runs, run_id).require_exists().require_own_name()
    evidence = _read_evidence(folder)
    checkpoints = signed_checkpoints(evidence)
    checkpoint = _select(run_id, checkpoints, name)
    if checkpoint.is_external:
        raise CheckpointError(
            f"{checkpoint.snapshot_id}: was written by another trainer to "
            f"{describe_location(checkpoint.data)!r:.200}; "
            "load it with that trainer, or compare it with `ockham lineage`"
        )
    if checkpoint.pruned is not None:
        path = folder.checkpoint(checkpoint.snapshot_id)
        raise CheckpointError(
            f"{path}: deleted by the run ({checkpoint.pruned}), which keeps only newer ones"
        )
    if problem := find_file_problem(folder, checkpoint):
        raise CheckpointError(problem)
    data = checkpoint.data
    return CheckpointInfo(
        folder.checkpoint(checkpoint.snapshot_id),
        checkpoint.snapshot_id,
        data["kind"],
        data["iter_num"],
        data["decision_id"],
        _acceptance_reason(evidence, data["decision_id"]),
        _last_val_loss(evidence, checkpoint),
        data["weights_sha256"],
        evidence,
    )


def _read_evidence(folder: RunFolder) -> Evidence:
    from ockham.record.checkpoint_evidence import select_checkpoints
    from ockham.record.evidence import read_evidence, select_kinds

    is_evaluation, is_decision = select_kinds("evaluation.recorded"), select_kinds("decision.made")
    evidence = read_evidence(
        folder,
        read_run_keys(folder),
        select=lambda line: (
            select_checkpoints(line)
            or is_evaluation(line)
            or (b'"on_evaluate"' in line and is_decision(line))
        ),
    )
    if evidence.problems:
        raise CheckpointError(f"{evidence.problems[0]}; run `ockham verify {folder.run_id}`")
    return evidence


def _select(run_id: str, checkpoints: dict[str, SignedCheckpoint], name: str) -> SignedCheckpoint:
    """Return the checkpoint with this ID or unique prefix, or without a name the newest accepted one."""
    if name in checkpoints:
        return checkpoints[name]
    if not name:
        usable = [
            each
            for each in checkpoints.values()
            if each.pruned is None and not each.superseded and not each.is_external
        ]
        if not usable:
            raise BadInputError(f"run {run_id!r} has no signed checkpoint yet")
        accepted = [each for each in usable if each.data["kind"] == "accepted"]
        return (accepted or usable)[-1]
    matching = [each for each in checkpoints if each.startswith(name)]
    if not matching:
        raise BadInputError(
            f"run {run_id!r} has no signed checkpoint {name[:100]!r}; "
            f"existing checkpoints: {list_names(list(checkpoints)) or 'none'}"
        )
    if len(matching) > 1:
        raise BadInputError(f"{name!r}: matches more than one checkpoint: {list_names(matching)}")
    return checkpoints[matching[0]]


def _acceptance_reason(evidence: Evidence, decision_id: str | None) -> str | None:
    """Return the reason of the signed decision that accepted a checkpoint, None if none is named.

    Raises:
        CheckpointError: If no signed decision has this ID.

    """
    if decision_id is None:
        return None
    for _, _, event in evidence.events("decision.made"):
        if event["id"] == decision_id:
            return str(event["data"]["reason_code"])
    raise CheckpointError(f"no signed decision has the ID {decision_id}, which the checkpoint names")


def _last_val_loss(evidence: Evidence, checkpoint: SignedCheckpoint) -> float | None:
    """Return the validation loss of the iteration that was measured last before the checkpoint."""
    loss = None
    for log, sequence, event in evidence.events("evaluation.recorded"):
        same_iteration = event["data"]["iter_num"] == checkpoint.data["iter_num"]
        if log == checkpoint.log and sequence < checkpoint.sequence and same_iteration:
            loss = event["data"]["val_loss"]
    return None if loss is None else float(loss)
