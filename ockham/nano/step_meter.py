"""Step meter: measures at the optimizer and the weights whether a step was taken, and how.

The optimizer's own hooks report the learning rates at the moment of the step and whether there was a
gradient. A sample of the weights shows a change that no hook reports, such as a step of another optimizer. On
a GPU every read waits for the device.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ockham.applied_step import AppliedStep
from ockham.errors import BadInputError
from ockham.nano.dtensor import is_sharded, to_full, to_local
from ockham.nano.optimizer import AnyOptimizer, MuonAdamW

# Sampled values as bytes.
Snapshot = bytes | torch.Tensor | None
# Tensors and elements of the sample. Every optimizer with decay or moments changes all of them.
SAMPLE_TENSORS = 4
SAMPLE_ELEMENTS = 64


class StepMeter:
    """Hooks on optimizers, and a sample of their weights.

    Args:
        optimizers: The optimizers whose steps are measured, also inside a wrapper of Accelerate or Lightning.
        parameters: Weights that are sampled. None takes those of the optimizers that require a gradient.
        measure_norm: Measure the norm of the gradient at the moment of the step. It costs one pass over the
            gradients.
        samples_once: Sample the weights only at the end of a batch, and compare with the batch before. A
            change between two batches is then noted with the later one.

    Raises:
        BadInputError: If an object is not a torch optimizer.

    """

    def __init__(
        self,
        *optimizers: torch.optim.Optimizer,
        parameters: Iterable[nn.Parameter] | None = None,
        measure_norm: bool = False,
        samples_once: bool = False,
    ) -> None:
        optimizers = tuple(map(unwrap_optimizer, optimizers))
        for optimizer in optimizers:
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise BadInputError(
                    f"{optimizer!r:.80} is not a torch.optim.Optimizer; only those are measured"
                )
        self.optimizers = optimizers
        self.measure_norm = measure_norm
        self.samples_once = samples_once
        chosen = _trained_parameters(optimizers) if parameters is None else parameters
        self._sample = WeightSample(_choose_sample(list(chosen)))
        self._before: Snapshot = None
        self._rates: tuple[float, ...] = ()
        self._stepped = False
        self._norm: torch.Tensor | None = None
        # After the step, because a closure may compute the gradients during it.
        self._hooks = [optimizer.register_step_post_hook(self._after_step) for optimizer in optimizers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scheduled_learning_rate(self) -> float:
        """Return the present learning rate of the first parameter group."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    @contextlib.contextmanager
    def scaled_learning_rates(self, learning_rate: float) -> Iterator[None]:
        """Context manager in which the first group has this learning rate, and the others in proportion.

        Afterwards each group has its scheduled learning rate again, because schedulers continue from it.

        Args:
            learning_rate: Learning rate of the first group. If its scheduled rate is 0, nothing changes.

        """
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        scheduled = [group["lr"] for group in groups]
        first = float(scheduled[0])
        if first not in (0.0, learning_rate):
            for group in groups:
                group["lr"] = group["lr"] * (learning_rate / first)
        try:
            yield
        finally:
            for group, rate in zip(groups, scheduled, strict=True):
                group["lr"] = rate

    def start(self) -> None:
        """Start a measurement: forget earlier steps and sample the weights."""
        self._rates, self._stepped, self._norm = (), False, None
        if self._before is None or not self.samples_once:
            self._before = self._sample.snapshot()

    def read(self, cause: str = "") -> AppliedStep:
        """Return what happened since `start`. Waits for the device.

        Args:
            cause: Known cause for a step that was not taken, as a stable code.

        """
        changed = None
        if self._before is not None:
            after = self._sample.snapshot()
            changed = _differ(self._before, after)
            self._before = after if self.samples_once else self._before
        norm = None if self._norm is None else float(self._norm)
        return AppliedStep(self._stepped, self._rates, norm, changed, "" if self._stepped else cause)

    def checksum(self, *, replicated: bool = False) -> str | None:
        """Return the `weights_checksum` of the optimizers' weights. Waits for the device once.

        Args:
            replicated: Leave out sharded weights, because every rank holds another part of them.

        Returns:
            32 hexadecimal digits. None if there are no such weights.

        """
        groups = (group["params"] for each in self.optimizers for group in each.param_groups)
        parameters = [p for group in groups for p in group if not (replicated and is_sharded(p))]
        return weights_checksum(parameters) if parameters else None

    def close(self) -> None:
        """Remove the hooks from the optimizers. Calling it again has no effect."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = (
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        )
        first = next(gradients, None)
        if first is None:
            return
        self._stepped = True
        self._rates = tuple(float(group["lr"]) for each in self.optimizers for group in each.param_groups)
        if self.measure_norm:
            self._norm = _total_norm([first, *gradients])


class StepProbe:
    """Measurements of the trainer's own optimizer that never wait for the device.

    Args:
        optimizer: An optimizer, or `MuonAdamW`.

    """

    def __init__(self, optimizer: AnyOptimizer) -> None:
        self.optimizer = optimizer
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._sampled = _choose_sample(parameters)
        self._sample = WeightSample(self._sampled)
        self._before = torch.empty(0)
        self._rates: tuple[float, ...] = ()
        for part in optimizer.parts if isinstance(optimizer, MuonAdamW) else (optimizer,):
            part.register_step_pre_hook(self._before_step)

    def start(self) -> None:
        """Sample the weights before a batch."""
        self._before = self._sample.copy()

    def change(self) -> torch.Tensor:
        """Return whether the sample has changed since `start`, a scalar on the device."""
        return (self._before != self._sample.copy()).any()

    def take_learning_rates(self) -> tuple[float, ...]:
        """Return the learning rates at the last step, and forget them."""
        rates, self._rates = self._rates, ()
        return rates

    @torch.no_grad()
    def sampled_norm(self) -> torch.Tensor:
        """Return the norm of a sample of the gradient in float64, a scalar on the device."""
        parts = [
            to_local(parameter.grad).reshape(-1)[:SAMPLE_ELEMENTS].double()
            for parameter in self._sampled
            if parameter.grad is not None
        ]
        norm: torch.Tensor = torch.linalg.vector_norm(torch.cat(parts)) if parts else torch.tensor(math.nan)
        return norm

    def _before_step(self, *_: Any) -> None:
        self._rates = tuple(float(group["lr"]) for group in self.optimizer.param_groups)


def unwrap_optimizer(optimizer: Any) -> Any:
    """Return the torch optimizer below the wrappers of Accelerate and Lightning.

    They have the class of an optimizer without its hooks.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


class WeightSample:
    """The first `SAMPLE_ELEMENTS` values of some tensors.

    Args:
        parameters: The tensors.

    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = parameters
        self._pointers: list[int] = []
        self._views: list[torch.Tensor] = []
        # The same memory. Copying it by numpy costs a tenth of a call of torch.
        self._arrays: list[np.ndarray] = []

    @torch.no_grad()
    def copy(self) -> torch.Tensor:
        """Return the values as bytes on their device. NaN equals itself in bytes."""
        if not self._parameters:
            return torch.empty(0, dtype=torch.uint8)
        self._find_views()
        return torch.cat(self._views)

    def snapshot(self) -> Snapshot:
        """Return the values for a comparison: bytes on the CPU, else a tensor. None without tensors."""
        if not self._parameters:
            return None
        self._find_views()
        return b"".join([array.tobytes() for array in self._arrays]) if self._arrays else self.copy()

    @torch.no_grad()
    def _find_views(self) -> None:
        local = [to_local(parameter) for parameter in self._parameters]
        # Views of the storage are kept, because making them costs more than the copy.
        pointers = [tensor.data_ptr() for tensor in local]
        if pointers != self._pointers:
            self._pointers, self._views = pointers, [_first_bytes(tensor) for tensor in local]
            is_on_cpu = all(view.device.type == "cpu" for view in self._views)
            self._arrays = [view.numpy() for view in self._views] if is_on_cpu else []


def _differ(before: Snapshot, after: Snapshot) -> bool | None:
    """Return whether two snapshots differ. None if the weights moved to another device between them."""
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        return not torch.equal(before, after)
    return before != after if isinstance(before, bytes) and isinstance(after, bytes) else None


def _first_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the first values in memory as bytes, a view on the storage."""
    return tensor.detach().as_strided((min(tensor.numel(), SAMPLE_ELEMENTS),), (1,)).view(torch.uint8)


@torch.no_grad()
def weights_checksum(parameters: Iterable[torch.Tensor]) -> str:
    """Return 32 hexadecimal digits that depend on every bit of the weights. Waits for the device once.

    The bits of each tensor are summed as integers. It is a checksum against mistakes, not against attacks.
    """
    sums = [_integer_sum(to_local(parameter.detach())) for parameter in parameters]
    if not sums:
        return hashlib.blake2b(b"", digest_size=16).hexdigest()
    values = torch.stack([value.to(sums[0].device) for value in sums]).cpu()
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()


def _total_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the L2 norm of all ranks' parts. Every rank must call this if a gradient is sharded."""
    sharded = [gradient for gradient in gradients if is_sharded(gradient)]
    local = [to_local(gradient) for gradient in gradients if not is_sharded(gradient)]
    norms = [to_full(nn.utils.get_total_norm(tensors)) for tensors in (sharded, local) if tensors]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _integer_sum(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(_INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)


def _trained_parameters(optimizers: Iterable[torch.optim.Optimizer]) -> Iterable[nn.Parameter]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            yield from (parameter for parameter in group["params"] if parameter.requires_grad)


def _choose_sample(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Return evenly spread tensors, the first and the last among them, on the device of the first."""
    here = [p for p in parameters if p.numel() and p.device == parameters[0].device]
    if len(here) <= SAMPLE_TENSORS:
        return here
    last = len(here) - 1
    return [here[round(i * last / (SAMPLE_TENSORS - 1))] for i in range(SAMPLE_TENSORS)]
