"""Trainer: applies mechanically what a context says."""

from __future__ import annotations

import math

import pytest
import torch

from ockham.context import OccamContext
from tests.helpers.tiny_trainer import same, trainer, weights


def batch(t, iter_num, **knobs):
    """One step under given knobs."""
    loss = t.forward(iter_num)
    ctx = OccamContext(iter_num, loss, **{**t.context_fields(iter_num), **knobs})
    t.backward(ctx)
    return t.step()


def test_it_learns(tmp_path):
    """Forty steps lower the loss of a plain text by more than half a nat."""
    t = trainer(tmp_path, "learning_rate=0.01")
    before = t.evaluate().loss
    for i in range(40):
        batch(t, i)
    assert t.evaluate().loss < before - 0.5


def test_a_skip_touches_nothing(tmp_path):
    """Weights, moments and weight decay stay; only the data moves on."""
    t = trainer(tmp_path)
    batch(t, 0)
    before = weights(t.model)
    moments = {k: v.clone() for s in t.optimizer.state.values() for k, v in s.items()}
    stepped, _ = batch(t, 1, updated=False)
    assert not stepped
    assert same(before, weights(t.model))
    assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(v, moments[k]) for k, v in list(t.optimizer.state.values())[-1].items())


def test_the_knobs_are_obeyed(tmp_path):
    """A learning rate of zero moves nothing but the decay-free rest; a clip of 1e-9 hardly moves anything."""
    t = trainer(tmp_path, "weight_decay=0.0")
    before = weights(t.model)
    _, gauges = batch(t, 0, learning_rate=0.0)
    assert same(before, weights(t.model))
    assert gauges["grad_norm"] > 0


def test_a_gradient_that_is_not_finite_is_refused(tmp_path):
    """The optimizer refuses it by itself, weights and moments stay, and the norm says why."""
    t = trainer(tmp_path)
    batch(t, 0)
    before = weights(t.model)
    loss = t.forward(1)
    ctx = OccamContext(1, loss, **t.context_fields(1))
    t._loss = t._loss * math.inf
    t.backward(ctx)
    stepped, gauges = t.step()
    assert not stepped
    assert not math.isfinite(gauges["grad_norm"])
    assert same(before, weights(t.model))
    assert t.steps == 1


def test_drift_pull_and_projection(tmp_path):
    """The pull scales theta - anchor by 1 - 2 lr lambda, the projection lands on the ceiling."""
    t = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0", pull="decoupled")
    t.move_anchor(0)
    _, free = batch(t, 0, lambda_ockham=0.0)
    assert free["complexity_cost"] == free["drift_raw"] > 0.01
    other = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0", pull="decoupled")
    other.move_anchor(0)
    _, pulled = batch(other, 0, lambda_ockham=5.0)
    assert pulled["complexity_cost"] == pytest.approx(
        free["complexity_cost"] * (1 - 2 * 0.01 * 5.0), rel=1e-5
    )
    _, projected = batch(other, 1, lambda_ockham=0.0, drift_ceiling=0.005)
    assert projected["drift_raw"] > 0.005
    assert projected["complexity_cost"] == pytest.approx(0.005)
    assert other.anchor.measure().after == pytest.approx(0.005, rel=1e-4)


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize(
    ("strength", "ceiling"), [(0.0, math.inf), (0.3, math.inf), (0.0, 0.004), (0.3, 0.004)]
)
def test_pull_and_projection_on_the_host_are_those_of_a_device(tmp_path, strength, ceiling, stepped):
    """A device computes them where the weights lie, and the host one matrix after the other: the same weights and gauges."""
    found = []
    for on_host in (True, False):
        t = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0")
        t.move_anchor(0)
        batch(t, 0)
        t.anchor._on_cpu = on_host
        before = weights(t.model)
        distance = t.anchor.pull(strength, ceiling, torch.tensor(stepped))
        found.append((float(distance), weights(t.model)))
        moved = stepped and (strength > 0 or ceiling < math.inf)
        assert same(before, found[-1][1]) is not moved
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert all(
        torch.allclose(one, found[1][1][name], rtol=1e-6, atol=1e-8) for name, one in found[0][1].items()
    )


def test_the_coupled_pull_goes_through_the_gradient(tmp_path):
    """The old formula's penalty: its gradient is 2 lambda (theta - anchor)."""
    t = trainer(tmp_path, pull="coupled")
    t.move_anchor(0)
    batch(t, 0)
    matrices = [p for p in t.model.parameters() if p.dim() >= 2]
    for p in matrices:
        p.grad = torch.zeros_like(p)
    differences = t.anchor.differences()
    t.anchor.add_penalty(0.25)
    assert all(torch.allclose(p.grad, 0.5 * d) for p, d in zip(matrices, differences, strict=True))


def test_rollback_returns_to_the_anchor(tmp_path):
    """All weights, gains too, and empty moments."""
    t = trainer(tmp_path)
    batch(t, 0)
    t.move_anchor(0)
    anchored = weights(t.model)
    batch(t, 1)
    assert not same(anchored, weights(t.model))
    iter_num, drift, _ = t.roll_back()
    assert iter_num == 0
    assert drift > 0
    assert same(anchored, weights(t.model))
    assert not t.optimizer.state


def test_kl_is_measured_only_if_somebody_asks(tmp_path):
    """Zero at the anchor, positive after a step, None where no plugin wants it."""
    t = trainer(tmp_path, required_measurements={"kl_to_anchor": 2})
    t.move_anchor(0)
    assert float(t.anchor.kl(t.model)) == pytest.approx(0.0, abs=1e-6)
    values = [batch(t, i, learning_rate=0.01)[1]["kl_to_anchor"] for i in range(4)]
    assert values[0] is None
    assert values[2] is None
    assert values[1] > 0
    silent = trainer(tmp_path)
    silent.move_anchor(0)
    assert batch(silent, 0)[1]["kl_to_anchor"] is None


def test_gradients_are_normalised_by_the_accepted_micro_batches(tmp_path):
    """Two micro-batches of which one is skipped give the gradient of the other alone."""
    t = trainer(tmp_path, "gradient_accumulation_steps=2", "grad_clip=1e9")
    t.forward(0, 0)
    t.backward(OccamContext(0, 1.0, updated=False))
    loss = t.forward(0, 1)
    t.backward(OccamContext(0, loss, learning_rate=0.0))
    _, one = t.step()
    both = trainer(tmp_path, "gradient_accumulation_steps=2", "grad_clip=1e9")
    for _ in range(2):
        loss = both.forward(0, 1)
        both.backward(OccamContext(0, loss, learning_rate=0.0))
    assert both.step()[1]["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)


def test_example_gains_weight_the_examples(tmp_path):
    """A gain of 4 on one of four examples and 0 on the rest is that example's gradient."""
    t = trainer(tmp_path, "grad_clip=1e9", required_measurements={"example_losses": 1})
    loss = t.forward(0)
    fields = t.context_fields(0)
    assert len(fields["example_losses"]) == 4
    assert sum(fields["example_losses"]) / 4 == pytest.approx(loss, rel=1e-5)
    t.backward(
        OccamContext(0, loss, **{**fields, "learning_rate": 0.0, "example_gain": (4.0, 0.0, 0.0, 0.0)})
    )
    _, weighted = t.step()
    x, y = t.batches.sample_batch(0)
    t.model.loss(x[:1], y[:1]).backward()
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in t.model.parameters()]))
    assert weighted["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_evaluation_always_reads_the_same_tokens(tmp_path):
    """Twice the same loss, and no generator of the training moves."""
    t = trainer(tmp_path, "dropout=0.5")
    state = torch.get_rng_state()
    assert t.evaluate().loss == t.evaluate().loss
    assert torch.equal(state, torch.get_rng_state())
    assert t.model.training


def test_gradient_noise_is_drawn_from_the_counter(tmp_path):
    """The same iteration adds the same noise; none adds none."""
    norms = []
    for std in (0.0, 0.5, 0.5):
        t = trainer(tmp_path, "grad_clip=1e9")
        norms.append(batch(t, 3, grad_noise_std=std)[1]["grad_norm"])
    assert norms[1] == norms[2] != norms[0]
