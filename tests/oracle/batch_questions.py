"""Saved questions about batches and stage times, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from tests.oracle.figures import ratio, run_summary
from tests.oracle.log_lines import Batch, Row, contexts, to_number
from tests.oracle.pages import knob
from tests.oracle.statistics import finite, group, mean, median, quantile, smallest

Table = list[dict[str, Any]]
Runs = dict[str, list[Row]]


def split_equally(items: list[Any], number: int) -> Iterable[tuple[int, list[Any]]]:
    """Return equal parts. The first ones have one item more, as NTILE in SQL."""
    size, longer = divmod(len(items), number)
    first = 0
    for part in range(1, number + 1):
        last = first + size + (part <= longer)
        if last > first:
            yield part, items[first:last]
        first = last


def in_order(rows: list[Row]) -> list[Batch]:
    return sorted(contexts(rows), key=lambda batch: (batch.iter_num, batch.micro_step))


def contributes(batch: Batch) -> bool:
    return batch.updated and batch.finite


def update_rate(runs: Runs) -> Table:
    return [
        {
            "run_id": run_id,
            "part": part,
            "from_iter": some[0].iter_num,
            "to_iter": some[-1].iter_num,
            "update_rate": mean(map(contributes, some)),
            "batches": len(some),
        }
        for run_id, rows in runs.items()
        for part, some in split_equally([batch for batch in in_order(rows) if batch.finite], 20)
    ]


def thresholds(runs: Runs) -> Table:
    return [
        {
            "run_id": run_id,
            "threshold": tenths / 10,
            "update_rate": mean(loss >= tenths / 10 for loss in losses),
            "batches": len(losses),
        }
        for run_id, rows in runs.items()
        if (losses := [batch.loss for batch in contexts(rows) if batch.finite])
        for tenths in range(10, 51)
    ]


def stage_times(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        pairs = [pair for batch in contexts(rows) for pair in batch.seconds.items()]
        for stage, some in group(pairs, lambda pair: pair[0]).items():
            seconds = finite(to_number(value) for _, value in some)
            table.append(
                {
                    "run_id": run_id,
                    "stage": stage,
                    "batches": len(seconds),
                    "median_ms": median(seconds) * 1000,
                    "p99_ms": quantile(seconds, 0.99) * 1000,
                    "total_seconds": math.fsum(seconds),
                }
            )
    return table


def slowest_batches(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        timed = [(math.fsum(batch.seconds.values()), batch) for batch in contexts(rows) if batch.seconds]
        middle = median(seconds for seconds, _ in timed)
        timed.sort(key=lambda pair: (-pair[0], pair[1].iter_num, pair[1].micro_step))
        for place, (seconds, batch) in enumerate(timed[:20], 1):
            stage = max(batch.seconds, key=lambda name: batch.seconds[name])
            table.append(
                {
                    "run_id": run_id,
                    "place": place,
                    "iter_num": batch.iter_num,
                    "micro_step": batch.micro_step,
                    "seconds": seconds,
                    "times_median": seconds / middle,
                    "slowest_stage": stage,
                    "stage_seconds": batch.seconds[stage],
                }
            )
    return table


def loss_by_verdict(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        for updated, some in group(contexts(rows), lambda batch: batch.updated).items():
            losses = [batch.loss for batch in some if batch.finite]
            table.append(
                {
                    "run_id": run_id,
                    "updated": updated,
                    "batches": len(some),
                    "nonfinite": len(some) - len(losses),
                    "mean_loss": mean(losses),
                    "median_loss": median(losses),
                    "lowest_loss": min(losses, default=None),
                    "highest_loss": max(losses, default=None),
                }
            )
    return table


def skip_streaks(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        streaks = [list(some) for took, some in groupby(in_order(rows), contributes) if not took]
        streaks.sort(key=lambda some: (-len(some), some[0].iter_num, some[0].micro_step))
        for place, some in enumerate(streaks[:20], 1):
            losses = [batch.loss for batch in some if batch.finite]
            table.append(
                {
                    "run_id": run_id,
                    "place": place,
                    "batches": len(some),
                    "from_iter": some[0].iter_num,
                    "from_micro_step": some[0].micro_step,
                    "to_iter": some[-1].iter_num,
                    "mean_loss": mean(losses),
                    "nonfinite_batches": len(some) - len(losses),
                }
            )
    return table


def largest_gradients(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        measured = [
            (to_number(batch.measured["grad_norm"]), batch)
            for batch in contexts(rows)
            if batch.measured.get("grad_norm") is not None
        ]
        ordered = [pair for pair in measured if math.isfinite(pair[0])]
        ordered.sort(key=lambda pair: (-pair[0], pair[1].iter_num))
        table += [
            {
                "run_id": run_id,
                "place": place,
                "iter_num": batch.iter_num,
                "micro_step": batch.micro_step,
                "grad_norm": norm,
                "measured": len(measured),
                "nonfinite": len(measured) - len(ordered),
            }
            for place, (norm, batch) in enumerate(ordered[:20], 1)
        ]
    return table


def spikes(runs: Runs) -> Table:
    """Return the 10 largest values of each kind, relative to the median of up to 50 values before."""
    table = []
    for run_id, rows in runs.items():
        batches = in_order(rows)
        losses = [(batch.loss, batch) for batch in batches]
        norms = [(to_number(batch.measured.get("grad_norm", "NaN")), batch) for batch in batches]
        for kind, pairs in (("gradient norm", norms), ("loss", losses)):
            values = [pair for pair in pairs if math.isfinite(pair[0])]
            found = []
            for i in range(10, len(values)):
                value, batch = values[i]
                usual = median(before for before, _ in values[max(0, i - 50) : i])
                if usual > 0:
                    found.append((value / usual, value, usual, batch))
            found.sort(key=lambda item: (-item[0], item[3].iter_num, item[3].micro_step))
            for place, (times, value, usual, batch) in enumerate(found[:10], 1):
                data = batch.row.data.get("rows") or {}
                table.append(
                    {
                        "run_id": run_id,
                        "kind": kind,
                        "place": place,
                        "iter_num": batch.iter_num,
                        "micro_step": batch.micro_step,
                        "value": value,
                        "usual": usual,
                        "times": times,
                        "updated": batch.updated,
                        "data_position": data.get("position"),
                        "data_digest": data.get("digest"),
                    }
                )
    return table


def learning_rates(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        steps = [
            (knob(batch, "learning_rate", scheduled=True), to_number(used[0]), batch)
            for batch in in_order(rows)
            if batch.stepped and (used := batch.row.data["applied"].get("learning_rates"))
        ]
        for part, some in split_equally(steps, 20):
            factors = [trained / scheduled for scheduled, trained, _ in some if scheduled]
            table.append(
                {
                    "run_id": run_id,
                    "part": part,
                    "from_iter": some[0][2].iter_num,
                    "to_iter": some[-1][2].iter_num,
                    "steps": len(some),
                    "scheduled": mean(scheduled for scheduled, _, _ in some),
                    "trained": mean(trained for _, trained, _ in some),
                    "least_factor": smallest(factors),
                    "median_factor": median(factors),
                    "greatest_factor": max(factors, default=None),
                }
            )
    return table


def superseded_work(runs: Runs) -> Table:
    """Return the batches of earlier attempts that a later attempt did again."""
    table = []
    for run_id, rows in runs.items():
        resumes = [
            (row.iter_num, row.attempt)
            for row in rows
            if row.kind == "run.resumed" and row.signed and row.rank == 0
        ]
        gone = [row for row in rows if row.superseded and row.signed and row.rank == 0]
        for attempt, some in group(gone, lambda row: row.attempt).items():
            batches = [row for row in some if row.kind == "context.recorded" and row.data["hook"] == "batch"]
            if not batches:
                continue
            resumed_at, resumed_by = min(pair for pair in resumes if pair[1] > attempt)
            made = [row.data for row in some if row.kind == "decision.made"]
            accepted = [d for d in made if d["action"] == "ACCEPT" and not d["shadow"]]
            table.append(
                {
                    "run_id": run_id,
                    "attempt": attempt,
                    "resumed_by": resumed_by,
                    "resumed_at": resumed_at,
                    "from_iter": min(row.iter_num for row in batches),
                    "to_iter": max(row.iter_num for row in batches),
                    "batches": len(batches),
                    "decisions": len(made),
                    "accepted": len(accepted),
                    "seconds": math.fsum(value for row in batches for value in row.data["seconds"].values()),
                }
            )
    return table


def policies_in_force(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        by_policy = group(
            contexts(rows), lambda batch: (batch.row.attempt, batch.row.data["policy_revision"])
        )
        for (attempt, revision), some in by_policy.items():
            table.append(
                {
                    "run_id": run_id,
                    "attempt": attempt,
                    "policy_revision": revision,
                    "from_iter": min(batch.iter_num for batch in some),
                    "to_iter": max(batch.iter_num for batch in some),
                    "batches": len(some),
                    "update_rate": ratio(sum(map(contributes, some)), sum(batch.finite for batch in some)),
                }
            )
    return table


def out_of_band(runs: Runs) -> Table:
    bands = {"balanced": (0.5, 0.7), "tight": (0.2, 0.4), "exploratory": (0.8, 0.95)}
    table = []
    for run_id, rows in runs.items():
        band = bands.get(run_summary(rows)["policy"])
        windows = group(
            (batch for batch in contexts(rows) if batch.finite), lambda batch: batch.iter_num // 100 * 100
        )
        for first, some in windows.items():
            rate = mean(map(contributes, some))
            if band and len(some) >= 100 and not band[0] <= rate <= band[1]:
                table.append(
                    {"run_id": run_id, "from_iter": first, "update_rate": rate, "batches": len(some)}
                )
    return table
