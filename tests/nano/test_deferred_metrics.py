"""Gauges that are read after the next batch's loss, as on a GPU: same decisions, values and weights."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from ockham import Run
from ockham.nano import ProgressLine
from ockham.plugin import OccamPlugin
from ockham.policy import HYPERPARAMETERS, load_policy
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.tiny_trainer import load_train_module, trainer, weights, weights_equal

OVERRIDES = ("watchdog.every=3", "anchor.interval=9", "anchor.cooldown=1", "anchor.tolerance=9")
TRAINER_SETTINGS = ("dropout=0.2", "warmup_iters=4", "max_iters=30", "checkpoint_every=11")
COMPARED_KINDS = (
    "context.recorded",
    "decision.made",
    "evaluation.recorded",
    "rollback.performed",
    "anchor.consolidated",
)
IGNORED_FIELDS = ("seconds", "decision_id", "policy_revision")


class Forward(NamedTuple):
    """A computed loss, and the number of batches that had been recorded before it."""

    iter_num: int
    micro_step: int
    recorded_batches: int


class TrainingResult(NamedTuple):
    """End reason, weights, optimizer steps and forwards of a training."""

    reason: str
    weights: dict[str, torch.Tensor]
    steps: int
    forwards: list[Forward]


class FaultPlugin(OccamPlugin):
    """Causes a non-finite gradient, a rollback and a halt in given iterations."""

    name = "fault"

    def __init__(self, rollback: int = -1, halt: int = -1) -> None:
        self.rollback = rollback
        self.halt = halt

    def on_batch_start(self, ctx):
        if ctx.iter_num == 7:
            ctx.updated, ctx.grad_noise_std = True, 1e39

    def on_batch_end(self, ctx):
        ctx.rollback = ctx.rollback or ctx.iter_num == self.rollback
        ctx.halt = ctx.halt or ctx.iter_num == self.halt


def recorded_events(runs):
    """Return kind and data of all recorded batches and decisions, without durations."""
    result = []
    for event in events(RunFolder(runs, "a")):
        kind = event["type"].removeprefix("ockham.").removesuffix(".v1")
        if kind in COMPARED_KINDS:
            data = {key: value for key, value in event["data"].items() if key not in IGNORED_FIELDS}
            result.append((kind, data))
    return result


def run_training(folder, monkeypatch, *, deferred, fault, settings=()):
    """Train with the fault plugin and return the result."""
    tiny = trainer(folder, *TRAINER_SETTINGS, *settings)
    tiny.deferred_metrics = deferred
    forwards, recorded = [], []
    forward = tiny._forward

    def observe_forward(iter_num, micro_step):
        forwards.append(Forward(iter_num, micro_step, len(recorded)))
        return forward(iter_num, micro_step)

    monkeypatch.setattr(tiny, "_forward", observe_forward)
    monkeypatch.setitem(HYPERPARAMETERS, "evaluations", 4)
    monkeypatch.setitem(HYPERPARAMETERS, "lambda_ockham", 5.0)
    plugins = [*load_policy("balanced", OVERRIDES).build(), fault]
    with Run(plugins=plugins, runs=folder / f"deferred-{deferred}", run_id="a", facts=tiny.facts()) as run:
        end_batch = run.end_batch

        def observe_end(ctx, **fields):
            recorded.append(ctx.iter_num)
            return end_batch(ctx, **fields)

        monkeypatch.setattr(run, "end_batch", observe_end)
        tiny.configure(pull="decoupled", required_measurements=run.chain.required_measurements())
        with ProgressLine(0, 30, 32) as line:
            reason, _ = load_train_module().train(run, tiny, 0, line, lambda: False)
    return TrainingResult(reason, weights(tiny.model), tiny.steps, forwards)


@pytest.mark.parametrize(
    ("fault", "settings", "reason"),
    [
        (FaultPlugin(), (), "COMPLETED"),
        (FaultPlugin(), ("gradient_accumulation_steps=2",), "COMPLETED"),
        (FaultPlugin(rollback=16), (), "COMPLETED"),
        (FaultPlugin(halt=17), (), "HALTED_BY_POLICY"),
    ],
)
def test_training_with_deferred_metrics_equals_training_without(
    tmp_path, monkeypatch, fault, settings, reason
):
    """Decisions, gauges, order, evaluations and weights are equal, also with dropout.

    The run has a refused gradient, a consolidation, a rollback that discards a computed loss, and a halt.
    """
    plain, deferred = (
        run_training(tmp_path, monkeypatch, deferred=deferred, fault=fault, settings=settings)
        for deferred in (False, True)
    )
    assert plain.reason == reason
    assert deferred.reason == reason
    assert recorded_events(tmp_path / "deferred-True") == recorded_events(tmp_path / "deferred-False")
    assert weights_equal(deferred.weights, plain.weights)
    assert deferred.steps == plain.steps
    assert plain.steps > 4
    kinds = {kind for kind, _ in recorded_events(tmp_path / "deferred-True")}
    assert {"evaluation.recorded", "anchor.consolidated"} <= kinds
    assert ("rollback.performed" in kinds) == (fault.rollback > 0)


@pytest.mark.parametrize("micro_steps", [1, 2])
def test_deferred_metrics_compute_the_next_loss_before_the_batch_is_recorded(
    tmp_path, monkeypatch, micro_steps
):
    """Without them, each loss is computed after all earlier batches have been recorded."""
    settings = (f"gradient_accumulation_steps={micro_steps}",)
    plain, deferred = (
        run_training(tmp_path, monkeypatch, deferred=deferred, fault=FaultPlugin(), settings=settings)
        for deferred in (False, True)
    )
    assert all(f.recorded_batches == f.iter_num * micro_steps + f.micro_step for f in plain.forwards)
    lags = {f.recorded_batches - (f.iter_num * micro_steps + f.micro_step) for f in deferred.forwards}
    assert lags == {-1, 0}


def test_rollback_discards_the_loss_that_was_computed_in_advance(tmp_path, monkeypatch):
    """The batch after the rollback is forwarded twice: too early, and with the anchor's weights."""
    result = run_training(tmp_path, monkeypatch, deferred=True, fault=FaultPlugin(rollback=16))
    batches = [(forward.iter_num, forward.micro_step) for forward in result.forwards]
    assert [batch for batch in batches if batches.count(batch) > 1] == [(17, 0), (17, 0)]
