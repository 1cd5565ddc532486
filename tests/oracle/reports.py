"""Figures of `ockham roi` and `ockham compare`, by docs/figures.md, from the rows of the logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.oracle.figures import memory_decisions, run_summary
from tests.oracle.log_lines import Batch, Row, contexts, counted, to_number
from tests.oracle.savings import compute_savings, stage_seconds
from tests.oracle.statistics import mean

PRICES = {"hour": 3.5, "gigabyte": 0.25}
# Figures that a report shares with `run_summary`.
_COUNTS = (
    "batches",
    "updated_batches",
    "skipped_batches",
    "optimizer_steps",
    "skipped_steps",
    "update_rate",
    "evaluations",
    "accepted",
    "best_val_loss",
)
Curve = list[tuple[float, float]]


def finite_losses(rows: list[Row]) -> dict[int, float]:
    """Return the last validation loss of each iteration that has one, if it is finite."""
    losses = {row.iter_num: to_number(row.data["val_loss"]) for row in counted(rows, "evaluation.recorded")}
    return {at: loss for at, loss in losses.items() if math.isfinite(loss)}


def newest_start(rows: list[Row]) -> dict[str, Any]:
    """Return the first event of the newest signed attempt."""
    starts = [row for row in rows if row.kind in ("run.started", "run.resumed") and row.signed]
    return max(starts, key=lambda row: row.attempt).data


def settings(rows: list[Row]) -> tuple[int, int, int]:
    """Return sequences per micro-batch, tokens per sequence, and micro-batches per step."""
    found = newest_start(rows)["settings"]
    return found["batch_size"], found["block_size"], found["gradient_accumulation_steps"]


def roi(rows: list[Row], floor: float | None = None) -> dict[str, Any]:
    """Return the figures of `roi` with the prices `PRICES`."""
    summary, savings, batches = run_summary(rows), compute_savings(rows), contexts(rows)
    ranks = newest_start(rows).get("world_size", 1)
    facts = batches[-1].row.data["given"]
    skipped = sum(not batch.updated for batch in batches) * ranks
    tokens = math.prod(settings(rows)[:2])
    refused = sum(row.data["action"] != "ACCEPT" for row in memory_decisions(rows))
    seconds, size = savings["seconds_saved"], facts["memory_footprint_mb"] * 1e6
    hours = None if seconds is None else seconds * ranks / 3600
    figures = {
        **{name: summary[name] for name in _COUNTS},
        **savings,
        "flops_saved": 4 * facts["model_params"] * tokens * skipped,
        "device_hours_saved": hours,
        "chain_seconds": math.fsum(stage_seconds(batches, "chain")),
        "bytes_saved": refused * size,
        "storage_saved": refused * size / 1e9 * PRICES["gigabyte"],
        "verdict": "GROSS",
    }
    if hours is not None:
        figures["compute_money_saved"] = hours * PRICES["hour"]
    if floor is not None:
        reached = [at for at, loss in finite_losses(rows).items() if loss <= floor]
        figures |= {"quality_floor": floor, "reached_at": min(reached, default=None)}
        figures["verdict"] = "FLOOR_REACHED" if reached else "NOTHING_SAVED"
    # A report leaves out these two if they are unknown.
    omitted = [name for name in ("backward_over_forward", "compute_saved_reason") if figures[name] is None]
    return {name: value for name, value in figures.items() if name not in omitted}


def comparison(a: list[Row], b: list[Row]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return the numbers of `compare` with all losses, by section and name."""
    sides = a, b
    table: dict[tuple[str, str], tuple[Any, ...]] = {}
    names = [name for name in _COUNTS if not name.startswith("skipped")]
    summaries = [run_summary(rows) for rows in sides]
    for name in names:
        table["figures", name] = tuple(summary[name] for summary in summaries)
    losses = [finite_losses(rows) for rows in sides]
    table["figures", "last_val_loss"] = tuple(next(reversed(each.values()), None) for each in losses)
    both = [batch for rows in sides for batch in contexts(rows)]
    prices = [mean(stage_seconds(both, stage)) for stage in ("forward", "backward", "optimizer")]
    if prices[0] and prices[1] is not None:
        backward, optimizer = prices[1] / prices[0], (prices[2] or 0.0) / prices[0]
        curves = [compute_curve(contexts(rows), backward, optimizer) for rows in sides]
        ends = [max(curve.values()) for curve in curves]
        table["figures", "compute_forwards"] = tuple(ends)
        table["figures", "val_loss_at_equal_compute"] = tuple(
            interpolate([(curve[at], loss) for at, loss in each.items()], min(ends))
            for curve, each in zip(curves, losses, strict=True)
        )
    return {**table, **_loss_pairs(sides, losses), **_verdict_counts(sides)}


def compute_curve(batches: list[Batch], backward: float, optimizer: float) -> dict[int, float]:
    """Return the forward passes that were paid up to the end of each iteration."""
    total, curve = 0.0, {}
    for batch in batches:
        total += 1 + backward * batch.updated + optimizer * bool(batch.stepped)
        curve[batch.iter_num] = total
    return curve


def interpolate(curve: Curve, at: float) -> float | None:
    """Return the value on the lines between the points. None outside of them."""
    below = [point for point in curve if point[0] <= at]
    above = [point for point in curve if point[0] >= at]
    if not below or not above:
        return None
    (x0, y0), (x1, y1) = below[-1], above[0]
    return y0 if x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _loss_pairs(
    sides: tuple[list[Row], list[Row]], losses: Sequence[dict[int, float]]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the losses at the same iterations. Steps with other numbers of tokens: at the same tokens."""
    one, other = losses
    sizes = [math.prod(settings(rows)) * newest_start(rows).get("world_size", 1) for rows in sides]
    if sizes[0] == sizes[1]:
        return {("losses", f"iter {at}"): (one[at], other[at]) for at in one if at in other}
    curve = [((at + 1) * sizes[1], loss) for at, loss in other.items()]
    pairs = {(at + 1) * sizes[0]: loss for at, loss in one.items()}
    return {
        ("losses", f"tokens {at}"): (loss, there)
        for at, loss in pairs.items()
        if (there := interpolate(curve, at)) is not None
    }


def _verdict_counts(sides: tuple[list[Row], list[Row]]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return the verdicts on the same batches. Runs with other batches have none."""
    seeds = [contexts(rows)[0].row.data["given"].get("seed", 0) for rows in sides]
    if seeds[0] != seeds[1] or settings(sides[0]) != settings(sides[1]):
        return {}
    one, other = ({(b.iter_num, b.micro_step): b.updated for b in contexts(rows)} for rows in sides)
    pairs = [(one[place], other[place]) for place in one if place in other]
    counts = {
        wanted: pairs.count(wanted) for wanted in ((True, True), (False, False), (True, False), (False, True))
    }
    share = (counts[True, False] + counts[False, True]) / len(pairs) if pairs else None
    return {
        ("verdicts", "both update"): (counts[True, True], counts[True, True]),
        ("verdicts", "both skip"): (counts[False, False], counts[False, False]),
        ("verdicts", "only a updates"): (counts[True, False], None),
        ("verdicts", "only b updates"): (None, counts[False, True]),
        ("verdicts", "share that differs"): (share, share),
    }
