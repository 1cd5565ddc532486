"""State of a run in a checkpoint of another library, and the checkpoint from which a training continues.

saving     write_run_state, then run.record_checkpoint when the trainer has written all files
loading    find_request before the trainer reads a file, then restore_run_state before the first batch
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from ockham.errors import BadInputError, CheckpointError
from ockham.integrations.step_controller import StepController
from ockham.nano.anchor import AnchorWeights
from ockham.nano.checkpoint_io import load_tensors, serialize_tensors
from ockham.nano.step_meter import weights_checksum
from ockham.record.checkpoint_path import ANCHOR_FILE, STATE_FILE, CheckpointPath
from ockham.record.checkpoints import ResumePoint
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import RunFolder
from ockham.record.trainer_checkpoints import find_trainer_resume_point, read_state, write_state
from ockham.run import Run

Result = TypeVar("Result")


class ResumeRequest(NamedTuple):
    """Checkpoint from which a training continues.

    Attributes:
        checkpoint: The checkpoint, a folder or a file.
        point: Point from which its run is resumed. None if a new run begins.
        reason: Why a new run begins. Empty with a point.

    """

    checkpoint: Path
    point: ResumePoint | None
    reason: str = ""


def find_request(checkpoint: str | Path, runs: str | Path, run_id: str | None) -> ResumeRequest:
    """Return from which point a checkpoint continues. All its files are compared with their signed digests.

    Args:
        checkpoint: The checkpoint, a folder or a file.
        runs: Folder of all runs.
        run_id: The only run that may be continued. None accepts any.

    Raises:
        CheckpointError: If no signed event names these files, or a later attempt has superseded them.
        LogError: If signed lines of the run are missing or changed.

    """
    location = CheckpointPath.of(checkpoint)
    path, state = location.path, read_state(location.path)
    if state is None:
        return ResumeRequest(path, None, f"it has no {location.own_file(STATE_FILE).name}")
    if run_id is not None and state["run_id"] != run_id:
        return ResumeRequest(path, None, f"it belongs to run {state['run_id']!r}")
    if not RunFolder(runs, state["run_id"]).exists():
        return ResumeRequest(path, None, f"its run {state['run_id']!r} is not in {runs}")
    return ResumeRequest(path, find_trainer_resume_point(path, runs))


def find_on_rank_zero(find: Callable[[], Result]) -> Result:
    """Call a function on rank 0 and return its result on every rank. Every rank must call this.

    An exception of rank 0 is raised on every rank, so no rank waits for another one.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return find()
    shared: list[Any] = [None]
    if torch.distributed.get_rank() == 0:
        try:
            shared = [find()]
        except Exception as error:
            shared = [error]
    torch.distributed.broadcast_object_list(shared, src=0)
    if isinstance(shared[0], Exception):
        raise shared[0]
    found: Result = shared[0]
    return found


def describe_late_start(request: ResumeRequest, steps: int) -> str:
    """Return the sentence that a new run records about the training before it."""
    return (
        f"the training continues from {request.checkpoint} at step {steps}, "
        f"and this log has none of the steps before: {request.reason}"
    )


def write_run_state(run: Run, controller: StepController | None, path: Path, **fields: Any) -> dict[str, Any]:
    """Write state and anchor weights of a run into a folder, or next to a file. Return the state.

    Call it between two steps, on every rank. Only rank 0 writes.

    Args:
        run: The run.
        controller: Controller of the training. None if the loop carries out the verdicts by itself.
        path: The folder, which exists, or the file, which may not exist yet.
        fields: Further JSON values, which `restore_run_state` returns.

    Raises:
        CheckpointError: If a file cannot be written.

    """
    state = run.checkpoint_state()
    if run.peers.world_size > 1:
        # Facts of a rank, such as its own loss, are carried from batch to batch.
        state["ranks"] = [{"run": each} for each in run.peers.gather_json(state["run"])]
    anchor = None if controller is None else controller.anchor
    if controller is not None:
        own = {**controller.state_dict(), "anchor_iter_num": None if anchor is None else anchor.iter_num}
        state["controller"] = {**own, "fields": fields}
    if run.peers.rank != 0:
        return state
    target = CheckpointPath.of(path).own_file(ANCHOR_FILE)
    try:
        if anchor is None or controller is None:
            target.unlink(missing_ok=True)
        else:
            atomic_write(target, serialize_tensors(anchor.state(controller.weights)))
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror}") from None
    write_state(path, state)
    return state


def restore_run_state(run: Run, controller: StepController | None, point: ResumePoint) -> Mapping[str, Any]:
    """Restore run, controller and anchor from a checkpoint. Return the `fields` of `write_run_state`.

    Call it on every rank before the first batch, when the model has the weights of the checkpoint.

    Args:
        run: The run, which has started.
        controller: Controller of the training. None if the loop carries out the verdicts by itself.
        point: Point from which the run continues.

    Raises:
        CheckpointError: If the checkpoint belongs to another model, or no callback wrote its state.
        RunError: If the ranks read different anchor weights.

    """
    assert point.path is not None
    location, peers = CheckpointPath.of(point.path), run.peers
    own = point.state.get("controller")
    if controller is not None and not isinstance(own, dict):
        raise CheckpointError(
            f"{location.own_file(STATE_FILE)}: was written by a loop of its own, not by a callback; "
            "restore it there with run.load_state_dict(point.state['run'])"
        )
    ranks = point.state.get("ranks", [])
    run.load_state_dict(ranks[peers.rank]["run"] if len(ranks) == peers.world_size else point.state["run"])
    if controller is None or own is None:
        return {}
    controller.load_state_dict(own)
    if controller.anchor is not None and own["anchor_iter_num"] is not None:
        tensors = load_tensors(location.own_file(ANCHOR_FILE))
        # Only rank 0 has compared the file with the log.
        peers.require_equal({"anchor": weights_checksum(tensors.values())})
        controller.anchor = AnchorWeights.from_state(
            controller.weights, own["anchor_iter_num"], None, tensors
        )
    return dict(own["fields"])


def require_same_block(request: ResumeRequest | None, iter_num: int) -> None:
    """Check that a further training of an open run continues where the last one ended.

    Args:
        request: Checkpoint from which the training continues. None if it begins.
        iter_num: Iteration that the run has reached.

    Raises:
        BadInputError: If it continues from other weights.

    """
    if request is not None and (request.point is None or request.point.iter_num != iter_num):
        raise BadInputError(
            f"the run has reached iteration {iter_num}, and {request.checkpoint} has "
            "other weights; end this run, and continue from the checkpoint in another attempt"
        )


def require_continued(run: Run, request: ResumeRequest | None, steps: int) -> ResumePoint | None:
    """Return the point that an open run must restore before its first batch. None for a new run.

    Args:
        run: A run that its user has opened.
        request: Checkpoint from which the training continues. None if it begins.
        steps: Optimizer steps that the trainer has done.

    Raises:
        BadInputError: If the run does not continue from the same checkpoint.

    """
    opened = run.resume_point
    wanted = None
    if request is not None and request.point is not None:
        wanted = request.point
        if opened is None or opened.snapshot_id != wanted.snapshot_id:
            raise BadInputError(
                f"the training continues from {request.checkpoint}, and run {run.run_id!r} does not; open it "
                "by ockham.Run(resumed=ockham.find_trainer_resume_point(...)), "
                "or use OckhamCallback(policy=...)"
            )
    if wanted is None and opened is not None and (opened.path is not None or steps != opened.iter_num):
        raise BadInputError(
            f"run {run.run_id!r} continues at iteration {opened.iter_num}, and the training at step {steps} "
            "of another checkpoint; pass the checkpoint of the run as resume_from_checkpoint=..."
        )
    first = run.first_iter
    if opened is None and steps != first:
        reason = "" if request is None else f": {request.reason}"
        raise BadInputError(
            f"the training continues at step {steps}, and run {run.run_id!r} begins at {first}{reason}; "
            f"call run.begin_at({steps}, ...) before the run starts, or use OckhamCallback(policy=...)"
        )
    return wanted
