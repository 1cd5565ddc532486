"""Anchor weights: earlier weights from which drift is measured, and to which pull and projection lead back.

Relative drift is |theta - anchor| / |anchor| over the weight matrices. The gains of LayerNorm are left out:
they weigh more than all matrices of a small model and would hide them. Tied weights count once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import nn

from ockham.context import OccamContext
from ockham.errors import CheckpointError
from ockham.nano.data_order import DataAfterRollback
from ockham.nano.dtensor import distribute_like, from_local_like, to_local
from ockham.nano.optimizer import MuonAdamW


class Drift(NamedTuple):
    """Relative drift before and after the projection, and the squared distance after it."""

    raw: float
    after: float
    squared: float


class Rollback(NamedTuple):
    """Iteration of the anchor, the drift that was given up, the seconds taken, and the data read after it.

    `data` is None if the loop reads its data by itself.
    """

    iter_num: int
    drift: float
    seconds: float
    data: DataAfterRollback | None = None


class AnchorWeights:
    """Copies of all parameters, and predictions on a fixed probe.

    Args:
        model: Its present weights become the anchor.
        iter_num: Iteration of these weights.
        probe: Token windows (batch, time) on which KL is measured. None measures no KL.

    """

    def __init__(self, model: nn.Module, iter_num: int, probe: torch.Tensor | None = None) -> None:
        self.iter_num = iter_num
        self.probe = probe
        self._parameters = list(model.parameters())
        self._matrices = [parameter for parameter in self._parameters if parameter.dim() >= 2]
        self._copies = [to_local(parameter).detach().clone() for parameter in self._parameters]
        pairs = zip(self._parameters, self._copies, strict=True)
        self._matrix_copies = [copy for parameter, copy in pairs if parameter.dim() >= 2]
        self._on_cpu = self._copies[0].device.type == "cpu"
        self._scratch = _allocate_scratch(self._matrix_copies) if self._on_cpu else []
        self.norm = float(self._norm(self._matrix_copies))
        self._log_probs = None if probe is None else _log_probs(model, probe)

    @torch.no_grad()
    def differences(self) -> list[torch.Tensor]:
        """Return theta - anchor, one tensor per matrix."""
        return list(torch._foreach_sub(self._local_matrices(), self._matrix_copies))

    @torch.no_grad()
    def measure(self) -> Drift:
        """Return the drift of the present weights. Waits for the device."""
        return self.drift(float(self._distance()))

    def drift(
        self, distance: float, stepped: bool = True, *, strength: float = 0.0, ceiling: float = math.inf
    ) -> Drift:
        """Return the drift that results from `pull` at this distance.

        Args:
            distance: Absolute distance before the pull.
            stepped: False if the step was refused. Nothing was pulled in that case.
            strength: Strength of the pull, 0 to 1.
            ceiling: Maximum relative drift.

        """
        if not stepped:
            strength, ceiling = 0.0, math.inf
        remaining = self._remaining_fraction(distance, strength, ceiling)
        return Drift(
            raw=distance * (1.0 - strength) / self.norm,
            after=distance * remaining / self.norm,
            squared=(distance * remaining) ** 2,
        )

    def pull_for(
        self, ctx: OccamContext, pull_mode: str, stepped: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[float, bool], Drift]]:
        """Pull and project as the knobs of a context require.

        Args:
            ctx: Context of the step.
            pull_mode: Only `decoupled` pulls here. `coupled` changes the gradient (`add_penalty`).
            stepped: Whether the step was taken, a scalar on the device.

        Returns:
            The distance before the pull, and the function that computes the drift from this distance and
            from whether a step was taken.

        """
        strength = 2.0 * ctx.learning_rate * ctx.lambda_ockham if pull_mode == "decoupled" else 0.0
        distance = self.pull(strength, ctx.drift_ceiling, stepped)
        return distance, partial(self.drift, strength=strength, ceiling=ctx.drift_ceiling)

    @torch.no_grad()
    def pull(self, strength: float, ceiling: float, stepped: torch.Tensor) -> torch.Tensor:
        """Pull towards the anchor (theta -= strength * (theta - anchor)), then project to the ceiling.

        Both scale theta - anchor. They are applied together, by a factor that is computed on the device with
        the arithmetic of `drift`. Nothing waits for the host.

        Args:
            strength: Strength of the pull, 0 to 1.
            ceiling: Maximum relative drift.
            stepped: A truth value on the device. If it is false, no weight is changed.

        Returns:
            The distance before, as float64.

        """
        if self._on_cpu:
            return self._pull_on_host(strength, ceiling) if bool(stepped) else to_float64(self._distance())
        differences = self.differences()
        distance = to_float64(self._norm(differences))
        if strength == 0 and ceiling == math.inf:
            return distance
        raw = distance * (1.0 - strength) / self.norm
        projection = torch.where((raw > 0) & torch.isfinite(raw), ceiling / raw, 1.0).clamp(max=1.0)
        remaining = torch.where(stepped.to(raw.device), (1.0 - strength) * projection, 1.0)
        factor = (remaining - 1.0).to(differences[0].dtype).to(differences[0].device)
        torch._foreach_mul_(differences, factor)
        torch._foreach_add_(self._local_matrices(), differences)
        return distance

    @torch.no_grad()
    def add_penalty(self, strength: float) -> None:
        """Add the gradient of `strength * |theta - anchor|^2`, for the coupled form of the pull."""
        gradients = [to_local(p.grad) for p in self._matrices if p.grad is not None]
        if len(gradients) == len(self._matrices):
            torch._foreach_add_(gradients, self.differences(), alpha=2.0 * strength)

    @torch.no_grad()
    def restore(self) -> None:
        """Set the model's weights to the anchor's."""
        for parameter, copy in zip(self._parameters, self._copies, strict=True):
            to_local(parameter.data).copy_(copy)

    def roll_back(self, optimizer: torch.optim.Optimizer | MuonAdamW) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments."""
        started = time.perf_counter()
        drift = self.measure().after
        self.restore()
        optimizer.state.clear()
        return Rollback(max(0, self.iter_num), drift, time.perf_counter() - started)

    @torch.no_grad()
    def kl(self, model: nn.Module) -> torch.Tensor | None:
        """Return KL(anchor || current) on the probe, or None without a probe.

        It is the mean over tokens in nats, a scalar on the device.
        """
        if self.probe is None or self._log_probs is None:
            return None
        current = _log_probs(model, self.probe)
        return (self._log_probs.exp() * (self._log_probs - current)).sum(-1).mean()

    def state(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the anchor's parameters by name."""
        return {
            name: from_local_like(copy, parameter)
            for (name, parameter), copy in zip(model.named_parameters(), self._copies, strict=True)
        }

    @classmethod
    def from_state(
        cls, model: nn.Module, iter_num: int, probe: torch.Tensor | None, state: Mapping[str, torch.Tensor]
    ) -> Self:
        """Return the anchor of a checkpoint. The model's weights are the same afterwards.

        Raises:
            CheckpointError: If names or shapes differ from the model's.

        """
        current = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        copy_into(model, state)
        anchor = cls(model, iter_num, probe)
        copy_into(model, current)
        return anchor

    def _local_matrices(self) -> list[torch.Tensor]:
        return [to_local(parameter.data) for parameter in self._matrices]

    def _pull_on_host(self, strength: float, ceiling: float) -> torch.Tensor:
        """Pull each matrix while its difference is in the cache.

        The projection is a second pass over the matrices. It is rarely due.
        """
        distance = to_float64(self._pull_matrix_by_matrix(strength))
        raw = float(distance) * (1.0 - strength) / self.norm
        if math.isfinite(raw) and raw > ceiling:
            torch._foreach_lerp_(self._local_matrices(), self._matrix_copies, 1.0 - ceiling / raw)
        return distance

    def _remaining_fraction(self, distance: float, strength: float, ceiling: float) -> float:
        """Return the fraction of the distance that remains after pull and projection."""
        raw = distance * (1.0 - strength) / self.norm
        projection = ceiling / raw if raw > 0 and math.isfinite(raw) else 1.0
        return (1.0 - strength) * min(1.0, projection)

    def _distance(self) -> torch.Tensor:
        """Return |theta - anchor|."""
        return self._pull_matrix_by_matrix(0.0) if self._on_cpu else self._norm(self.differences())

    def _pull_matrix_by_matrix(self, strength: float) -> torch.Tensor:
        """Subtract *strength* times its difference from each matrix. Return the distance before.

        On a CPU this handles one matrix after the other, while it is in the cache. It takes half the time of
        `_foreach_sub`.
        """
        norms = []
        for parameter, copy, scratch in zip(self._matrices, self._matrix_copies, self._scratch, strict=True):
            weights = to_local(parameter.data)
            flat = torch.sub(weights, copy, out=scratch).view(-1)
            norms.append(torch.dot(flat, flat))
            if strength:
                weights.sub_(scratch, alpha=strength)
        return self._norm_of_norms(torch.stack(norms).sqrt_())

    def _norm(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return self._norm_of_norms(torch.stack(torch._foreach_norm(tensors)))

    def _norm_of_norms(self, norms: torch.Tensor) -> torch.Tensor:
        """Return the norm of several tensors from the norm of each."""
        norm: torch.Tensor = torch.linalg.vector_norm(norms)
        return norm


@torch.no_grad()
def copy_into(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the same name.

    Raises:
        CheckpointError: If a parameter is missing or has another shape. The message names the first one.

    """
    for name, parameter in model.named_parameters():
        if name not in state:
            raise CheckpointError(f"tensor {name!r} is missing; the checkpoint belongs to another model")
        if state[name].shape != parameter.shape:
            raise CheckpointError(
                f"tensor {name!r} has shape {tuple(state[name].shape)}; "
                f"the model expects {tuple(parameter.shape)}"
            )
        parameter.copy_(distribute_like(state[name], parameter))


def to_float64(value: torch.Tensor) -> torch.Tensor:
    """Return the value as float64, on the host if the device has no float64 (MPS)."""
    return (value.cpu() if value.device.type == "mps" else value).double()


def _allocate_scratch(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors of the same shapes that share one buffer per dtype. Only one may be in use at a time."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = max(sizes.get(tensor.dtype, 0), tensor.numel())
    buffers = {dtype: torch.empty(size, dtype=dtype) for dtype, size in sizes.items()}
    return [buffers[tensor.dtype][: tensor.numel()].view(tensor.shape) for tensor in tensors]


def _log_probs(model: nn.Module, probe: torch.Tensor) -> torch.Tensor:
    training = model.training
    model.eval()
    with torch.no_grad():
        result: torch.Tensor = torch.log_softmax(model(probe).float(), dim=-1)
    model.train(training)
    return result
