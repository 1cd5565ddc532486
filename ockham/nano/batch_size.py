"""How many examples a micro-batch holds: as many as the device's memory takes, for the same tokens a step.

Large micro-batches keep a GPU busy; how many there are changes neither the tokens of a step nor, but for rounding, its
gradient. The estimate is arithmetic, with room to spare, and what was chosen stands in the run's settings.
"""

from __future__ import annotations

from dataclasses import replace

from ockham.errors import BadInputError
from ockham.nano.config import Settings
from ockham.nano.model import GPT

CPU_BATCH_SIZE = 12  # nanoGPT's
MAX_BATCH_SIZE = 64  # beyond this a GPU is no busier
MEMORY_FRACTION = 0.8  # of the memory; the rest is for the allocator's gaps and the evaluation
BYTES_PER_PARAMETER = 22  # float32 weights, gradients, two moments and an anchor; a bfloat16 copy
BYTES_PER_ACTIVATION = 40  # for each token, layer and column, kept for the backward in bfloat16
BYTES_PER_LOGIT = 6  # bfloat16 logits and their gradient, and a part in float32


def resolve_batch_size(settings: Settings, model: GPT, memory: int | None) -> Settings:
    """The settings with `batch_size` and `gradient_accumulation_steps` filled in where they are 0.

    Args:
        settings: 0 means: as it fits; `examples_per_step` says how many examples a step has.
        model: whose parameters and vocabulary take their part.
        memory: of the device in bytes; None: not a GPU.

    Raises:
        BadInputError: if the examples of a step are no multiple of the micro-batch.

    """
    s = settings
    examples = s.examples_per_step
    batch = s.batch_size
    if not batch:
        of_step = examples // (s.gradient_accumulation_steps or 1)
        fits = CPU_BATCH_SIZE if memory is None else _max_examples(s, model, memory)
        accumulated = s.gradient_accumulation_steps > 0
        batch = (
            of_step
            if accumulated
            else max(n for n in range(1, examples + 1) if n <= fits and examples % n == 0)
        )
    steps = s.gradient_accumulation_steps or examples // batch
    if 0 in (s.batch_size, s.gradient_accumulation_steps) and batch * steps != examples:
        raise BadInputError(
            f"examples_per_step={examples} is no multiple of batch_size={batch}: accepted are its divisors, such as "
            + ", ".join(str(n) for n in range(1, examples + 1) if examples % n == 0 and n <= MAX_BATCH_SIZE)
        )
    return replace(s, batch_size=batch, gradient_accumulation_steps=steps)


def _max_examples(s: Settings, model: GPT, memory: int) -> int:
    """Examples that fit beside the weights, at least one."""
    each = s.block_size * (BYTES_PER_LOGIT * model.vocab_size + BYTES_PER_ACTIVATION * s.n_layer * s.n_embd)
    return max(
        1,
        min(
            MAX_BATCH_SIZE, int((MEMORY_FRACTION * memory - BYTES_PER_PARAMETER * model.num_params()) // each)
        ),
    )
