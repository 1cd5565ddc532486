"""Two runs with all that named constraints measure: an adapter, a resume, NaN, rollbacks, clipping."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from ockham.applied_step import AppliedStep
from ockham.context import OccamContext
from ockham.record.checkpoints import find_resume_point
from ockham.run import Run
from tests.helpers.figure_runs import pack_state

BATCHES = 60
_FACTS = {
    "max_iters": BATCHES,
    "vocab_size": 256,
    "model_params": 1000,
    "warmup_iters": 4,
    "seed": 7,
    "inference_flops": 2e6,
    "inference_tokens": 8,
    "memory_footprint_mb": 2.0,
}
_LAYERS = {"layers": ["h.0"], "rank_of_adapter": 2, "added_params": 40, "model_params": 1000}


def make_constraint_runs(runs: Path, stop_at: int = BATCHES, **facts: Any) -> Path:
    """Write the runs `adapted`, which is resumed at iteration 30, and `frozen`, which ends earlier.

    Args:
        runs: Folder of runs.
        stop_at: Largest number of batches.
        facts: Facts that differ from the usual ones.

    """
    options = {"facts": {**_FACTS, **facts}}
    if stop_at > 41:
        _write(runs, "adapted", range(41), {**options, "policy": "balanced"}, checkpoint_at=29)
        options["resumed"] = find_resume_point(runs, "adapted")
        _write(runs, "adapted", range(30, stop_at), options)
        del options["resumed"]
    else:
        _write(runs, "adapted", range(stop_at), {**options, "policy": "balanced"})
    _write(runs, "frozen", range(min(50, stop_at)), {**options, "policy": "observe"})
    return runs


def _write(
    runs: Path, run_id: str, iterations: range, options: dict[str, Any], checkpoint_at: int | None = None
) -> None:
    with Run(runs=runs, run_id=run_id, **options) as run:
        start = options.get("resumed")
        if start is not None:
            run.load_state_dict(start.state["run"])
        for i in iterations:
            ctx = _step(run, i, adapts=run_id == "adapted")
            if i == checkpoint_at:
                run.save_checkpoint(ctx, "resume", lambda _, state: pack_state(state))


def _step(run: Run, i: int, *, adapts: bool) -> OccamContext:
    """Train one batch and return its context. An evaluation follows the first and every fifth one."""
    loss_factor = 0.9 if adapts else 1.0
    draw = random.Random(f"{adapts} {i}")
    loss = (
        math.nan
        if adapts and i in (20, 33)
        else loss_factor * (2 + 3 * math.exp(-i / 40)) + draw.gauss(0, 0.2)
    )
    ctx = run.start_batch(i, loss, learning_rate=1e-3, anchor_available=i > 8)
    norm = draw.uniform(0.3, 2.0)
    gauges = {"grad_norm": norm, "complexity_cost": draw.uniform(0, 0.01), "drift_raw": 0.002}
    applied = AppliedStep(ctx.updated, clipped_grad_norm=min(norm, 1.0) if ctx.updated else None)
    seconds = {"forward": draw.uniform(0.9, 1.1)}
    if ctx.updated:
        seconds |= {"backward": draw.uniform(1.8, 2.2), "optimizer": draw.uniform(0.4, 0.6)}
    run.end_batch(ctx, applied=applied, seconds=seconds, **(gauges if ctx.updated else {}))
    if i in (0, 7) or i % 5 == 4:
        at = loss_factor * (2 + 3 * math.exp(-i / 30))
        if i == 49:
            run.evaluate(ctx, at * 1.5, tokens=100, trigger="CONSOLIDATION")
        ctx.custom.update(new_loss=at * 1.1, familiar_loss=at * draw.uniform(0.9, 1.0))
        run.evaluate(ctx, at, tokens=100, kl_to_anchor=draw.uniform(0.1, 0.4))
        if ctx.accepted:
            run.save_checkpoint(ctx, "accepted", lambda _, state: pack_state(state))
    if adapts and i in (10, 35, 50):
        run.record_rollback(ctx, anchor_iter_num=i - 5, drift=0.4, seconds=0.01)
        step = {"micro_step": 0, "field": "updated", "decided": True, "applied": False}
        run.emit("verdict.not_applied", {"iter_num": i, **step, "reason_code": "SKIPPED"}, iter_num=i)
    if adapts:
        digest = {"iter_num": i, "weights_sha256": "ab" * 32}
        times = {"seconds": draw.uniform(0.001, 0.02), "identical": i % 7 != 3}
        run.emit("adapter.reverted", {**digest, **times}, iter_num=i)
        run.emit("adapter.enabled", {**digest, **_LAYERS}, iter_num=i)
    return ctx
