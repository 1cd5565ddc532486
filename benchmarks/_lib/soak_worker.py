"""One phase of the soak test: a process that continues a run with simulated losses.

    python -m benchmarks._lib.soak_worker RUNS RUN_ID UNTIL TOTAL

The chain and the log are real; torch is not used. After each 1,000 batches the process prints
`acknowledged ATTEMPT EVENTS ITERATION`, when these events are durable and signed. A kill must not lose them.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ockham

EVALUATION_INTERVAL = 2_000
CHECKPOINT_INTERVAL = 10_000
REPORT_INTERVAL = 1_000
DATA = {"name": "simulated", "sha256": "0" * 64}


def main(runs: Path, run_id: str, until: int, total: int) -> None:
    """Train from the newest checkpoint, or from the start, to iteration *until*."""
    start = ockham.find_resume_point(runs, run_id) if (runs / run_id).exists() else None
    facts = {
        "max_iters": total,
        "vocab_size": 256,
        "model_params": 1_000_000,
        "warmup_iters": total // 100,
        "seed": 7,
    }
    policy = None if start else "balanced"
    with ockham.Run(policy, runs=runs, run_id=run_id, facts=facts, data=DATA, resumed=start) as run:
        if start and start.path:
            run.load_state_dict(start.state["run"])
        for iter_num in range(start.iter_num if start else 0, until):
            ctx = run_batch(run, iter_num, total)
            if iter_num % CHECKPOINT_INTERVAL == CHECKPOINT_INTERVAL - 1 or iter_num == until - 1:
                run.save_checkpoint(ctx, "resume", pack)
            if iter_num % REPORT_INTERVAL == REPORT_INTERVAL - 1:
                print("acknowledged", run.attempt.number, run.flush().size, iter_num, flush=True)


def run_batch(run: ockham.Run, iter_num: int, total: int) -> ockham.OccamContext:
    """Run one batch. All values depend only on the iteration, so a resumed run gets the same values."""
    draw = random.Random(iter_num)
    expected_loss = 2 + 3 * math.exp(-8 * iter_num / total)
    ctx = run.start_batch(
        iter_num, expected_loss + draw.gauss(0, 0.2), learning_rate=1e-3, anchor_available=iter_num > 100
    )
    drift = 0.002 * (iter_num % 30)
    seconds = {"forward": 0.01, "backward": 0.02 * ctx.updated}
    run.end_batch(
        ctx, grad_norm=draw.uniform(0.3, 2.0), complexity_cost=drift, drift_raw=drift, seconds=seconds
    )
    if iter_num % EVALUATION_INTERVAL == EVALUATION_INTERVAL - 1 or ctx.consolidating:
        run.evaluate(ctx, expected_loss + draw.gauss(0, 0.01), tokens=10_000)
        if ctx.accepted:
            run.save_checkpoint(ctx, "accepted", pack)
        if ctx.consolidating:
            run.record_consolidation(ctx, drift=drift)
    return ctx


def pack(metadata: Mapping[str, Any], state: Mapping[str, Any] | None) -> ockham.CheckpointFiles:
    """Return 1 MB as weights, and the state of the run for resume checkpoints."""
    weights = json.dumps(metadata).encode().ljust(1_000_000, b"w")
    files = {"weights.bin": weights} | ({"state.json": json.dumps(state).encode()} if state else {})
    return ockham.CheckpointFiles(files, hashlib.sha256(weights).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
