"""Gradients of one optimizer step: norm, scale, noise, clipping, and a check of skipped batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ockham.nano.dtensor import to_full
from ockham.nano.optimizer import add_noise

# Added to the norm by torch before it divides by it.
EPSILON = 1e-6


class StepGradients:
    """Gradients of the trained parameters. They accumulate over the micro-batches of a step.

    Args:
        parameters: The trained parameters.

    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._versions: tuple[int, ...] | None = None

    def expect_no_change(self) -> None:
        """Note the present gradients. The backward pass of a skipped batch must not change them."""
        self._versions = self._read_versions()

    def has_unexpected_change(self) -> bool:
        """Return True if gradients have changed since `expect_no_change`. The note is removed."""
        versions, self._versions = self._versions, None
        return versions is not None and versions != self._read_versions()

    def norm(self) -> torch.Tensor:
        """Return the L2 norm, a scalar on the device."""
        return to_full(nn.utils.get_total_norm(self._tensors()))

    def scale(self, factor: float, norm: torch.Tensor | None) -> torch.Tensor | None:
        """Multiply the gradients. Return their norm, if it was known before."""
        torch._foreach_mul_(self._tensors(), factor)
        return None if norm is None else norm * factor

    def add_noise(self, std: float, seed: int, iter_num: int) -> None:
        """Add normal noise of *std* times each gradient's RMS."""
        add_noise(self._parameters, std, seed, iter_num)

    @torch.no_grad()
    def clip(self, limit: float, norm: torch.Tensor | None = None) -> float:
        """Scale the gradients to an L2 norm of at most *limit*. Return the norm before.

        Args:
            limit: Largest norm.
            norm: Norm of the present gradients if it is known. None measures it.

        """
        if norm is None:
            norm = self.norm()
        value = float(norm)
        if value > limit:
            torch._foreach_mul_(self._tensors(), (limit / (norm + EPSILON)).clamp(max=1.0))
        return value

    def _tensors(self) -> list[torch.Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _read_versions(self) -> tuple[int, ...]:
        """Return for each gradient a number that changes with every write. 0 without a gradient."""
        return tuple(
            0 if parameter.grad is None else (id(parameter.grad) << 32) + parameter.grad._version
            for parameter in self._parameters
        )
