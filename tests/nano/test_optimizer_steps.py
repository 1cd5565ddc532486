"""Optimizer steps of the trainer: measured first, refused, and with two learning rates."""

from __future__ import annotations

import math

import pytest
import torch

from ockham.applied_step import GRADIENT_DROPPED, NONFINITE_GRADIENT
from ockham.context import OccamContext
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import tiny_trainer
from tests.helpers.events import events
from tests.helpers.plugins import EachThird, OnGradients

SETTINGS = {
    "plain": (),
    "accumulation": ("gradient_accumulation_steps=3",),
    "muon": ("optimizer=muon",),
}


def step(trainer, iter_num, *, measure, **knobs):
    """Take one step. Return the measured norm and the result."""
    norm = None
    for micro_step in range(trainer.settings.gradient_accumulation_steps):
        loss = trainer.forward(iter_num, micro_step)
        fields = {**trainer.context_fields(iter_num, micro_step), **knobs}
        ctx = OccamContext(iter_num, loss, micro_step=micro_step, **fields)
        trainer.backward(ctx)
        if measure:
            norm = trainer.measure_gradients(ctx)
    return norm, trainer.finish_batch(ctx)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("pull", ["decoupled", "coupled"])
def test_measured_step_equals_the_step_without_measurement(tmp_path, name, pull):
    """Weights and gauges are equal to the last bit."""
    both = [tiny_trainer.trainer(tmp_path, *SETTINGS[name], pull=pull) for _ in range(2)]
    knobs = {"grad_clip": 0.5, "lambda_ockham": 0.1, "grad_noise_std": 0.1}
    for trainer in both:
        trainer.move_anchor(0)
    for number in range(3):
        (norm, measured), (_, plain) = (
            step(trainer, number, measure=trainer is both[0], **knobs) for trainer in both
        )
        assert measured.gauges == plain.gauges
        assert measured.applied == plain.applied
        assert norm == plain.gauges["grad_norm"]
    first, second = (tiny_trainer.weights(trainer.model) for trainer in both)
    assert tiny_trainer.weights_equal(first, second)


@pytest.mark.parametrize("name", SETTINGS)
def test_refused_step_changes_neither_weights_nor_moments(tmp_path, name):
    """It is as if the batch had not been there, and no gradient is left."""
    both = [tiny_trainer.trainer(tmp_path, *SETTINGS[name], pull="decoupled") for _ in range(2)]
    for trainer in both:
        trainer.move_anchor(0)
        step(trainer, 0, measure=True)
    before = tiny_trainer.weights(both[0].model)
    _, result = step(both[0], 1, measure=True, step=False)
    assert (result.applied.stepped, result.applied.cause) == (False, GRADIENT_DROPPED)
    assert result.applied.weights_changed is False
    assert math.isfinite(result.gauges["grad_norm"])
    assert tiny_trainer.weights_equal(before, tiny_trainer.weights(both[0].model))
    assert all(parameter.grad is None for parameter in both[0].model.parameters())
    for trainer in both:
        step(trainer, 2, measure=True)
    assert both[0].steps == both[1].steps == 2
    first, second = (tiny_trainer.weights(trainer.model) for trainer in both)
    assert tiny_trainer.weights_equal(first, second)


def test_cause_of_a_refused_step_with_a_gradient_that_is_not_finite_is_the_gradient(tmp_path):
    """The optimizer would have refused it as well."""
    trainer = tiny_trainer.trainer(tmp_path)
    loss = trainer.forward(0)
    ctx = OccamContext(0, loss, step=False, **trainer.context_fields(0))
    trainer.backward(ctx)
    next(trainer.model.parameters()).grad.fill_(math.inf)
    assert not math.isfinite(trainer.measure_gradients(ctx))
    assert trainer.finish_batch(ctx).applied.cause == NONFINITE_GRADIENT


def test_skipped_step_has_no_gradients_to_measure(tmp_path):
    """Nothing is computed before the last micro-batch either."""
    trainer = tiny_trainer.trainer(tmp_path)
    loss = trainer.forward(0)
    ctx = OccamContext(0, loss, updated=False, **trainer.context_fields(0))
    trainer.backward(ctx)
    assert trainer.measure_gradients(ctx) is None


@pytest.mark.parametrize("name", SETTINGS)
def test_groups_keep_the_ratio_of_their_learning_rates(tmp_path, name):
    """The knob scales all of them, also after a rate of zero."""
    trainer = tiny_trainer.trainer(tmp_path, *SETTINGS[name])
    ratios = [1.0, 3.0, 0.5][: len(trainer.optimizer.param_groups)]
    for group, ratio in zip(trainer.optimizer.param_groups, ratios, strict=True):
        group["lr"] = trainer.settings.learning_rate * ratio
    for number, rate in enumerate((1e-3, 0.0, 2e-4)):
        _, result = step(trainer, number, measure=True, learning_rate=rate)
        assert result.applied.learning_rates == pytest.approx([rate * ratio for ratio in ratios], rel=1e-12)


def train(folder, plugin, *overrides):
    """Train with the loop of train.py. Return the trainer and the contexts that end a step."""
    module = tiny_trainer.load_train_module()
    trainer = tiny_trainer.trainer(folder, *overrides)
    with (
        Run(plugins=[plugin], runs=folder / "runs", run_id="a", facts=trainer.facts()) as run,
        module.nano.ProgressLine(0, 40, 1, quiet=True) as progress,
    ):
        assert module.train(run, trainer, 0, progress, lambda: False)[0] == "COMPLETED"
    folder = RunFolder(folder / "runs", "a")
    assert verify_run(folder).sound
    assert replay_run(folder, trust=True).identical
    contexts = [event["data"] for event in events(folder) if event["data"].get("hook") == "batch"]
    last = trainer.settings.gradient_accumulation_steps - 1
    return trainer, [data for data in contexts if data["micro_step"] == last]


@pytest.mark.parametrize("micro_steps", [1, 3])
@pytest.mark.parametrize("skips", [False, True])
def test_train_py_carries_out_verdicts_on_gradients(tmp_path, micro_steps, skips):
    """Whether it stepped, the rate and the clipped norm are as decided."""
    torch.manual_seed(0)
    overrides = ("max_iters=12", f"gradient_accumulation_steps={micro_steps}")
    _, contexts = train(tmp_path, OnGradients(skips=skips), *overrides)
    taken = 0
    for data in contexts:
        applied, turn = data["applied"], data["iter_num"] % 4
        if "gradients" not in data or turn == 1:
            assert applied["updated"] is False
            assert applied["weights_changed"] is False
            continue
        taken += 1
        knobs = {**data["given"], **data["left"]}
        assert applied["updated"] is True
        assert applied["learning_rates"][0] == pytest.approx(knobs["learning_rate"], rel=1e-12)
        if turn == 3:
            assert applied["clipped_grad_norm"] == pytest.approx(data["measured"]["grad_norm"] / 2, rel=1e-3)
    assert taken >= 6


def test_train_py_with_the_plugin_in_shadow_is_bit_equal_to_no_plugin(tmp_path):
    """The hook is run after the step, on the same norm."""
    results = []
    for name, plugin in (("shadow", OnGradients()), ("plain", EachThird())):
        (tmp_path / name).mkdir()
        plugin.shadow = True
        results.append(train(tmp_path / name, plugin, "max_iters=6"))
    (shadowed, contexts), (plain, _) = results
    assert all("gradients" in data for data in contexts)
    first, second = (tiny_trainer.weights(trainer.model) for trainer in (shadowed, plain))
    assert tiny_trainer.weights_equal(first, second)
