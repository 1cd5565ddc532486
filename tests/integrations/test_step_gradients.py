"""Gradients of a step: the same clipping as torch's, with a norm that is known or measured."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ockham.integrations.step_gradients import StepGradients


def make_parameters(seed: int = 0):
    """Return three parameters, two of them with gradients."""
    torch.manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,), (2, 2))]
    for parameter in parameters[:2]:
        parameter.grad = torch.randn_like(parameter)
    return parameters


@given(limit=st.floats(1e-3, 1e3) | st.just(math.inf), seed=st.integers(0, 99), known=st.booleans())
def test_clipped_gradients_equal_those_of_torch(limit, seed, known):
    """A norm that was measured before is used, and changes nothing."""
    ours, theirs = make_parameters(seed), make_parameters(seed)
    gradients = StepGradients(ours)
    norm = gradients.clip(limit, gradients.norm() if known else None)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit)
    assert norm == pytest.approx(float(expected))
    for parameter, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)
    assert ours[2].grad is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, False),
        (lambda p: p[0].grad.add_(0.0), True),
        (lambda p: setattr(p[2], "grad", torch.zeros(2, 2)), True),
        (lambda p: setattr(p[1], "grad", None), True),
    ],
    ids=["none", "added", "created", "removed"],
)
def test_change_of_any_gradient_is_noticed(change, expected):
    """Also if the values stay equal. Without `expect_no_change` nothing is unexpected."""
    parameters = make_parameters()
    gradients = StepGradients(parameters)
    change(parameters)
    assert not gradients.has_unexpected_change()
    parameters = make_parameters()
    gradients = StepGradients(parameters)
    gradients.expect_no_change()
    change(parameters)
    assert gradients.has_unexpected_change() == expected
    assert not gradients.has_unexpected_change()


def test_scaled_gradients_have_the_scaled_norm():
    """The known norm is scaled too."""
    parameters = make_parameters()
    gradients = StepGradients(parameters)
    before = gradients.norm()
    after = gradients.scale(4.0, before)
    assert float(after) == pytest.approx(float(gradients.norm()))
    assert gradients.scale(1.0, None) is None
