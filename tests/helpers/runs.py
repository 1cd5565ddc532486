"""Synthetic runs through `ockham.Run` with a real chain and a real log, without torch."""

from __future__ import annotations

import math
import random
from pathlib import Path

from ockham.record.checkpoints import CheckpointFiles
from ockham.run import Run


def pack(metadata, state):
    return CheckpointFiles({"weights.bin": b"w" * 10}, "ab" * 32)


def make_run(runs: Path, run_id: str = "a", batches: int = 120, *, nan_at: int = -1, **kwargs) -> Run:
    """Write a run whose loss falls from 5 to 2 with noise.

    Every tenth batch is followed by an evaluation. Requested consolidations are recorded.
    """
    draw = random.Random(7)
    facts = {"max_iters": batches, "vocab_size": 256, "model_params": 1000, "warmup_iters": 10, "seed": 7}
    kwargs = {"policy": "balanced", "data": {"name": "made", "sha256": "0" * 64}, **kwargs}
    with Run(runs=runs, run_id=run_id, facts=facts, **kwargs) as run:
        for i in range(batches):
            loss = math.nan if i == nan_at else 2 + 3 * math.exp(-i / 40) + draw.gauss(0, 0.2)
            rows = {"position": i, "indices": [2 * i, 2 * i + 1], "digest": f"{i:032x}"}
            ctx = run.start_batch(i, loss, data=rows, learning_rate=1e-3, anchor_available=i > 12)
            drift = 0.002 * (i % 30)
            gauges = {"grad_norm": draw.uniform(0.3, 2.0), "complexity_cost": drift, "drift_raw": drift}
            if ctx.updated and run.acts_on_gradients:
                run.gradients(ctx, grad_norm=gauges["grad_norm"])
            run.end_batch(
                ctx,
                stepped=ctx.updated and ctx.step,
                seconds={"forward": 0.01},
                **(gauges if ctx.updated else {}),
            )
            if i % 10 == 9 or ctx.consolidating:
                run.evaluate(ctx, 2 + 3 * math.exp(-i / 40), tokens=100)
                if ctx.accepted:
                    run.save_checkpoint(ctx, "accepted", pack)
                if ctx.consolidating:
                    run.record_consolidation(ctx, drift=0.05)
    return run
