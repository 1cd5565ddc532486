"""Actions after a step: evaluation, accepted weights, anchor, rollback and halt."""

from __future__ import annotations

import pytest

import ockham
from ockham.nano.anchor import Rollback
from ockham.nano.trainer import Evaluation
from ockham.plugin import OccamPlugin
from ockham.record.checkpoints import CheckpointFiles
from ockham.step_actions import after_evaluation
from tests.helpers.tiny_model import read_events


class RequestPlugin(OccamPlugin):
    """Sets the given knobs at the end of a batch or in an evaluation."""

    name = "request"

    def __init__(self, **knobs: bool) -> None:
        self.knobs = knobs

    def settings(self):
        return {}

    def on_batch_end(self, ctx):
        for knob in ("rollback", "halt", "consolidating"):
            if knob in self.knobs:
                setattr(ctx, knob, True)
                ctx.decide("REQUEST", "REQUESTED", fields=(knob,))

    def on_evaluate(self, ctx):
        if "accepted" in self.knobs:
            ctx.accepted = True
            ctx.decide("ACCEPT", "REQUESTED", fields=("accepted",))


class FakeTrainer:
    """Records the calls of `after_step`."""

    def __init__(self, anchor: object | None = "anchor") -> None:
        self.anchor = anchor
        self.calls = []

    def make_checkpoint_files(self, metadata, state=None):
        self.calls.append("checkpoint")
        return CheckpointFiles({"w": b"w"}, "0" * 64)

    def move_anchor(self, iter_num):
        self.calls.append("move_anchor")
        return 0.5

    def roll_back(self, iter_num):
        self.calls.append("roll_back")
        return Rollback(3, 0.25, 0.001)


@pytest.fixture
def run_step(tmp_path):
    """Return a function that runs one batch and the actions after it."""

    def run_batch(trainer, actions, **knobs):
        with ockham.Run(plugins=[RequestPlugin(**knobs)], runs=tmp_path / "runs", run_id="a") as run:
            ctx = run.end_batch(run.start_batch(0, 2.0))
            return actions(run, trainer, ctx)

    return run_batch


def test_after_step_without_requests_does_nothing(run_step):
    """The run continues."""
    trainer = FakeTrainer()
    assert run_step(trainer, ockham.after_step) is None
    assert trainer.calls == []


def test_after_step_saves_accepted_weights_and_moves_the_anchor(run_step, tmp_path):
    """The order is evaluation, callback, checkpoint, anchor."""
    trainer = FakeTrainer()

    def evaluate(run, trainer, ctx):
        return ockham.after_step(
            run,
            trainer,
            ctx,
            Evaluation(1.5),
            trigger="CONSOLIDATION",
            before_change=lambda: trainer.calls.append("before_change"),
        )

    assert run_step(trainer, evaluate, accepted=True, consolidating=True) is None
    assert trainer.calls == ["before_change", "checkpoint", "move_anchor"]
    evaluation = read_events(tmp_path, "evaluation.recorded")[0]
    assert evaluation["val_loss"] == 1.5
    assert evaluation["trigger"] == "CONSOLIDATION"
    assert read_events(tmp_path, "anchor.consolidated")[0]["drift"] == 0.5


def test_after_evaluation_does_not_save_if_saving_is_disabled(run_step):
    """The weights are accepted, but no checkpoint is written."""
    trainer = FakeTrainer()

    def evaluate(run, trainer, ctx):
        after_evaluation(run, trainer, ctx, Evaluation(1.5), save_accepted=False)

    run_step(trainer, evaluate, accepted=True)
    assert trainer.calls == []


def test_after_step_records_a_rollback(run_step, tmp_path):
    """The event contains the iteration of the anchor and the drift."""
    trainer = FakeTrainer()
    assert run_step(trainer, ockham.after_step, rollback=True) is None
    assert trainer.calls == ["roll_back"]
    event = read_events(tmp_path, "rollback.performed")[0]
    assert event["anchor_iter_num"] == 3
    assert event["drift"] == 0.25


def test_rollback_without_anchor_ends_the_run(run_step):
    """Nothing is rolled back."""
    trainer = FakeTrainer(anchor=None)
    reason, message = run_step(trainer, ockham.after_step, rollback=True)
    assert reason == "NO_ANCHOR"
    assert "no anchor" in message
    assert trainer.calls == []


def test_halt_ends_the_run_by_its_decision(run_step):
    """The message contains the ID of the decision."""
    reason, message = run_step(FakeTrainer(), ockham.after_step, halt=True)
    assert reason == "HALTED_BY_POLICY"
    assert message.startswith("halted by decision ")
    assert message.endswith(" (request REQUESTED)")
