"""Low-rank adapter on named layers (LoRA): y = W x + B A x, with W frozen, and A and B trained.

Hu et al. 2021, arXiv 2106.09685, with their scale alpha/rank at 1. B starts at 0, so enabling the adapter
changes nothing at first.

peft has the same function, but requires transformers, accelerate and huggingface_hub, which the trainer does
not need otherwise. Disabling the adapter puts the unchanged layers back. This takes one attribute assignment
per layer, whatever the size of the layers.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from ockham.errors import BadInputError, suggest_name


class LoRALinear(nn.Module):
    """Linear layer with two additional low-rank matrices. `inner` is the original layer and is frozen."""

    def __init__(self, inner: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        bound = 1.0 / math.sqrt(inner.in_features)
        a = torch.empty(rank, inner.in_features).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a.to(inner.weight))
        self.b = nn.Parameter(torch.zeros_like(inner.weight[:, :1]).repeat(1, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        out: torch.Tensor = self.inner(x) + F.linear(F.linear(x, self.a), self.b)
        return out

    def merged(self) -> torch.Tensor:
        """Return W + B A, shape (out, in)."""
        return (self.inner.weight + self.b @ self.a).detach()


class LoRAAdapter:
    """Adapter of one model. Creating it freezes the model and enables the adapter.

    Args:
        model: All of its parameters are frozen.
        patterns: Names of linear layers, with wildcards: `h.2.*`, `h.*.attn.c_attn`.
        rank: Rank of B A.
        seed: Seed of A.

    Raises:
        BadInputError: If a pattern matches no linear layer, or the rank exceeds a layer's width.

    """

    def __init__(self, model: nn.Module, patterns: Sequence[str], rank: int, seed: int) -> None:
        linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        for pattern in patterns:
            if not fnmatch.filter(linear, pattern):
                raise BadInputError(
                    f"--lora {pattern!r}: no linear layer of that name{suggest_name(pattern, linear)}"
                )
        self.model = model
        self.rank = rank
        self.layers = [n for n in linear if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
        max_rank = min(min(linear[name].weight.shape) for name in self.layers)
        if not 1 <= rank <= max_rank:
            raise BadInputError(
                f"--rank {rank}: out of range; accepted: 1 to {max_rank}, the width of the narrowest layer"
            )
        self.model_params = sum(parameter.numel() for parameter in model.parameters())
        model.requires_grad_(requires_grad=False)
        generator = torch.Generator().manual_seed(seed)
        self._adapters = {name: LoRALinear(linear[name], rank, generator) for name in self.layers}
        self.enable()

    @property
    def added_params(self) -> int:
        """Number of added parameters, all of which are trained."""
        return sum(adapter.a.numel() + adapter.b.numel() for adapter in self._adapters.values())

    def enable(self) -> None:
        """Enable the adapter."""
        for name, adapter in self._adapters.items():
            self._set(name, adapter)

    def disable(self) -> float:
        """Disable the adapter by restoring the original layers. Return the seconds taken."""
        start = time.perf_counter()
        for name, adapter in self._adapters.items():
            self._set(name, adapter.inner)
        return time.perf_counter() - start

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """Context manager in which the model is a plain one that computes the same, with weights W + B A."""
        weights = {name: adapter.inner.weight.data for name, adapter in self._adapters.items()}
        self.disable()
        try:
            for adapter in self._adapters.values():
                adapter.inner.weight.data = adapter.merged()
            yield
        finally:
            for name, adapter in self._adapters.items():
                adapter.inner.weight.data = weights[name]
            self.enable()

    def _set(self, name: str, layer: nn.Module) -> None:
        parent, _, attribute = name.rpartition(".")
        setattr(self.model.get_submodule(parent), attribute, layer)
