"""Numbers of the dashboard pages about batches and decisions, by their definitions."""

from __future__ import annotations

import math
from typing import Any

from tests.oracle.figures import memory_decisions
from tests.oracle.log_lines import Batch, Row, contexts, decisions, plugin_names, to_number
from tests.oracle.savings import compute_savings
from tests.oracle.statistics import bin_width, finite, group, largest, mean, median, quantile, smallest

Table = list[dict[str, Any]]
# The log leaves out a knob at its default.
_DEFAULTS = {"learning_rate": 1e-3, "lambda_ockham": 0.01}


def knob(batch: Batch, name: str, *, scheduled: bool = False) -> float:
    """Return a knob after the chain, or as it was scheduled."""
    data = batch.row.data
    before = data["given"].get(name, _DEFAULTS.get(name, 0.0))
    return to_number(before if scheduled else data["left"].get(name, before))


def used_rate(batch: Batch) -> float | None:
    """Return the learning rate of the first group. A batch without a step used none."""
    stepped = batch.updated if batch.stepped is None else batch.stepped
    if not stepped:
        return None
    rates = batch.row.data["applied"].get("learning_rates")
    return to_number(rates[0]) if rates else knob(batch, "learning_rate")


def gate_decisions(rows: list[Row]) -> list[Row]:
    names = plugin_names(rows, "gate")
    return [
        row
        for row in decisions(rows, acting=False)
        if row.data["plugin"] in names and row.data["hook"] == "on_batch_start"
    ]


def observed(row: Row) -> float | None:
    return to_number(row.data["observed"])


def margin(row: Row) -> float:
    return to_number(row.data["observed"]) - to_number(row.data["threshold"])


def iteration_range(rows: list[Row]) -> Table:
    numbers = [batch.iter_num for batch in contexts(rows)]
    return [{"first": smallest(numbers), "last": largest(numbers), "batches": len(numbers)}]


def gate_bins(rows: list[Row]) -> Table:
    """Return the update rate in at most 40 parts of at least 25 batches, with the Wilson interval."""
    batches = [batch for batch in contexts(rows) if batch.finite]
    width = max(25, math.ceil(len(batches) / 40))
    table = []
    for first in range(0, len(batches), width):
        part = batches[first : first + width]
        n, rate = len(part), mean(batch.updated for batch in part)
        z = 1.96
        middle, spread = rate + z * z / 2 / n, z * math.sqrt((rate * (1 - rate) + z * z / 4 / n) / n)
        table.append(
            {
                "iter": part[0].iter_num,
                "to_iter": part[-1].iter_num,
                "n": n,
                "rate": rate,
                "low": max(0.0, (middle - spread) / (1 + z * z / n)),
                "high": min(1.0, (middle + spread) / (1 + z * z / n)),
            }
        )
    return table


def gate_reasons(rows: list[Row]) -> Table:
    verdicts = gate_decisions(rows)
    return [
        {"action": action, "reason_code": reason, "batches": len(part), "share": len(part) / len(verdicts)}
        for (action, reason), part in group(
            verdicts, lambda row: (row.data["action"], row.data["reason_code"])
        ).items()
    ]


def margin_histogram(rows: list[Row]) -> Table:
    """Return 40 bars between the quantiles .005 and .995. The outermost include all values beyond."""
    verdicts = [row for row in gate_decisions(rows) if math.isfinite(margin(row))]
    if not verdicts:
        return []
    low, high = (quantile(map(margin, verdicts), share) for share in (0.005, 0.995))
    width = max((high - low) / 40, 1e-9)

    def place(row: Row) -> tuple[float, bool]:
        return math.floor(max(low, min(high, margin(row))) / width) * width, row.data["action"] == "UPDATE"

    return [
        {
            "margin": bar,
            "updated": updated,
            "batches": len(part),
            "lowest": min(map(margin, part)),
            "highest": max(map(margin, part)),
        }
        for (bar, updated), part in group(verdicts, place).items()
    ]


def run_thresholds(rows: list[Row]) -> Table:
    losses = finite(observed(row) for row in gate_decisions(rows))
    if not losses:
        return []
    low, high = quantile(losses, 0.01), quantile(losses, 0.99)
    ratio = compute_savings(rows)["backward_over_forward"]
    table = []
    for t in sorted({low + (high - low) * i / 30 for i in range(31)}):
        rate = mean(loss >= t for loss in losses)
        saved = None if ratio is None else (1 - rate) * ratio / (1 + ratio)
        table.append({"threshold": t, "update_rate": rate, "batches": len(losses), "compute_saved": saved})
    return table


def skip_streaks(rows: list[Row]) -> Table:
    streaks, present = [], []
    for batch in contexts(rows):
        if batch.updated:
            present = []
            continue
        if not present:
            streaks.append(present)
        present.append(batch)
    longest = sorted(streaks, key=lambda part: (-len(part), part[0].iter_num))[:10]
    return [
        {"from_iter": part[0].iter_num, "to_iter": part[-1].iter_num, "skipped_batches": len(part)}
        for part in longest
    ]


def sparklines(rows: list[Row]) -> Table:
    batches = contexts(rows)
    width = bin_width(0, max((batch.iter_num for batch in batches), default=0), 30)
    return [
        {
            "part": part,
            "update_rate": mean(batch.updated for batch in some if batch.finite),
            "loss": mean(batch.loss for batch in some if batch.finite),
            "drift": largest(finite(to_number(batch.measured.get("complexity_cost")) for batch in some)),
        }
        for part, some in group(batches, lambda batch: batch.iter_num // width).items()
    ]


def run_bins(rows: list[Row], low: int, high: int) -> Table:
    width = bin_width(low, high, 500)
    table = []
    some = [batch for batch in contexts(rows) if low <= batch.iter_num <= high]
    limits = group(
        (row for row in gate_decisions(rows) if row.data["reason_code"] != "WARMUP"),
        lambda row: row.data["iter_num"] // width * width,
    )
    for first, part in group(some, lambda batch: batch.iter_num // width * width).items():
        losses = [batch.loss for batch in part if batch.finite]
        rates = [used_rate(batch) for batch in part]
        drifts = [to_number(batch.measured.get("complexity_cost")) for batch in part]
        norms = [to_number(batch.measured.get("grad_norm")) for batch in part]
        table.append(
            {
                "iter": first,
                "loss_low": smallest(losses),
                "loss": median(losses),
                "loss_high": largest(losses),
                "nonfinite": len(part) - len(losses),
                "update_rate": mean(batch.updated for batch in part if batch.finite),
                "batches": len(part),
                "learning_rate": median(rates),
                "learning_rate_low": smallest(rates),
                "learning_rate_high": largest(rates),
                "scheduled_rate": median(knob(batch, "learning_rate", scheduled=True) for batch in part),
                "lambda": median(
                    knob(batch, "lambda_ockham") for batch in part if used_rate(batch) is not None
                ),
                "given_lambda": median(knob(batch, "lambda_ockham", scheduled=True) for batch in part),
                "drift": median(drifts),
                "drift_high": largest(drifts),
                "grad_norm": median(norms),
                "grad_norm_high": largest(norms),
                "threshold": median(
                    finite(to_number(row.data["threshold"]) for row in limits.get(first, []))
                ),
            }
        )
    return table


def plugin_bins(rows: list[Row], low: int, high: int) -> Table:
    width = bin_width(low, high, 100)
    some = [row for row in decisions(rows, acting=False) if low <= row.iter_num <= high]
    names = ("plugin", "action", "shadow")
    groups = group(some, lambda row: (row.iter_num // width * width, *(row.data[name] for name in names)))
    return [
        {"iter": first, "plugin": plugin, "action": action, "shadow": shadow, "decisions": len(part)}
        for (first, plugin, action, shadow), part in groups.items()
    ]


def overshoot(rows: list[Row], low: int, high: int) -> Table:
    width, names = bin_width(low, high, 100), plugin_names(rows, "limiter")
    hits: dict[Any, list[float]] = {}
    for row in decisions(rows, acting=False):
        limit = to_number(row.data["threshold"]) if row.data["plugin"] in names else None
        if limit and low <= row.iter_num <= high and math.isfinite(observed(row) / limit):
            key = row.iter_num // width * width, row.data["reason_code"]
            hits.setdefault(key, []).append(observed(row) / limit - 1)
    return [
        {"iter": first, "reason_code": reason, "hits": len(part), "typical": median(part), "worst": max(part)}
        for (first, reason), part in hits.items()
    ]


def knob_changes(rows: list[Row], field: str) -> list[tuple[Row, float, float]]:
    """Return acting decisions that changed a knob, with the numbers before and after."""
    found = []
    for row in decisions(rows):
        for change in row.data["changes"]:
            values = [to_number(change[side]) for side in ("before", "after")]
            if change["field"] == field and not any(isinstance(value, bool | str) for value in values):
                found.append((row, *values))
    return found


def knob_most_changed(rows: list[Row], field: str) -> Table:
    counts = group(knob_changes(rows, field), lambda change: change[0].iter_num)
    if not counts:
        return []
    at, part = max(counts.items(), key=lambda item: (len(item[1]), item[0]))
    return [{"iter": at, "turns": len(part)}]


def memory_funnel(rows: list[Row]) -> Table:
    order = ["finite", "quality", "complexity", "later"]
    failed = [_failed_gate(row.data["reason_code"]) for row in memory_decisions(rows, acting=False)]
    place = [len(order) if gate is None else order.index(gate) for gate in failed]
    limits = [
        ("evaluated", 0),
        ("finite", 1),
        ("passed quality", 2),
        ("passed complexity", 3),
        ("accepted", 4),
    ]
    return [
        {"step": step, "gate": name, "candidates": sum(p >= least for p in place)}
        for step, (name, least) in enumerate(limits, 1)
    ]


def _failed_gate(reason: str) -> str | None:
    if reason.startswith("ACCEPTED"):
        return None
    names = {
        "REJECTED_NONFINITE": "finite",
        "REJECTED_QUALITY": "quality",
        "REJECTED_COMPLEXITY": "complexity",
    }
    return names.get(reason, "later")


def run_ranks(rows: list[Row]) -> Table:
    signed = [row for row in rows if row.signed]
    return [
        {
            "ranks": len({row.rank for row in signed}),
            "diverged": sum(row.kind == "rank.diverged" for row in signed),
        }
    ]
