"""Compute saved by skips, by the formula of docs/figures.md."""

from __future__ import annotations

import math
import statistics
from typing import Any

from tests.oracle.log_lines import Batch, Row, contexts
from tests.oracle.statistics import group


def stage_seconds(batches: list[Batch], stage: str) -> list[float]:
    return [batch.seconds[stage] for batch in batches if stage in batch.seconds]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _variance(values: list[float], number: int) -> float | None:
    """Return the variance of the total of *number* further values."""
    if number == 0 or not values:
        return 0.0
    if len(values) == 1:
        return None
    return statistics.variance(values) * number * (1 + number / len(values))


def compute_savings(rows: list[Row]) -> dict[str, Any]:
    """Return the estimate and its interval, or the reason why it is unknown."""
    batches = contexts(rows)
    steps = [
        any(batch.updated for batch in part)
        for part in group(batches, lambda batch: batch.iter_num).values()
        if any(batch.micro_step + 1 >= batch.micro_steps for batch in part)
    ]
    world_size = max(
        (
            row.data.get("world_size") or 1
            for row in rows
            if row.kind in ("run.started", "run.resumed") and row.signed
        ),
        default=1,
    )
    updated = sum(batch.updated for batch in batches)
    skipped, skipped_steps = len(batches) - updated, steps.count(False)
    forward, backward, optimizer, chain = (
        stage_seconds(batches, stage) for stage in ("forward", "backward", "optimizer", "chain")
    )
    saved = skipped * _mean(backward) + skipped_steps * _mean(optimizer)
    spent = len(batches) * _mean(forward) + updated * _mean(backward) + steps.count(True) * _mean(optimizer)
    always = spent + saved
    is_timed = bool(batches) and _mean(forward) > 0 and bool(backward)
    ratio = None
    if is_timed:
        ratio = (_mean(backward) + _mean(optimizer) * len(steps) / len(batches)) / _mean(forward)
    reason = None
    if not batches:
        reason = "NO_BATCHES"
    elif skipped and not updated:
        reason = "NOTHING_UPDATED"
    elif skipped and not is_timed:
        reason = "NO_STAGE_TIMES"
    elif skipped and world_size > 1 and math.fsum(chain) > 0.1 * always:
        reason = "WAITED_FOR_RANKS"
    share = low = high = None
    if reason is None:
        share = low = high = 0.0
        if skipped:
            share = saved / always
            variances = _variance(backward, skipped), _variance(optimizer, skipped_steps)
            if None in variances:
                low = high = None
            else:
                half = 1.96 * math.sqrt(sum(variances)) * spent / always**2
                low, high = max(0.0, share - half), min(1.0, share + half)
    return {
        "backward_over_forward": ratio,
        "compute_saved": share,
        "compute_saved_low": low,
        "compute_saved_high": high,
        "compute_saved_reason": reason,
        "seconds_saved": None if reason is not None else saved,
        "chain_share": math.fsum(chain) / always if is_timed and world_size == 1 else None,
    }
