"""Step controller: refusal, projection, rollback and normalisation in a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ockham.errors import BadInputError
from ockham.integrations.step_controller import StepController
from ockham.plugin import OccamPlugin
from ockham.run import Run
from tests.helpers import tiny_model

STEPS = 24


def train(run, *, steps=STEPS, rate=0.01, nonfinite_step=None, micro_steps=1, scale=1.0, model=None):
    """Train in a plain loop with the controller, a model and AdamW. Return all three."""
    model = model or tiny_model.make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    controller = StepController(run, model, optimizer)
    controller.micro_steps = micro_steps
    batches = iter(tiny_model.make_batches(steps * micro_steps))
    for step in range(steps):
        for micro_step in range(micro_steps):
            loss = model.loss(*next(batches))
            if controller.start_batch(loss.item()):
                (loss * scale / micro_steps).backward()
            if micro_step < micro_steps - 1:
                controller.end_batch()
        if nonfinite_step == step:
            model.wte.weight.grad.fill_(math.inf)
        controller.before_step()
        optimizer.step()
        controller.end_batch()
        optimizer.zero_grad()
    return controller, model, optimizer


class ActionPlugin(OccamPlugin):
    """Skips or rolls back at one batch."""

    name = "act"

    def __init__(self, at: int = 9, **actions) -> None:
        self.at = at
        self.actions = actions

    def settings(self):
        return {"at": self.at}

    def on_batch_start(self, ctx):
        if ctx.iter_num == self.at and ctx.micro_step == 0 and "updated" in self.actions:
            ctx.updated = False
            ctx.decide("SKIP", "REQUESTED")

    def on_batch_end(self, ctx):
        if ctx.iter_num == self.at and "rollback" in self.actions:
            ctx.rollback = True
            ctx.decide("ROLLBACK", "REQUESTED")


def test_step_with_nonfinite_gradient_leaves_weights_unchanged(tmp_path):
    """The refusal is recorded, and the training continues."""
    with tiny_model.make_run(tmp_path, "a", "balanced", "gate.shadow=true") as run:
        _, model, optimizer = train(run, nonfinite_step=6)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    refused = [
        d
        for d in tiny_model.read_events(tmp_path, "decision.made")
        if d["reason_code"] == "NONFINITE_GRADIENT"
    ]
    assert [d["iter_num"] for d in refused] == [6]
    assert {int(s["step"]) for s in optimizer.state.values()} == {STEPS - 1}
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["optimizer_steps"] == STEPS - 1
    tiny_model.assert_sound_run(tmp_path, batches=STEPS)


def test_drift_is_projected_to_its_ceiling(tmp_path):
    """The projection is recorded. Drift is measured from the initial weights."""
    initial = tiny_model.make_model()
    with tiny_model.make_run(
        tmp_path, "a", "balanced", "limiter.complexity_ceiling=0.1", "memory.complexity_threshold=0.09"
    ) as run:
        _, model, _ = train(run)
    pairs = [
        (p.detach(), q.detach())
        for p, q in zip(model.parameters(), initial.parameters(), strict=True)
        if p.dim() >= 2
    ]
    distance = math.sqrt(sum(float((p - q).square().sum()) for p, q in pairs))
    drift = distance / math.sqrt(sum(float(q.square().sum()) for _, q in pairs))
    assert drift <= 0.1 * 1.001
    projected = [
        d for d in tiny_model.read_events(tmp_path, "decision.made") if d["reason_code"] == "DRIFT_PROJECTED"
    ]
    assert projected
    assert drift == pytest.approx(
        tiny_model.read_events(tmp_path, "context.recorded")[-1]["measured"].get("complexity_cost", drift),
        rel=0.02,
    )
    tiny_model.assert_sound_run(tmp_path, batches=STEPS)


def test_rollback_restores_the_initial_weights(tmp_path):
    """The moments are cleared. The event contains the drift."""
    with Run(
        plugins=[ActionPlugin(rollback=True, at=STEPS - 1)],
        runs=tmp_path / "runs",
        run_id="a",
        facts=tiny_model.FACTS,
    ) as run:
        _, model, optimizer = train(run)
    assert all(
        torch.equal(p, q)
        for p, q in zip(model.parameters(), tiny_model.make_model().parameters(), strict=True)
    )
    assert not optimizer.state
    back = tiny_model.read_events(tmp_path, "rollback.performed")[0]
    assert back["anchor_iter_num"] == 0
    assert back["drift"] > 0


def test_gradient_is_normalised_by_the_accepted_batches(tmp_path):
    """If one of two micro-batches is skipped, the gradient is that of the other one, not half of it."""
    model = tiny_model.make_model()
    with Run(
        plugins=[ActionPlugin(updated=False, at=0)],
        runs=tmp_path / "runs",
        run_id="a",
        facts=tiny_model.FACTS,
    ) as run:
        gradients = []
        hook = register_optimizer_step_pre_hook(lambda *_: gradients.append(model.wte.weight.grad.clone()))
        try:
            # The gradient is so small that nothing is clipped.
            train(run, steps=1, micro_steps=2, scale=1e-3, model=model)
        finally:
            hook.remove()
    other = tiny_model.make_model()
    (other.loss(*tiny_model.make_batches(2)[1]) * 1e-3).backward()
    torch.testing.assert_close(gradients[0], other.wte.weight.grad)


def test_several_processes_are_rejected(tmp_path, monkeypatch):
    """Ranks with different decisions would wait for each other."""
    for name, value in (("is_available", True), ("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with (
        tiny_model.make_run(tmp_path) as run,
        pytest.raises(BadInputError, match="the training has 2 processes"),
    ):
        train(run)
