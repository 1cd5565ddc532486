"""Steps of a gradient scaler for float16."""

from __future__ import annotations

from typing import Any

import torch


def unwrap_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """Return the torch optimizer below the wrappers of Accelerate."""
    while (inner := getattr(optimizer, "optimizer", None)) is not None:
        optimizer = inner
    unwrapped: torch.optim.Optimizer = optimizer
    return unwrapped


def unscale(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    """Divide the gradients by the loss scale, unless that has been done for this step."""
    state = scaler._per_optimizer_states[id(optimizer)]
    if state["stage"].name == "READY":
        scaler.unscale_(optimizer)


def allow_empty_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    """Let a scaler take a step without gradients.

    A scaler expects that it has checked a gradient for overflow. After a skip it has checked nothing.
    """
    state = scaler._per_optimizer_states[id(optimizer)]
    if not state["found_inf_per_device"]:
        device = optimizer.param_groups[0]["params"][0].device
        state["found_inf_per_device"] = {device: torch.zeros((), device=device)}
