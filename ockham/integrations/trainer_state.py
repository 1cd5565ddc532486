"""State of a run in a checkpoint of another library, and the checkpoint from which a training continues.

saving     write_run_state, then run.record_checkpoint when the trainer has written all files
loading    find_request before the trainer reads a file, then restore_run_state before the first batch
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, CheckpointError
from ockham.integrations.step_controller import StepController
from ockham.nano.anchor import AnchorWeights
from ockham.nano.checkpoint_io import load_tensors, serialize_tensors
from ockham.record.checkpoints import ResumePoint
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import RunFolder
from ockham.record.trainer_checkpoints import STATE_FILE, find_trainer_resume_point, read_state, write_state
from ockham.run import Run

ANCHOR_FILE = "ockham_anchor.safetensors"


class ResumeRequest(NamedTuple):
    """Checkpoint from which a training continues.

    Attributes:
        checkpoint: Folder of the checkpoint.
        point: Point from which its run is resumed. None if a new run begins.
        reason: Why a new run begins. Empty with a point.

    """

    checkpoint: Path
    point: ResumePoint | None
    reason: str = ""


def find_request(checkpoint: str | Path, runs: str | Path, run_id: str | None) -> ResumeRequest:
    """Return from which point a checkpoint continues. All its files are compared with their signed digests.

    Args:
        checkpoint: Folder of the checkpoint.
        runs: Folder of all runs.
        run_id: The only run that may be continued. None accepts any.

    Raises:
        CheckpointError: If no signed event names these files, or a later attempt has superseded them.
        LogError: If signed lines of the run are missing or changed.

    """
    path = Path(checkpoint)
    state = read_state(path)
    if state is None:
        return ResumeRequest(path, None, f"it has no {STATE_FILE}")
    if run_id is not None and state["run_id"] != run_id:
        return ResumeRequest(path, None, f"it belongs to run {state['run_id']!r}")
    if not RunFolder(runs, state["run_id"]).exists():
        return ResumeRequest(path, None, f"its run {state['run_id']!r} is not in {runs}")
    return ResumeRequest(path, find_trainer_resume_point(path, runs))


def describe_late_start(request: ResumeRequest, steps: int) -> str:
    """Return the sentence that a new run records about the training before it."""
    return (
        f"the training continues from {request.checkpoint} at step {steps}, "
        f"and this log has none of the steps before: {request.reason}"
    )


def write_run_state(controller: StepController, folder: Path, **fields: Any) -> dict[str, Any]:
    """Write state and anchor weights of a run into the folder of a checkpoint. Return the state.

    Call it between two batches.

    Args:
        controller: Controller of the training.
        folder: The folder, which exists.
        fields: Further JSON values, which `restore_run_state` returns.

    Raises:
        CheckpointError: If a file cannot be written.

    """
    anchor = controller.anchor
    own = {
        **controller.state_dict(),
        "anchor_iter_num": None if anchor is None else anchor.iter_num,
        "fields": fields,
    }
    state = {**controller.run.checkpoint_state(), "controller": own}
    path = folder / ANCHOR_FILE
    try:
        if anchor is None:
            path.unlink(missing_ok=True)
        else:
            atomic_write(path, serialize_tensors(anchor.state(controller.weights)))
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from None
    write_state(folder, state)
    return state


def restore_run_state(controller: StepController, point: ResumePoint) -> Mapping[str, Any]:
    """Restore run, controller and anchor from a checkpoint. Return the `fields` of `write_run_state`.

    Call it before the first batch, when the model has the weights of the checkpoint.

    Raises:
        CheckpointError: If the checkpoint belongs to another model, or no callback wrote its state.

    """
    assert point.path is not None
    own = point.state.get("controller")
    if not isinstance(own, dict):
        raise CheckpointError(
            f"{point.path / STATE_FILE}: was written by a loop of its own, not by a callback; "
            "restore it there with run.load_state_dict(point.state['run'])"
        )
    controller.run.load_state_dict(point.state["run"])
    controller.load_state_dict(own)
    if controller.anchor is not None and own["anchor_iter_num"] is not None:
        tensors = load_tensors(point.path / ANCHOR_FILE)
        controller.anchor = AnchorWeights.from_state(
            controller.weights, own["anchor_iter_num"], None, tensors
        )
    return dict(own["fields"])


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
