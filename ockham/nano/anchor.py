"""The anchor: earlier weights that drift is measured from, and that the pull and the projection lead back to.

Relative drift is |theta - anchor| / |anchor| over the weight matrices; the gains of LayerNorm alone weigh more than
all matrices of a small model and would hide them. Tied weights count once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import nn

from ockham.errors import CheckpointError
from ockham.nano.dtensor import distribute_like, from_local_like, to_local


class Drift(NamedTuple):
    """Relative drift before and after the projection, and the squared sum of the old formula after it."""

    raw: float
    after: float
    squared: float


class AnchorWeights:
    """Copies of the weight matrices, of the other parameters for a rollback, and predictions on a fixed probe.

    Args:
        model: its weights now are the anchor.
        probe: token windows (batch, time) on which KL is measured; None: KL is not measured.

    """

    def __init__(self, model: nn.Module, iter_num: int, probe: torch.Tensor | None = None) -> None:
        self.iter_num, self.probe = iter_num, probe
        self._parameters = list(model.parameters())
        self._matrices = [parameter for parameter in self._parameters if parameter.dim() >= 2]
        self._copies = [to_local(parameter).detach().clone() for parameter in self._parameters]
        self._anchored = [c for p, c in zip(self._parameters, self._copies, strict=True) if p.dim() >= 2]
        self._on_cpu = self._copies[0].device.type == "cpu"
        self._scratch = _shared_scratch(self._anchored) if self._on_cpu else []
        self.norm = float(self._norm(self._anchored))
        self._log_probs = None if probe is None else _log_probs(model, probe)

    @torch.no_grad()
    def differences(self) -> list[torch.Tensor]:
        """Theta - anchor, a tensor for each matrix."""
        return list(torch._foreach_sub([to_local(p.data) for p in self._matrices], self._anchored))

    @torch.no_grad()
    def measure(self) -> Drift:
        """Drift of the present weights; waits for the device."""
        return self.drift(float(self._distance()))

    def drift(
        self, distance: float, stepped: bool = True, *, strength: float = 0.0, ceiling: float = math.inf
    ) -> Drift:
        """What `pull` did at this distance, in plain numbers; nothing where no step was taken."""
        if not stepped:
            strength, ceiling = 0.0, math.inf
        kept = self._remaining_fraction(distance, strength, ceiling)
        return Drift(
            distance * (1.0 - strength) / self.norm, distance * kept / self.norm, (distance * kept) ** 2
        )

    @torch.no_grad()
    def pull(self, strength: float, ceiling: float, stepped: torch.Tensor) -> torch.Tensor:
        """Pull towards the anchor (theta -= strength * (theta - anchor)), then project to the ceiling.

        Both scale theta - anchor, so they are applied as one, by a factor that is computed where the weights lie, in the
        arithmetic of `drift`: nothing waits for the host. Returns the distance before, float64.

        Args:
            strength: 0 to 1.
            ceiling: largest relative drift.
            stepped: one truth value on the device; where it is false no weight is touched.

        """
        if self._on_cpu:
            return self._pull_on_host(strength, ceiling) if bool(stepped) else to_float64(self._distance())
        differences = self.differences()
        distance = to_float64(self._norm(differences))
        if strength == 0 and ceiling == math.inf:
            return distance
        raw = distance * (1.0 - strength) / self.norm
        over = torch.where((raw > 0) & torch.isfinite(raw), ceiling / raw, 1.0).clamp(max=1.0)
        kept = torch.where(stepped.to(raw.device), (1.0 - strength) * over, 1.0)
        factor = (kept - 1.0).to(differences[0].dtype).to(differences[0].device)
        torch._foreach_mul_(differences, factor)
        torch._foreach_add_([to_local(p.data) for p in self._matrices], differences)
        return distance

    @torch.no_grad()
    def add_penalty(self, strength: float) -> None:
        """Add the gradient of `strength * |theta - anchor|^2`, for the coupled form of the old formula."""
        gradients = [to_local(p.grad) for p in self._matrices if p.grad is not None]
        if len(gradients) == len(self._matrices):
            torch._foreach_add_(gradients, self.differences(), alpha=2.0 * strength)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the model back to the anchor."""
        for parameter, copy in zip(self._parameters, self._copies, strict=True):
            to_local(parameter.data).copy_(copy)

    @torch.no_grad()
    def kl(self, model: nn.Module) -> torch.Tensor | None:
        """KL(anchor || current) on the probe, mean over tokens, nats, a scalar on the device; None without a probe."""
        if self.probe is None or self._log_probs is None:
            return None
        current = _log_probs(model, self.probe)
        return (self._log_probs.exp() * (self._log_probs - current)).sum(-1).mean()

    def state(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """The anchor's parameters by name."""
        return {
            name: from_local_like(copy, parameter)
            for (name, parameter), copy in zip(model.named_parameters(), self._copies, strict=True)
        }

    def _pull_on_host(self, strength: float, ceiling: float) -> torch.Tensor:
        """Each matrix is pulled while its difference is in the cache; the projection, rarely due, is a sweep of its own."""
        distance = to_float64(self._pull_matrix_by_matrix(strength))
        raw = float(distance) * (1.0 - strength) / self.norm
        if math.isfinite(raw) and raw > ceiling:
            torch._foreach_lerp_(
                [to_local(p.data) for p in self._matrices], self._anchored, 1.0 - ceiling / raw
            )
        return distance

    def _remaining_fraction(self, distance: float, strength: float, ceiling: float) -> float:
        """What pull and projection leave of the distance, a share."""
        raw = distance * (1.0 - strength) / self.norm
        return (1.0 - strength) * min(1.0, ceiling / raw if raw > 0 and math.isfinite(raw) else 1.0)

    def _distance(self) -> torch.Tensor:
        """|theta - anchor|."""
        return self._pull_matrix_by_matrix(0.0) if self._on_cpu else self._norm(self.differences())

    def _pull_matrix_by_matrix(self, pull: float) -> torch.Tensor:
        """Take `pull` times the difference from each matrix; returns the distance before.

        On a CPU, one matrix after the other, while it is in the cache: half of foreach's time.
        """
        squares = []
        for parameter, anchored, apart in zip(self._matrices, self._anchored, self._scratch, strict=True):
            weights = to_local(parameter.data)
            flat = torch.sub(weights, anchored, out=apart).view(-1)
            squares.append(torch.dot(flat, flat))
            if pull:
                weights.sub_(apart, alpha=pull)
        return self._norm_of_norms(torch.stack(squares).sqrt_())

    def _norm(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return self._norm_of_norms(torch.stack(torch._foreach_norm(tensors)))

    def _norm_of_norms(self, norms: torch.Tensor) -> torch.Tensor:
        """The norm of what has these norms."""
        joined: torch.Tensor = torch.linalg.vector_norm(norms)
        return joined

    @classmethod
    def from_state(
        cls, model: nn.Module, iter_num: int, probe: torch.Tensor | None, state: Mapping[str, torch.Tensor]
    ) -> Self:
        """The anchor of a checkpoint; the model's weights are put aside for it and come back.

        Raises:
            CheckpointError: if names or shapes are not the model's.

        """
        now = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        copy_into(model, state)
        anchor = cls(model, iter_num, probe)
        copy_into(model, now)
        return anchor


@torch.no_grad()
def copy_into(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the same name.

    Raises:
        CheckpointError: naming the first parameter that is missing or of another shape.

    """
    for name, parameter in model.named_parameters():
        if name not in state:
            raise CheckpointError(f"the checkpoint has no {name!r}; it belongs to another model")
        if state[name].shape != parameter.shape:
            raise CheckpointError(
                f"{name!r} is {tuple(state[name].shape)} in the checkpoint and {tuple(parameter.shape)} in the model"
            )
        parameter.copy_(distribute_like(state[name], parameter))


def _shared_scratch(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors of these shapes in one piece of memory for each dtype, which is enough where only one is in use at a time."""
    most: dict[torch.dtype, int] = {}
    for tensor in tensors:
        most[tensor.dtype] = max(most.get(tensor.dtype, 0), tensor.numel())
    room = {dtype: torch.empty(size, dtype=dtype) for dtype, size in most.items()}
    return [room[tensor.dtype][: tensor.numel()].view(tensor.shape) for tensor in tensors]


def to_float64(value: torch.Tensor) -> torch.Tensor:
    """A float64 of it, on the host where the device has none (MPS)."""
    return (value.cpu() if value.device.type == "mps" else value).double()


def _log_probs(model: nn.Module, probe: torch.Tensor) -> torch.Tensor:
    training = model.training
    model.eval()
    with torch.no_grad():
        result: torch.Tensor = torch.log_softmax(model(probe).float(), dim=-1)
    model.train(training)
    return result
