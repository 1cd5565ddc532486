"""Steps of a gradient scaler for float16."""

from __future__ import annotations

import pytest
import torch

from ockham.integrations.loss_scaler import unscale


@pytest.mark.parametrize("calls", [1, 2])
def test_gradients_are_unscaled_once_per_step(calls):
    """The loop may have unscaled them before, such as for its own clipping."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale((weight * torch.tensor([2.0, 4.0])).sum()).backward()
        for _ in range(calls):
            unscale(scaler, optimizer)
        assert weight.grad.tolist() == [2.0, 4.0]
        scaler.step(optimizer)
        scaler.update()
    assert weight.tolist() == [-1.0, -3.0]
