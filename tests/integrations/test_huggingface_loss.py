"""Loss of one micro-batch, computed from a loss that was divided by the tokens of the step or was not."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from ockham.integrations.huggingface_loss import LossScale


def make_scale(*, processes=1, is_scaled=None, compiled=False, accepts=True):
    """Return the scale of a Trainer with these attributes."""
    return LossScale(
        SimpleNamespace(
            args=SimpleNamespace(torch_compile=compiled, average_tokens_across_devices=True),
            model=SimpleNamespace(config=SimpleNamespace()),
            accelerator=SimpleNamespace(num_processes=processes),
            loss_is_scaled_for_ga=is_scaled,
            current_gradient_accumulation_steps=4,
            model_accepts_loss_kwargs=accepts,
            compute_loss_func=None,
        )
    )


def judge(scale, function, labels, step_items):
    """Return the loss of one micro-batch for a loss function of the sum and the number of tokens."""
    items = scale.count_items({"labels": labels}, torch.tensor(step_items))
    total = torch.full((), 3.0, requires_grad=True) * float((labels != -100).sum())
    with scale.watch(items):
        loss = function(total, items.step)
    return scale.micro_batch_loss(loss, items)


LOSSES = {
    "divided": (lambda total, items: total / items, 3.0),
    "divided, bounded": (lambda total, items: total / items.clamp(min=1) * 1.0, 3.0),
    "not divided": (lambda total, _: total * 0.0 + 5.0, 5.0),
    "with a term": (lambda total, items: total / items + 2.0, 5.0),
    "two quotients": (lambda total, items: 0.9 * (total / items) + 0.1 * total / (items * 2), 2.85),
    "converted": (lambda total, items: total / int(items), 3.0),
    "item": (lambda total, items: total / items.item(), 3.0),
}


@pytest.mark.parametrize("name", LOSSES)
@given(own=st.integers(1, 40), others=st.integers(0, 400), ignored=st.integers(0, 5))
def test_loss_of_a_micro_batch_does_not_depend_on_the_rest_of_the_step(name, own, others, ignored):
    """It is the loss of a step that has only this micro-batch."""
    function, expected = LOSSES[name]
    labels = torch.tensor([1] * own + [-100] * ignored)
    scale = make_scale()
    for _ in range(2):
        assert judge(scale, function, labels, own + others) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_number_of_a_whole_step_needs_no_gradient(name):
    """The Trainer's own number is passed on. A later step of several micro-batches is measured as before."""
    function, expected = LOSSES[name]
    labels, scale = torch.tensor([1] * 8 + [-100] * 3), make_scale()
    number = torch.tensor(8)
    items = scale.count_items({"labels": labels}, number)
    assert items.step is number
    assert scale.count_items({"labels": labels}, torch.tensor(9)).step.requires_grad
    for others in (0, 24, 0, 56):
        assert judge(scale, function, labels, 8 + others) == pytest.approx(expected)


MULTIPLIED = {
    "new loss": (lambda total, items: total / items * 2, 3.0),
    "in place": (lambda total, items: (total / items).mul_(2), 3.0),
    "not multiplied": (lambda total, items: total / items, 3.0),
    "with another term": (lambda total, items: total / items * 2 + 2.0, 5.0),
    "not divided": (lambda total, _: (total * 0.0 + 5.0) * 2, 5.0),
    "neither": (lambda total, _: total * 0.0 + 5.0, 5.0),
    "converted": (lambda total, items: total / int(items) * 2, 3.0),
}


@pytest.mark.parametrize("name", MULTIPLIED)
def test_loss_averaged_over_processes_is_divided_again(name):
    """The Trainer multiplies the loss by their number, also that of T5, which is not divided."""
    function, expected = MULTIPLIED[name]
    scale = make_scale(processes=2)
    for others in (24, 56):
        loss = judge(scale, function, torch.tensor([1.0] * 8), 8 + others)
        assert loss == pytest.approx(expected)


def test_loss_of_a_compiled_model_follows_the_statement_of_the_trainer():
    """No derivative is computed, because it would run the whole compiled backward pass."""
    labels = torch.ones(8)
    for accepts, expected in ((True, 3.0), (False, 0.75)):
        scale = make_scale(compiled=True, accepts=accepts)
        items = scale.count_items({"labels": labels}, torch.tensor(32))
        assert not items.step.requires_grad
        assert scale.micro_batch_loss(torch.tensor(24.0 / 32), items) == pytest.approx(expected)
    scale = make_scale(compiled=True, processes=2)
    items = scale.count_items({"labels": labels}, torch.tensor(32))
    assert scale.micro_batch_loss(torch.tensor(2 * 24.0 / 32), items) == pytest.approx(3.0)


@pytest.mark.parametrize(("is_scaled", "expected"), [(True, 8.0), (False, 2.0), (None, 2.0)])
def test_statement_of_a_trainer_without_token_count_is_used(is_scaled, expected):
    """TRL states whether its loss was divided by the number of micro-batches."""
    assert make_scale(is_scaled=is_scaled).micro_batch_loss(torch.tensor(2.0), None) == expected
