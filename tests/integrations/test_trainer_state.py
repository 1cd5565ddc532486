"""State of a run in a checkpoint of another library, without such a library."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import CheckpointError
from ockham.integrations.step_controller import StepController
from ockham.integrations.trainer_state import (
    describe_late_start,
    find_request,
    restore_run_state,
    write_run_state,
)
from ockham.record.checkpoint_path import ANCHOR_FILE, STATE_FILE
from ockham.record.trainer_checkpoints import write_state
from ockham.run import Run
from tests.helpers import tiny_model


def train(controller, model, first, last):
    """Train batches with a plain loop that the controller drives."""
    for tokens, targets in tiny_model.make_batches(40)[first:last]:
        loss = torch.nn.functional.cross_entropy(model(tokens).transpose(1, 2), targets)
        if controller.start_batch(loss.item()):
            loss.backward()
        controller.before_step()
        controller.optimizer.step()
        controller.optimizer.zero_grad()
        controller.end_batch()


def make_model(shape=(8, 34)):
    """Return a model of two matrices."""
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Embedding(shape[1], shape[0]), torch.nn.Linear(*shape))


def make_controller(run, model):
    """Return the controller of a model."""
    return StepController(run, model, torch.optim.AdamW(model.parameters(), lr=1e-2))


def save(folder, *, policy="balanced"):
    """Train, and save after iteration 9 as a trainer does. Return checkpoint, model and controller."""
    checkpoint = folder / "out" / "checkpoint-10"
    checkpoint.mkdir(parents=True)
    model = make_model()
    with Run(policy, runs=folder / "runs", run_id="a") as run:
        controller = make_controller(run, model)
        train(controller, model, 0, 10)
        state = write_run_state(run, controller, checkpoint, seen=10)
        run.record_checkpoint(checkpoint, state)
    return checkpoint, model, controller


def test_state_returns_with_anchor_counters_and_fields(tmp_path):
    """The drift from the first weights is that of the saved training."""
    checkpoint, model, old = save(tmp_path)
    request = find_request(checkpoint, tmp_path / "runs", None)
    with Run(runs=tmp_path / "runs", resumed=request.point) as run:
        controller = make_controller(run, model)
        assert restore_run_state(run, controller, request.point) == {"seen": 10}
        assert (controller.iter_num, controller.anchor.iter_num) == (10, 0)
        assert controller.state_dict() == old.state_dict()
        assert controller.anchor.measure() == old.anchor.measure()
        assert controller.anchor.measure().raw > 0
        train(controller, model, 10, 12)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    """The message names the tensor that differs."""
    checkpoint, *_ = save(tmp_path)
    request = find_request(checkpoint, tmp_path / "runs", "a")
    with Run(runs=tmp_path / "runs", resumed=request.point) as run:
        controller = make_controller(run, make_model((4, 34)))
        with pytest.raises(CheckpointError, match="has shape"):
            restore_run_state(run, controller, request.point)


def test_checkpoint_of_an_own_loop_is_refused(tmp_path):
    """It has no state of a controller."""
    folder = tmp_path / "out"
    folder.mkdir()
    with Run("balanced", runs=tmp_path / "runs", run_id="a") as run:
        run.end_batch(run.start_batch(0, 2.0))
        state = run.checkpoint_state()
        write_state(folder, state)
        run.record_checkpoint(folder, state)
    request = find_request(folder, tmp_path / "runs", "a")
    with Run(runs=tmp_path / "runs", resumed=request.point) as run:
        with pytest.raises(CheckpointError, match="not by a callback"):
            restore_run_state(run, make_controller(run, make_model()), request.point)


def test_old_anchor_in_a_reused_folder_is_removed(tmp_path):
    """A run without an anchor must not sign the anchor of an earlier one."""
    checkpoint, *_ = save(tmp_path / "one")
    assert (checkpoint / ANCHOR_FILE).exists()
    model = make_model()
    with Run(plugins=[], runs=tmp_path / "runs", run_id="b") as run:
        controller = make_controller(run, model)
        train(controller, model, 0, 1)
        controller.anchor = None
        write_run_state(run, controller, checkpoint)
    assert not (checkpoint / ANCHOR_FILE).exists()


@pytest.mark.parametrize(
    ("runs", "run_id", "reason"),
    [("runs", "b", "it belongs to run 'a'"), ("other", None, "its run 'a' is not in")],
)
def test_checkpoint_of_another_run_has_a_reason(tmp_path, runs, run_id, reason):
    """A new run records it in its first event."""
    checkpoint, *_ = save(tmp_path)
    request = find_request(checkpoint, tmp_path / runs, run_id)
    assert request.point is None
    assert reason in describe_late_start(request, 10)
    (checkpoint / STATE_FILE).unlink()
    assert f"it has no {STATE_FILE}" in find_request(checkpoint, tmp_path / runs, run_id).reason
