"""Metrics of an optimizer step: what a step that was not taken reports."""

from __future__ import annotations

import math

import pytest
import torch

from ockham.nano.step_metrics import PendingStepMetrics


@pytest.mark.parametrize(
    ("norm", "is_refused", "kl"), [(0.5, False, 0.25), (math.nan, False, None), (0.5, True, None)]
)
def test_kl_is_reported_only_for_a_step_that_was_taken(norm, is_refused, kl):
    """The weights of a refused step are those of the step before, whose KL was not due."""
    taken = []
    values = [torch.tensor(norm), torch.tensor(norm)]
    step = PendingStepMetrics(
        *values, None, torch.tensor(0.25), None, (0.1,), taken.append, is_refused=is_refused
    ).result()
    assert step.gauges["kl_to_anchor"] == kl
    assert taken == [kl is not None] == [step.applied.stepped]
