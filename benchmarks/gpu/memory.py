"""Peak memory of a training step by micro-batch, compared with the estimate of `ockham.nano.batch_size`."""

from __future__ import annotations

import gc

import torch

from benchmarks.gpu.training import Bench, make_trainer, peak_memory_mb, stop_after, train_without_run
from ockham.errors import BadInputError
from ockham.nano import Trainer
from ockham.nano.batch_size import BYTES_PER_ACTIVATION, BYTES_PER_LOGIT, BYTES_PER_PARAMETER

STEPS = 2


def measure(bench: Bench) -> None:
    """Train two steps with an anchor for each micro-batch that has no result yet."""
    for micro in bench.plan.memory_micros:
        row = f"micro-batch {micro}"
        if bench.results.find("memory", row) is not None:
            continue
        try:
            bench.results.append("memory", row, **_measure_one(bench, micro))
        except (torch.OutOfMemoryError, BadInputError) as error:
            if isinstance(error, BadInputError) and not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            bench.results.append("memory", row, **{"peak MB": "out of memory"})
        gc.collect()
        torch.compiler.reset()
        if bench.plan.device == "cuda":
            torch.cuda.empty_cache()


def _measure_one(bench: Bench, micro: int) -> dict[str, float]:
    trainer = make_trainer(bench, bench.settings(micro, micro))
    peak_memory_mb(reset=True)
    trainer.move_anchor(-1)
    train_without_run(trainer, 0, stop_after(STEPS - 1, lambda *_: None))
    return {"peak MB": peak_memory_mb(), "estimated MB": _estimate_mb(trainer)}


def _estimate_mb(trainer: Trainer) -> float:
    settings, model = trainer.settings, trainer.model
    token = BYTES_PER_LOGIT * model.vocab_size + BYTES_PER_ACTIVATION * settings.n_layer * settings.n_embd
    return (BYTES_PER_PARAMETER * model.num_params() + settings.tokens_per_batch * token) / 1e6
