"""GPT as in nanoGPT: learned positions, pre-LN blocks, tied embedding and head, GPT-2's initialisation.

Architecture: Radford et al. 2019 (GPT-2). Initialisation: normal(0, 0.02), residual projections scaled by
1/sqrt(2 n_layer). At equal configuration the loss curve equals nanoGPT's. `ockham.nano.recipe` lists the
options that change it.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from ockham.nano.config import Settings
from ockham.nano.recipe import ArchitectureOptions, architecture_options

GPT2 = ArchitectureOptions()


class LayerNorm(nn.Module):
    """LayerNorm over the last dimension, with or without bias."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., width) to (..., width)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class RMSNorm(nn.Module):
    """Scales to a root mean square of 1 over the last dimension. It has no parameters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., width) to (..., width)."""
        return F.rms_norm(x, (x.shape[-1],), eps=1e-5)


class Attention(nn.Module):
    """Causal self-attention with torch's fused kernel."""

    def __init__(self, width: int, heads: int, dropout: float, *, bias: bool, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = RMSNorm() if qk_norm else None
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor, rope: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, time, width) to (batch, time, width).

        Args:
            x: Activations.
            rope: Table from `rope_table` for rotary positions. None for learned positions.

        """
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        if self.norm is not None:
            q, k = self.norm(q), self.norm(k)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q.type_as(v), k.type_as(v), v, dropout_p=dropout, is_causal=True
        )
        out = self.c_proj(mixed.transpose(1, 2).contiguous().view(batch, time, width))
        return F.dropout(out, self.dropout, self.training)


class MLP(nn.Module):
    """Two layers, four times as wide inside, with GELU (exact or tanh approximation) or ReLU squared."""

    def __init__(
        self, width: int, dropout: float, *, bias: bool, gelu: str = "exact", activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.approximate = "tanh" if gelu == "tanh" else "none"
        self.squared = activation == "relu2"
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, width) to (batch, time, width)."""
        x = self.c_fc(x)
        x = F.relu(x).square() if self.squared else F.gelu(x, approximate=self.approximate)
        return F.dropout(self.c_proj(x), self.dropout, self.training)


class Block(nn.Module):
    """Attention and MLP, each with a norm before it and a residual connection around it."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        bias: bool,
        gelu: str = "exact",
        options: ArchitectureOptions = GPT2,
    ) -> None:
        super().__init__()
        self.ln_1 = _norm(width, options, bias=bias)
        self.ln_2 = _norm(width, options, bias=bias)
        self.attn = Attention(width, heads, dropout, bias=bias, qk_norm=options.qk_norm)
        self.mlp = MLP(width, dropout, bias=bias, gelu=gelu, activation=options.activation)

    def forward(self, x: torch.Tensor, rope: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, time, width) to (batch, time, width)."""
        x = x + self.attn(self.ln_1(x), rope)
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT(nn.Module):
    """The model. `forward(idx)` returns logits, `loss` and `example_losses` return losses."""

    def __init__(
        self,
        *,
        vocab_size: int,
        block_size: int,
        n_layer: int,
        n_head: int,
        n_embd: int,
        dropout: float = 0.0,
        bias: bool = False,
        gelu: str = "exact",
        options: ArchitectureOptions = GPT2,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.block_size = block_size
        self.n_layer = n_layer
        self.n_embd = n_embd
        self.dropout = dropout
        self.logit_softcap = options.logit_softcap
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd) if options.positions == "learned" else None
        self.rope: torch.Tensor | None
        table = rope_table(block_size, n_embd // n_head) if options.positions == "rotary" else None
        self.register_buffer("rope", table, persistent=False)
        self.h = nn.ModuleList(
            Block(n_embd, n_head, dropout, bias=bias, gelu=gelu, options=options) for _ in range(n_layer)
        )
        self.ln_f = _norm(n_embd, options, bias=bias)
        self.apply(_initialise)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.0 if options.zero_init else 0.02 / math.sqrt(2 * n_layer))

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        """Map (batch, time) int64 to logits (batch, time, vocab)."""
        time = idx.shape[1]
        x = self.wte(idx)
        if self.wpe is not None:
            x = x + self.wpe(torch.arange(time, device=idx.device))
        x = F.dropout(x, self.dropout, self.training)
        rope = None if self.rope is None else self.rope[:, :time]
        for block in self.h:
            x = block(x, rope)
        logits: torch.Tensor = F.linear(self.ln_f(x), self.wte.weight)
        if self.logit_softcap > 0:
            logits = self.logit_softcap * torch.tanh(logits / self.logit_softcap)
        return logits

    def loss(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy in nats per token, a scalar."""
        return F.cross_entropy(self(idx).flatten(0, 1), targets.flatten())

    def example_losses(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of each example in nats per token, shape (batch,)."""
        losses = F.cross_entropy(self(idx).flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape).mean(dim=1)

    def num_params(self) -> int:
        """Return the number of parameters. The tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def megabytes(self) -> float:
        """Return the size of the weights in units of 1e6 bytes."""
        return sum(p.numel() * p.element_size() for p in self.parameters()) / 1e6

    def inference_flops(self, tokens: int) -> float:
        """Return the FLOPs of a forward pass over *tokens* in one context.

        2 per parameter and token, and the two products of attention: 2N + 2 n_layer n_ctx d_attn per token
        (Kaplan et al. 2020, appendix B). Positions cost nothing, the head does.
        """
        matrices = self.num_params() - (0 if self.wpe is None else self.wpe.weight.numel())
        return float(tokens * (2 * matrices + 4 * self.n_layer * tokens * self.n_embd))

    def training_flops(self, tokens: int) -> float:
        """Return the FLOPs of training on *tokens* in contexts of `block_size`, as in nanoGPT.

        6N + 12 n_layer n_embd T per token (Chowdhery et al. 2022, appendix B), with N without positions. The
        forward pass is a third of it.
        """
        matrices = self.num_params() - (0 if self.wpe is None else self.wpe.weight.numel())
        return float(tokens * (6 * matrices + 12 * self.n_layer * self.n_embd * self.block_size))


def pad_vocab_size(vocab_size: int, multiple: int) -> int:
    """Return the vocabulary size rounded up to a multiple.

    The added tokens cost memory and FLOPs, which are counted, and do not change the loss.
    """
    return -(-vocab_size // multiple) * multiple


def build_model(settings: Settings, vocab_size: int) -> GPT:
    """Create the model of the trainer's settings, with initial weights."""
    return GPT(
        vocab_size=vocab_size,
        block_size=settings.block_size,
        n_layer=settings.n_layer,
        n_head=settings.n_head,
        n_embd=settings.n_embd,
        dropout=settings.dropout,
        bias=settings.bias,
        gelu=settings.gelu,
        options=architecture_options(settings),
    )


def rope_table(time: int, size: int, base: float = 10_000.0) -> torch.Tensor:
    """Return cosines and sines of each position and pair, shape (2, time, size / 2): Su et al.

    2021, equation 34.
    """
    pairs = base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.outer(torch.arange(time, dtype=torch.float32), pairs)
    return torch.stack((angles.cos(), angles.sin()))


def apply_rope(x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
    """Rotate each pair (i, i + size / 2) of (batch, heads, time, size) by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = rope
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def _norm(width: int, options: ArchitectureOptions, *, bias: bool) -> nn.Module:
    return RMSNorm() if options.norm == "rms" else LayerNorm(width, bias=bias)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
