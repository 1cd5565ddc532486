"""A low-rank adapter on named layers (LoRA): y = W x + B A x, W frozen, A and B trained.

Hu et al. 2021, arXiv 2106.09685; with their scale alpha/rank at 1, B starts at 0, so putting it on changes nothing.

Our own, and these few lines: peft does the same, and wants transformers, accelerate and huggingface_hub for it, which
nothing else of the trainer wants. Taking the adapter off is putting the layers back that were never touched, so it
takes as long as setting an attribute for each of them, whatever their size.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from ockham.errors import BadInputError, suggest_name


class LoRALinear(nn.Module):
    """A linear layer with two thin matrices beside it; `inner` is the layer itself and is frozen."""

    def __init__(self, inner: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        bound = 1.0 / math.sqrt(inner.in_features)
        a = torch.empty(rank, inner.in_features).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a.to(inner.weight))
        self.b = nn.Parameter(torch.zeros_like(inner.weight[:, :1]).repeat(1, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        out: torch.Tensor = self.inner(x) + F.linear(F.linear(x, self.a), self.b)
        return out

    def merged(self) -> torch.Tensor:
        """W + B A, shape (out, in)."""
        return (self.inner.weight + self.b @ self.a).detach()


class LoRAAdapter:
    """The adapter of one model; making it freezes the model and puts it on.

    Args:
        model: every parameter of it is frozen.
        patterns: names of linear layers, with wildcards: `h.2.*`, `h.*.attn.c_attn`.
        rank: of B A.
        seed: of A.

    Raises:
        BadInputError: if a pattern matches no linear layer, or the rank is more than a layer has.

    """

    def __init__(self, model: nn.Module, patterns: Sequence[str], rank: int, seed: int) -> None:
        linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        for pattern in patterns:
            if not fnmatch.filter(linear, pattern):
                raise BadInputError(
                    f"--lora: no linear layer is called {pattern!r}{suggest_name(pattern, linear)}"
                )
        self.model, self.rank = model, rank
        self.layers = [n for n in linear if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
        max_rank = min(min(linear[name].weight.shape) for name in self.layers)
        if not 1 <= rank <= max_rank:
            raise BadInputError(f"--rank lies in 1..{max_rank}, the narrowest of the layers, got {rank}")
        self.model_params = sum(parameter.numel() for parameter in model.parameters())
        model.requires_grad_(requires_grad=False)
        generator = torch.Generator().manual_seed(seed)
        self._low = {name: LoRALinear(linear[name], rank, generator) for name in self.layers}
        self.enable()

    @property
    def added_params(self) -> int:
        """Parameters that were added, all of them trained."""
        return sum(low.a.numel() + low.b.numel() for low in self._low.values())

    def enable(self) -> None:
        """Compute with the adapter."""
        for name, low in self._low.items():
            self._set(name, low)

    def disable(self) -> float:
        """Compute without the adapter, by the layers from before; returns the seconds that it took."""
        began = time.perf_counter()
        for name, low in self._low.items():
            self._set(name, low.inner)
        return time.perf_counter() - began

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """The model as a plain one that computes the same: W + B A in the place of W, the adapter off."""
        kept = {name: low.inner.weight.data for name, low in self._low.items()}
        self.disable()
        try:
            for low in self._low.values():
                low.inner.weight.data = low.merged()
            yield
        finally:
            for name, low in self._low.items():
                low.inner.weight.data = kept[name]
            self.enable()

    def _set(self, name: str, layer: nn.Module) -> None:
        parent, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(parent), own, layer)
