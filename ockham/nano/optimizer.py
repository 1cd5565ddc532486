"""AdamW with nanoGPT's parameter groups, optionally with Muon; non-finite gradients are refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ockham.errors import BadInputError

# Key of a parameter group: its learning rate divided by that of the first group.
RATE_RATIO = "rate_ratio"


class MuonAdamW:
    """Muon for the hidden matrices and AdamW for embeddings, head and gains, used as one optimizer.

    Both store their state in one mapping by parameter. Muon orthogonalises each matrix's momentum (Jordan et
    al. 2024) and scales it to the RMS of an AdamW update (Liu et al. 2025). So one learning rate and one
    weight decay fit both.
    """

    def __init__(self, adamw: torch.optim.AdamW, muon: torch.optim.Optimizer) -> None:
        self.parts = (adamw, muon)
        self.state = muon.state = adamw.state
        self.param_groups = [*adamw.param_groups, *muon.param_groups]
        # Muon has no `found_inf`, so this is not a fused optimizer.
        self.defaults: dict[str, Any] = {}

    def step(self) -> None:
        """Take a step with both."""
        for part in self.parts:
            part.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Clear the gradients of both."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


AnyOptimizer = torch.optim.AdamW | MuonAdamW


def make_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    kind: str = "adamw",
) -> AnyOptimizer:
    """Create a fused AdamW, or Muon and AdamW.

    Weight decay applies to matrices and embeddings, not to gains and biases.

    Raises:
        BadInputError: If this torch has no Muon.

    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    hidden = [p for name, p in named if kind == "muon" and name.startswith("h.") and p.dim() == 2]
    hidden_ids = {id(parameter) for parameter in hidden}
    rest = [parameter for _, parameter in named if id(parameter) not in hidden_ids]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = {parameter.device.type for parameter in rest} <= {"cpu", "cuda"}
    adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused or None)
    if kind != "muon":
        return adamw
    if not hasattr(torch.optim, "Muon"):
        raise BadInputError(
            f"optimizer=muon: torch {torch.__version__} has no Muon; "
            "use torch 2.9 or newer, or optimizer=adamw"
        )
    muon = torch.optim.Muon(
        hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return MuonAdamW(adamw, muon)


def measure_norm(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """Return the L2 norm of the gradients, a scalar on the device. It is sharded if they are."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients, foreach=True)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, norm: torch.Tensor) -> None:
    """Scale gradients of a measured L2 norm to at most *limit*."""
    nn.utils.clip_grads_with_norm_(list(parameters), limit, norm, foreach=True)


def set_learning_rate(optimizer: AnyOptimizer, learning_rate: float) -> None:
    """Set the learning rate of the next step: that of the first group, and the others in proportion.

    The proportion is that of the groups before the first call.
    """
    first = float(optimizer.param_groups[0]["lr"])
    for group in optimizer.param_groups:
        ratio = group.setdefault(RATE_RATIO, float(group["lr"]) / first if first else 1.0)
        group["lr"] = learning_rate * ratio


def step_if_finite(optimizer: AnyOptimizer, norm: torch.Tensor) -> None:
    """Take a step unless the gradient's norm is not finite. Weights and moments then stay as they are.

    The fused kernel decides on the device (`found_inf`, as GradScaler uses it), so that nothing waits. The
    unfused step and Muon have no such input, so the host reads the norm.
    """
    refused = (~torch.isfinite(norm)).float()
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults.get("fused"):
        # torch's fused step reads this attribute.
        optimizer.found_inf = refused  # type: ignore[attr-defined]
        optimizer.step()
    elif not refused.item():
        optimizer.step()


def add_noise(parameters: Iterable[nn.Parameter], std: float, seed: int, iter_num: int) -> None:
    """Add normal noise of *std* times each gradient's RMS. It depends only on seed and iteration."""
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
