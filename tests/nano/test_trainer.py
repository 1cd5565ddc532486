"""Trainer: applies the knobs of the context."""

from __future__ import annotations

import math

import pytest
import torch

from ockham.context import OccamContext
from tests.helpers.tiny_trainer import train_step, trainer, weights, weights_equal


def test_training_lowers_the_loss(tmp_path):
    """Forty steps lower the loss of a plain text by more than half a nat."""
    t = trainer(tmp_path, "learning_rate=0.01")
    before = t.evaluate().loss
    for i in range(40):
        train_step(t, i)
    assert t.evaluate().loss < before - 0.5


def test_skipped_batch_leaves_weights_and_moments_unchanged(tmp_path):
    """Weight decay is not applied either."""
    t = trainer(tmp_path)
    train_step(t, 0)
    before = weights(t.model)
    moments = {k: v.clone() for s in t.optimizer.state.values() for k, v in s.items()}
    applied, _ = train_step(t, 1, updated=False)
    assert applied.stepped is False
    assert weights_equal(before, weights(t.model))
    assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(v, moments[k]) for k, v in list(t.optimizer.state.values())[-1].items())


def test_learning_rate_of_zero_leaves_weights_unchanged(tmp_path):
    """The gradient norm is measured anyway."""
    t = trainer(tmp_path, "weight_decay=0.0")
    before = weights(t.model)
    _, gauges = train_step(t, 0, learning_rate=0.0)
    assert weights_equal(before, weights(t.model))
    assert gauges["grad_norm"] > 0


def test_step_with_nonfinite_gradient_leaves_weights_unchanged(tmp_path):
    """The optimizer refuses the step. The reported norm is not finite."""
    t = trainer(tmp_path)
    train_step(t, 0)
    before = weights(t.model)
    loss = t.forward(1)
    ctx = OccamContext(1, loss, **t.context_fields(1))
    t._loss = t._loss * math.inf
    t.backward(ctx)
    applied, gauges = t.step()
    assert applied.stepped is False
    assert not math.isfinite(gauges["grad_norm"])
    assert weights_equal(before, weights(t.model))
    assert t.steps == 1


def test_pull_and_projection_reduce_drift_by_the_formula(tmp_path):
    """The pull scales theta - anchor by 1 - 2 lr lambda. The projection ends at the ceiling."""
    t = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0", pull="decoupled")
    t.move_anchor(0)
    _, free = train_step(t, 0, lambda_ockham=0.0)
    assert free["complexity_cost"] == free["drift_raw"] > 0.01
    other = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0", pull="decoupled")
    other.move_anchor(0)
    _, pulled = train_step(other, 0, lambda_ockham=5.0)
    assert pulled["complexity_cost"] == pytest.approx(
        free["complexity_cost"] * (1 - 2 * 0.01 * 5.0), rel=1e-5
    )
    _, projected = train_step(other, 1, lambda_ockham=0.0, drift_ceiling=0.005)
    assert projected["drift_raw"] > 0.005
    assert projected["complexity_cost"] == pytest.approx(0.005)
    assert other.anchor.measure().after == pytest.approx(0.005, rel=1e-4)


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize(
    ("strength", "ceiling"), [(0.0, math.inf), (0.3, math.inf), (0.0, 0.004), (0.3, 0.004)]
)
def test_pull_on_the_host_equals_pull_on_a_device(tmp_path, strength, ceiling, stepped):
    """The host handles one matrix after the other. Weights and gauges are equal."""
    results = []
    for on_host in (True, False):
        t = trainer(tmp_path, "learning_rate=0.01", "warmup_iters=0")
        t.move_anchor(0)
        train_step(t, 0)
        t.anchor._on_cpu = on_host
        before = weights(t.model)
        distance = t.anchor.pull(strength, ceiling, torch.tensor(stepped))
        results.append((float(distance), weights(t.model)))
        moved = stepped and (strength > 0 or ceiling < math.inf)
        assert weights_equal(before, results[-1][1]) is not moved
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert all(
        torch.allclose(one, results[1][1][name], rtol=1e-6, atol=1e-8) for name, one in results[0][1].items()
    )


def test_coupled_pull_adds_the_penalty_to_the_gradient(tmp_path):
    """The gradient of the penalty is 2 lambda (theta - anchor)."""
    t = trainer(tmp_path, pull="coupled")
    t.move_anchor(0)
    train_step(t, 0)
    matrices = [p for p in t.model.parameters() if p.dim() >= 2]
    for p in matrices:
        p.grad = torch.zeros_like(p)
    differences = t.anchor.differences()
    t.anchor.add_penalty(0.25)
    assert all(torch.allclose(p.grad, 0.5 * d) for p, d in zip(matrices, differences, strict=True))


def test_rollback_restores_anchor_weights_and_clears_moments(tmp_path):
    """All parameters are restored, including gains."""
    t = trainer(tmp_path)
    train_step(t, 0)
    t.move_anchor(0)
    anchored = weights(t.model)
    train_step(t, 1)
    assert not weights_equal(anchored, weights(t.model))
    performed = t.roll_back(1)
    assert performed.iter_num == 0
    assert performed.drift > 0
    assert weights_equal(anchored, weights(t.model))
    assert not t.optimizer.state


def test_kl_is_measured_only_if_required(tmp_path):
    """KL is zero at the anchor and positive after a step. It is None if no plugin requires it."""
    t = trainer(tmp_path, required_measurements={"kl_to_anchor": 2})
    t.move_anchor(0)
    assert float(t.anchor.kl(t.model)) == pytest.approx(0.0, abs=1e-6)
    values = [train_step(t, i, learning_rate=0.01)[1]["kl_to_anchor"] for i in range(4)]
    assert values[0] is None
    assert values[2] is None
    assert values[1] > 0
    silent = trainer(tmp_path)
    silent.move_anchor(0)
    assert train_step(silent, 0)[1]["kl_to_anchor"] is None


def test_kl_is_taken_from_the_anchor_to_the_present_weights(tmp_path):
    """It is sum p ln(p / q) over the vocabulary, with p of the anchor, as the mean over tokens."""
    t = trainer(tmp_path, required_measurements={"kl_to_anchor": 2})
    t.move_anchor(0)
    with torch.no_grad():
        p = t.model(t.anchor.probe).double().softmax(-1)
        for parameter in t.model.parameters():
            parameter.mul_(5)
        q = t.model(t.anchor.probe).double().softmax(-1)
    expected = float((p * (p.log() - q.log())).sum(-1).mean())
    assert float(t.anchor.kl(t.model)) == pytest.approx(expected, rel=1e-3)
    assert expected != pytest.approx(float((q * (q.log() - p.log())).sum(-1).mean()), rel=1e-2)


def test_gradient_is_normalised_by_the_accepted_micro_batches(tmp_path):
    """Two micro-batches, of which one is skipped, give the gradient of the other one."""
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


def test_example_gains_weight_the_gradient_of_each_example(tmp_path):
    """A gain of 4 on one of four examples, and 0 on the others, gives that example's gradient."""
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


def test_evaluation_uses_the_same_tokens_each_time(tmp_path):
    """The loss is equal, and no random generator of the training changes."""
    t = trainer(tmp_path, "dropout=0.5")
    state = torch.get_rng_state()
    assert t.evaluate().loss == t.evaluate().loss
    assert torch.equal(state, torch.get_rng_state())
    assert t.model.training


def test_gradient_noise_depends_only_on_the_iteration(tmp_path):
    """An equal iteration adds equal noise."""
    norms = []
    for std in (0.0, 0.5, 0.5):
        t = trainer(tmp_path, "grad_clip=1e9")
        norms.append(train_step(t, 3, grad_noise_std=std)[1]["grad_norm"])
    assert norms[1] == norms[2] != norms[0]
