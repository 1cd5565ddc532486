"""AdamW as nanoGPT groups it, and the norm that can refuse a step without a host read."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices and embeddings alone, not on gains and biases."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = {parameter.device.type for parameter in parameters} <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused or None)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
    """Scale gradients to an L2 norm of at most `limit`; returns the norm before, a scalar on the device."""
    return torch.nn.utils.clip_grad_norm_(list(parameters), limit, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def step_if_finite(optimizer: torch.optim.AdamW, norm: torch.Tensor) -> None:
    """Step, unless the gradient's norm is not finite: the fused kernel then leaves weights and moments alone.

    The device decides (`found_inf`, as GradScaler hands it over), so that nothing waits; the unfused step has no
    such input and asks the host.
    """
    refused = (~torch.isfinite(norm)).float()
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = refused  # type: ignore[attr-defined]  # read by torch's fused step
        optimizer.step()
    elif not refused.item():
        optimizer.step()


def add_noise(parameters: Iterable[nn.Parameter], std: float, seed: int, iter_num: int) -> None:
    """Add normal noise of `std` times each gradient's RMS, drawn from (seed, iter_num) alone."""
    generator: torch.Generator | None = None
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if generator is None:
            generator = torch.Generator(gradient.device)
            generator.manual_seed((seed << 32 | iter_num) & 0x7FFF_FFFF_FFFF_FFFF)
        noise = torch.empty_like(gradient).normal_(generator=generator)
        gradient.add_(noise * (std * gradient.square().mean().sqrt()))
