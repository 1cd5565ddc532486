"""Batches of a loop with manual optimization, whose step has several micro-batches."""

from __future__ import annotations

import pytest
import torch

import ockham
from ockham.integrations.manual_batches import ManualBatches

# Micro-batches that the plugin skips.
SKIPPED = {(0, 1), (1, 0), (1, 1)}


class Skip(ockham.OccamPlugin):
    """Skips some micro-batches, and gives the others a limit of their own."""

    name = "skip"

    def on_batch_start(self, ctx):
        """Skip, or clip to 0.25."""
        if (ctx.iter_num, ctx.micro_step) in SKIPPED:
            ctx.updated = False
            return ctx.decide("SKIP", "LISTED")
        ctx.grad_clip = 0.25
        return ctx.decide("CLAMP", "NOT_LISTED")


@pytest.fixture
def steps(tmp_path):
    """Train three steps of two micro-batches. Return for each batch: updated, takes step, norm, weight."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    rows = []
    with ockham.Run(plugins=[Skip()], runs=tmp_path, run_id="a", facts={"max_iters": 3}) as run:
        batches = ManualBatches(run, [optimizer])
        for _ in range(6):
            with batches.batch(2.0, micro_steps=2) as batch:
                if batch.updated:
                    (weight * 4.0).sum().backward()
                if batch.takes_step:
                    batch.clip_gradients([weight])
                    optimizer.step()
                    optimizer.zero_grad()
            rows.append((batch.updated, batch.takes_step, batch.gauges.get("grad_norm"), weight.item()))
        batches.close()
    return rows


def test_step_has_the_limit_of_its_last_accepted_batch(steps):
    """The last micro-batch was skipped, and its own limit is higher."""
    assert steps[:2] == [(True, False, None, 0.0), (False, True, 4.0, pytest.approx(-0.25))]


def test_step_without_an_accepted_batch_is_not_taken(steps):
    """An accepted batch of the step before does not count."""
    assert [(updated, takes_step) for updated, takes_step, *_ in steps[2:4]] == [(False, False)] * 2
    assert steps[3][3] == steps[1][3]


def test_step_adds_the_gradients_of_its_accepted_batches(steps):
    """Both micro-batches of the last step were accepted."""
    assert steps[5] == (True, True, 8.0, pytest.approx(-0.5))
