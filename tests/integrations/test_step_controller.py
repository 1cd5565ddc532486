"""What the hands do with a verdict: refuse, project, roll back, normalise; in a loop with nothing else around it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ockham.errors import BadInputError
from ockham.integrations.step_controller import StepController
from ockham.plugin import OccamPlugin
from ockham.run import Run
from tests.integrations import tiny_model

STEPS = 24


def train(run, *, steps=STEPS, rate=0.01, spoil=None, parts=1, scale=1.0, model=None):
    """A bare loop: the hands, a model and AdamW."""
    model = model or tiny_model.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    hands = StepController(run, model, optimizer)
    batches = iter(tiny_model.batches(steps * parts))
    for step in range(steps):
        for part in range(parts):
            loss = model.loss(*next(batches))
            if hands.start_batch(loss.item()):
                (loss * scale / parts).backward()
            if part < parts - 1:
                hands.end_batch()
        if spoil == step:
            model.wte.weight.grad.fill_(math.inf)
        hands.before_step()
        optimizer.step()
        hands.end_batch()
        optimizer.zero_grad()
    return hands, model, optimizer


class Act(OccamPlugin):
    """Does one thing at one batch."""

    name = "act"

    def __init__(self, at: int = 9, **turns) -> None:
        self.at, self.turns = at, turns

    def settings(self):
        return {"at": self.at}

    def on_batch_start(self, ctx):
        if ctx.iter_num == self.at and ctx.micro_step == 0 and "updated" in self.turns:
            ctx.updated = False
            ctx.decide("SKIP", "AS_ASKED")

    def on_batch_end(self, ctx):
        if ctx.iter_num == self.at and "rollback" in self.turns:
            ctx.rollback = True
            ctx.decide("ROLLBACK", "AS_ASKED")


def test_a_gradient_that_is_not_finite_moves_nothing(tmp_path):
    """The step is refused, said, and the training goes on."""
    with tiny_model.run(tmp_path, "a", "balanced", "gate.shadow=true") as run:
        _, model, optimizer = train(run, spoil=6)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    refused = [
        d for d in tiny_model.of(tmp_path, "decision.made") if d["reason_code"] == "NONFINITE_GRADIENT"
    ]
    assert [d["iter_num"] for d in refused] == [6]
    assert {int(s["step"]) for s in optimizer.state.values()} == {STEPS - 1}
    assert tiny_model.of(tmp_path, "run.finished")[0]["updates"] == STEPS - 1
    tiny_model.holds(tmp_path, batches=STEPS)


def test_drift_ends_at_its_ceiling(tmp_path):
    """Pulled back after the step, and said so; measured from where the training began."""
    begun = tiny_model.model()
    with tiny_model.run(
        tmp_path, "a", "balanced", "limiter.complexity_ceiling=0.1", "memory.complexity_threshold=0.09"
    ) as run:
        _, model, _ = train(run)
    pairs = [
        (p.detach(), q.detach())
        for p, q in zip(model.parameters(), begun.parameters(), strict=True)
        if p.dim() >= 2
    ]
    distance = math.sqrt(sum(float((p - q).square().sum()) for p, q in pairs))
    drift = distance / math.sqrt(sum(float(q.square().sum()) for _, q in pairs))
    assert drift <= 0.1 * 1.001
    projected = [d for d in tiny_model.of(tmp_path, "decision.made") if d["reason_code"] == "DRIFT_PROJECTED"]
    assert projected
    assert drift == pytest.approx(
        tiny_model.of(tmp_path, "context.recorded")[-1]["measured"].get("complexity_cost", drift), rel=0.02
    )
    tiny_model.holds(tmp_path, batches=STEPS)


def test_a_rollback_returns_to_the_beginning(tmp_path):
    """Weights and moments; the event says how far they had gone."""
    with Run(
        plugins=[Act(rollback=True, at=STEPS - 1)], runs=tmp_path / "runs", run_id="a", facts=tiny_model.FACTS
    ) as run:
        _, model, optimizer = train(run)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), tiny_model.model().parameters(), strict=True)
    )
    assert not optimizer.state
    back = tiny_model.of(tmp_path, "rollback.performed")[0]
    assert back["anchor_iter_num"] == 0
    assert back["drift"] > 0


def test_gradients_are_those_of_the_accepted_batches(tmp_path):
    """Of two micro-batches one is skipped: the step's gradient is that of the other, not half of it."""
    model = tiny_model.model()
    with Run(
        plugins=[Act(updated=False, at=0)], runs=tmp_path / "runs", run_id="a", facts=tiny_model.FACTS
    ) as run:
        gradients = []
        listening = register_optimizer_step_pre_hook(
            lambda *_: gradients.append(model.wte.weight.grad.clone())
        )
        try:
            train(run, steps=1, parts=2, scale=1e-3, model=model)  # so short that nothing is clipped
        finally:
            listening.remove()
    other = tiny_model.model()
    (other.loss(*tiny_model.batches(2)[1]) * 1e-3).backward()
    torch.testing.assert_close(gradients[0], other.wte.weight.grad)


def test_more_than_one_process_is_refused(tmp_path, monkeypatch):
    """Ranks that decide each for themselves would wait for one another."""
    for name, value in (("is_available", True), ("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with tiny_model.run(tmp_path) as run, pytest.raises(BadInputError, match="torchrun"):
        train(run)
