"""Settings of the trainer, and model sizes by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from ockham.errors import BadInputError
from ockham.nano.data_order import NO_RANGES, AfterRollback, parse_ranges
from ockham.nano.recipe import require_gpt2_architecture

# The log contains numbers that every JSON reader reads exactly.
MAX_WHOLE_NUMBER = 2**53 - 1
MODEL_SIZES: Mapping[str, Mapping[str, Any]] = {
    "demo": {"max_iters": 1_200},
    "nano": {},
    "micro": {
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 384,
        "block_size": 256,
        "batch_size": 64,
        "dropout": 0.2,
        "max_iters": 5_000,
    },
    "gpt2": {
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "block_size": 1024,
        "batch_size": 0,
        "gradient_accumulation_steps": 0,
        "examples_per_step": 480,
        "vocab_multiple": 64,
        "learning_rate": 6e-4,
        "min_lr": 6e-5,
        "warmup_iters": 2_000,
        "max_iters": 600_000,
        "beta2": 0.95,
        "eval_batches": 100,
    },
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the trainer. Decisions about batches are configured in the policy.

    Attributes:
        size: Name of the size from which the other settings started.
        n_layer: Transformer blocks.
        n_head: Attention heads in each block.
        n_embd: Width, a multiple of n_head.
        block_size: Context length in tokens.
        dropout: Fraction of activations that are dropped, 0 to 1.
        bias: Biases in Linear and LayerNorm, as in GPT-2.
        gelu: `exact`, or `tanh`, the approximation that GPT-2's weights were trained with.
        vocab_size: Number of tokens. 0 uses the vocabulary of the data.
        vocab_multiple: The model's vocabulary is padded to a multiple of this number, which is faster on
            matrix units. 1 does not pad.
        batch_size: Examples in a micro-batch. 0 uses examples_per_step / gradient_accumulation_steps. If that
            is 0 too, as many as fit into a GPU's memory, or 12 without a GPU. The result is recorded.
        gradient_accumulation_steps: Micro-batches in an optimizer step. 0 uses examples_per_step /
            batch_size.
        examples_per_step: Examples in an optimizer step of a rank, if one of the two above is 0.
        max_iters: Optimizer steps of the schedule.
        learning_rate: Learning rate after warm-up.
        min_lr: Learning rate at the end of the cosine.
        warmup_iters: Steps of linear warm-up. At most a tenth of the run is used.
        lr_decay_iters: End of the cosine. 0 uses max_iters.
        weight_decay: Weight decay of matrices, as in nanoGPT.
        beta1: Parameter of AdamW.
        beta2: Parameter of AdamW.
        grad_clip: Maximum L2 norm of the gradient. The policy may set a lower one.
        eval_batches: Batches of one evaluation, the same each time.
        checkpoint_every: Steps between resumable checkpoints. 0 uses state_every, or a fifth of the run.
        state_every: Steps between saved states to which a rollback returns. They are resumable checkpoints. 0
            returns to the anchor.
        keep_states: Number of saved states that are kept, next to the newest two resumable checkpoints.
            Without states, the number of resumable checkpoints.
        skip_data: Positions in the data that are not read, such as `120:140` (120 to 139), several separated
            by commas. Later rows are read in their place. `none` skips nothing.
        after_rollback: Rows after a rollback. `skip_data` never reads the rows between the restored state and
            the rollback again, `repeat` reads them again.
        seed: Seed of weights, batches, dropout and plugins.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` is bfloat16 on CUDA from Ampere on, and float32 elsewhere.
        compile: Use torch.compile. `auto` uses it on CUDA if Triton is installed.
        attention: Preferred kernel on CUDA: `cudnn`, `flash`, or `auto`, which prefers cuDNN from Hopper on.
        threads: CPU threads of torch. 0 uses the number of idle cores at the start.
        optimizer: `adamw`, or `muon` for the hidden matrices and AdamW for the rest.
        norm: `layer` or `rms`. This setting and the next five are explained in `ockham.nano.recipe`.
        positions: `learned` or `rotary`.
        qk_norm: Normalise queries and keys to RMS 1.
        activation: `gelu` or `relu2`.
        zero_init: Initialise the projections into the residual with 0.
        logit_softcap: Logits stay within +-cap. 0 sets no cap.
        parallel: On several ranks, `ddp` copies the model to each, `fsdp` shards it.
        rank_timeout: Seconds that a rank waits for the others before it ends the run.
        init_from: Hugging Face folder of a GPT-2 with the initial weights. It defines the architecture.
        init_sha256: Digest that these weights must have. Empty accepts any, and is filled in.

    """

    size: str = "nano"
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    block_size: int = 64
    dropout: float = 0.0
    bias: bool = False
    gelu: Literal["exact", "tanh"] = "exact"
    vocab_size: int = 0
    vocab_multiple: int = 1
    batch_size: int = 12
    gradient_accumulation_steps: int = 1
    examples_per_step: int = 12
    max_iters: int = 2_000
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_iters: int = 100
    lr_decay_iters: int = 0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0
    eval_batches: int = 10
    checkpoint_every: int = 0
    state_every: int = 0
    keep_states: int = 2
    skip_data: str = NO_RANGES
    after_rollback: AfterRollback = "skip_data"
    seed: int = 1337
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "yes", "no"] = "auto"
    attention: Literal["auto", "cudnn", "flash"] = "auto"
    threads: int = 0
    optimizer: Literal["adamw", "muon"] = "adamw"
    norm: Literal["layer", "rms"] = "layer"
    positions: Literal["learned", "rotary"] = "learned"
    qk_norm: bool = False
    activation: Literal["gelu", "relu2"] = "gelu"
    zero_init: bool = False
    logit_softcap: float = 0.0
    parallel: Literal["ddp", "fsdp"] = "ddp"
    rank_timeout: float = 600.0
    init_from: str = ""
    init_sha256: str = ""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and abs(value) > MAX_WHOLE_NUMBER:
                digits = len(str(abs(value)))
                raise BadInputError(
                    f"setting {name} has at most 2^53 - 1 as its magnitude, got a number with {digits} digits"
                )
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise BadInputError(f"setting {name} must be greater than 0, got {getattr(self, name)!r}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise BadInputError(f"setting {name} must not be negative, got {getattr(self, name)!r}")
        if self.n_embd % self.n_head:
            raise BadInputError(f"setting n_embd={self.n_embd} must be a multiple of n_head={self.n_head}")
        if not self.dropout < 1:
            raise BadInputError(f"setting dropout must be below 1, got {self.dropout!r}")
        if self.positions == "rotary" and self.n_embd // self.n_head % 2:
            raise BadInputError(
                f"setting positions=rotary requires an even n_embd/n_head, got {self.n_embd // self.n_head}"
            )
        parse_ranges(self.skip_data)
        if self.init_from:
            require_gpt2_architecture(self, f"init_from={self.init_from!r}")

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of one micro-batch."""
        return self.batch_size * self.block_size

    @property
    def effective_warmup_iters(self) -> int:
        """Warm-up steps in use. A short run warms up for a tenth of its steps."""
        return min(self.warmup_iters, self.max_iters // 10)

    def learning_rate_at(self, iter_num: int) -> float:
        """Return the learning rate of a step: linear warm-up, then cosine down to `min_lr`, as in nanoGPT."""
        end = self.lr_decay_iters or self.max_iters
        if iter_num < self.effective_warmup_iters:
            return self.learning_rate * (iter_num + 1) / (self.effective_warmup_iters + 1)
        if iter_num > end:
            return self.min_lr
        progress = (iter_num - self.effective_warmup_iters) / max(1, end - self.effective_warmup_iters)
        return self.min_lr + 0.5 * (1.0 + math.cos(math.pi * progress)) * (self.learning_rate - self.min_lr)


_POSITIVE = (
    "n_layer",
    "n_head",
    "n_embd",
    "block_size",
    "examples_per_step",
    "vocab_multiple",
    "max_iters",
    "learning_rate",
    "grad_clip",
    "eval_batches",
    "rank_timeout",
    "keep_states",
)
_NOT_NEGATIVE = (
    "batch_size",
    "gradient_accumulation_steps",
    "dropout",
    "vocab_size",
    "min_lr",
    "warmup_iters",
    "lr_decay_iters",
    "weight_decay",
    "beta1",
    "beta2",
    "checkpoint_every",
    "state_every",
    "seed",
    "threads",
    "logit_softcap",
)
