"""Size of a micro-batch: as many examples as fit into the device's memory, for the same tokens per step.

Large micro-batches use a GPU well. Their number changes neither the tokens of a step nor its gradient, apart
from rounding. The estimate is arithmetic with a reserve, and the result is recorded in the run's settings.
"""

from __future__ import annotations

from dataclasses import replace

from ockham.errors import BadInputError
from ockham.nano.config import Settings
from ockham.nano.model import GPT

# nanoGPT's.
CPU_BATCH_SIZE = 12
# Larger batches do not increase GPU utilisation.
MAX_BATCH_SIZE = 64
# The rest of the memory is a reserve for gaps of the allocator and for the evaluation.
MEMORY_FRACTION = 0.8
# Float32 weights, gradients, two moments and an anchor, and a bfloat16 copy.
BYTES_PER_PARAMETER = 22
# Per token, layer and column, stored for the backward pass in bfloat16.
BYTES_PER_ACTIVATION = 40
# Bfloat16 logits and their gradient, and a part in float32.
BYTES_PER_LOGIT = 6


def resolve_batch_size(settings: Settings, model: GPT, memory: int | None) -> Settings:
    """Return the settings with `batch_size` and `gradient_accumulation_steps` filled in where they are 0.

    Args:
        settings: `examples_per_step` defines how many examples a step has.
        model: Its parameters and vocabulary take part of the memory.
        memory: Memory of the device in bytes. None if it is not a GPU.

    Raises:
        BadInputError: If the examples of a step are not a multiple of the micro-batch.

    """
    examples = settings.examples_per_step
    batch_size = settings.batch_size or _choose_batch_size(settings, model, memory)
    micro_steps = settings.gradient_accumulation_steps or examples // batch_size
    is_derived = 0 in (settings.batch_size, settings.gradient_accumulation_steps)
    if is_derived and batch_size * micro_steps != examples:
        divisors = [str(n) for n in range(1, MAX_BATCH_SIZE + 1) if examples % n == 0]
        raise BadInputError(
            f"examples_per_step={examples}: not a multiple of batch_size={batch_size}; "
            f"accepted are its divisors, such as {', '.join(divisors)}"
        )
    return replace(settings, batch_size=batch_size, gradient_accumulation_steps=micro_steps)


def _choose_batch_size(settings: Settings, model: GPT, memory: int | None) -> int:
    """Return the batch size that the accumulation steps imply, or the largest divisor that fits."""
    examples = settings.examples_per_step
    if settings.gradient_accumulation_steps:
        return examples // settings.gradient_accumulation_steps
    limit = CPU_BATCH_SIZE if memory is None else _max_examples(settings, model, memory)
    return max(n for n in range(1, examples + 1) if n <= limit and examples % n == 0)


def _max_examples(settings: Settings, model: GPT, memory: int) -> int:
    """Return the number of examples that fit into memory in addition to the weights, at least one."""
    token_bytes = (
        BYTES_PER_LOGIT * model.vocab_size + BYTES_PER_ACTIVATION * settings.n_layer * settings.n_embd
    )
    free_bytes = MEMORY_FRACTION * memory - BYTES_PER_PARAMETER * model.num_params()
    return max(1, min(MAX_BATCH_SIZE, int(free_bytes // (settings.block_size * token_bytes))))
