"""Runs with recorded stage times, for figures of saved compute."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ockham.run import Run

DATA = {"name": "made", "sha256": "0" * 64}


def write_run(
    folder: Path,
    run_id: str,
    policy: str,
    *,
    batches: int = 60,
    floor: float = 2.0,
    data: dict[str, Any] = DATA,
    slowdown: float = 1.0,
    tokens: int = 100,
) -> Run:
    """Write a run with stage times. Its validation loss falls from *floor* + 1 towards *floor*.

    Args:
        folder: Folder of runs.
        run_id: ID of the run.
        policy: Preset.
        batches: Number of batches. Every tenth one is followed by an evaluation.
        floor: Limit of the validation loss.
        data: Name and digest of the data.
        slowdown: Factor of all stage times.
        tokens: Tokens of each batch.

    """
    draw = random.Random(run_id)
    facts = {"max_iters": batches, "vocab_size": 256, "model_params": 1000, "seed": 7}
    with Run(policy, runs=folder, run_id=run_id, facts=facts, data=data) as run:
        for i in range(batches):
            loss = 3 - 0.01 * i + draw.gauss(0, 0.2)
            ctx = run.start_batch(i, loss, learning_rate=1e-3, tokens_seen=(i + 1) * tokens)
            seconds = {"forward": 0.01 * draw.uniform(0.9, 1.1) * slowdown}
            if ctx.updated:
                seconds |= {"backward": 0.02 * draw.uniform(0.9, 1.1) * slowdown, "optimizer": 0.005}
            run.end_batch(ctx, stepped=ctx.updated and ctx.step, seconds=seconds)
            if i % 10 == 9:
                run.evaluate(ctx, floor + 1 / (1 + i / 10), tokens=100)
    return run
