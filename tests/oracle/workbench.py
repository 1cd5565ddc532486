"""Numbers of the page Runs about several runs, by their definitions in docs/figures.md."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

from tests.oracle.figures import run_summary
from tests.oracle.log_lines import Batch, Row, contexts
from tests.oracle.pages import knob, used_rate
from tests.oracle.reports import compute_curve, finite_losses
from tests.oracle.run_pages import attention
from tests.oracle.savings import compute_savings, stage_seconds
from tests.oracle.statistics import group, mean, median

Table = list[dict[str, Any]]
Logs = dict[str, list[Row]]
STAGES = ("forward", "backward", "optimizer")
_COUNTING = ("SAVED", "FLOOR_REACHED")


def workbench(rows: list[Row]) -> dict[str, Any]:
    """Return the row of a run in the list of runs."""
    names = ("run_id", "state", "policy", "batches", "last_iter", "update_rate", "evaluations")
    names += ("accept_rate", "val_loss", "best_val_loss")
    summary, found = run_summary(rows), attention(rows)
    problems = {"attention": [text for text, _ in found], "attention_pages": [page for _, page in found]}
    return {**{name: summary[name] for name in names}, **problems, "notes": 0}


def prices(*sides: list[Row]) -> tuple[float, float] | None:
    """Return the cost of a backward pass and an optimizer step in forward passes, over all runs together."""
    batches = [batch for rows in sides for batch in contexts(rows)]
    means = [mean(stage_seconds(batches, stage)) for stage in STAGES]
    if not means[0] or means[1] is None:
        return None
    return means[1] / means[0], (means[2] or 0.0) / means[0]


def steps_taken(rows: list[Row]) -> dict[int, bool]:
    """Return whether the optimizer took each step: by measurement, else by the verdicts."""
    taken = {}
    for at, part in group(contexts(rows), lambda batch: batch.iter_num).items():
        is_complete = any(
            batch.micro_step + 1 >= batch.micro_steps and batch.stepped is None for batch in part
        )
        is_allowed = any(batch.updated for batch in part) and all(_step(batch) for batch in part)
        taken[at] = any(batch.stepped for batch in part) or (is_complete and is_allowed)
    return taken


def _step(batch: Batch) -> bool:
    data = batch.row.data
    return bool(data["left"].get("step", data["given"].get("step", True)))


def compute_until(rows: list[Row], costs: tuple[float, float]) -> dict[int, float]:
    """Return the forward passes that were paid up to the end of each iteration."""
    curve = compute_curve([batch._replace(stepped=False) for batch in contexts(rows)], costs[0], 0.0)
    taken, total = steps_taken(rows), 0.0
    for at in curve:
        total += costs[1] * taken[at]
        curve[at] += total
    return curve


def tokens_until(rows: list[Row]) -> dict[int, int]:
    """Return the highest number of tokens up to the end of each iteration. Runs without tokens have none."""
    highest, curve = 0, {}
    for at, part in group(contexts(rows), lambda batch: batch.iter_num).items():
        highest = max(highest, *(batch.row.data["given"].get("tokens_seen", 0) for batch in part))
        if highest:
            curve[at] = highest
    return curve


def positions(rows: list[Row], basis: str, costs: tuple[float, float] | None) -> dict[int, float]:
    if basis == "tokens":
        return dict(tokens_until(rows))
    if basis == "compute":
        return {} if costs is None else compute_until(rows, costs)
    return {batch.iter_num: batch.iter_num + 1 for batch in contexts(rows)}


def at_iteration(curve: dict[int, float], at: int) -> float | None:
    """Return the value at the last iteration up to *at*."""
    return curve[max(i for i in curve if i <= at)] if any(i <= at for i in curve) else None


def workbench_equal(logs: Logs, basis: str) -> Table:
    costs = prices(*logs.values())
    places = {name: positions(rows, basis, costs) for name, rows in logs.items()}
    points = {
        name: [
            (at_iteration(places[name], at), loss)
            for at, loss in finite_losses(rows).items()
            if at_iteration(places[name], at) is not None
        ]
        for name, rows in logs.items()
    }
    ends = {name: max(x for x, _ in found) for name, found in points.items() if found}
    length = min(ends.values(), default=None)
    table = []
    for name, rows in logs.items():
        reached = [at for at, x in places[name].items() if length is not None and x <= length]
        losses = [loss for x, loss in points[name] if x <= length]
        curve = {} if costs is None else compute_until(rows, costs)
        table.append(
            {
                "run_id": name,
                "equal_loss": min(losses, default=None),
                "iterations": max(reached) + 1 if reached else None,
                "compute": curve[max(reached)] if reached and curve else None,
                "equal_length": length,
                "shortest_run": min(ends, key=lambda each: (ends[each], each)) if ends else None,
                "all_iterations": max((b.iter_num + 1 for b in contexts(rows)), default=None),
            }
        )
    return table


def workbench_curves(logs: Logs) -> Table:
    """Return bins of batches and all finite validation losses."""
    costs = prices(*logs.values())
    last = max((b.iter_num for rows in logs.values() for b in contexts(rows)), default=0)
    width = max(1, math.ceil((last + 1) / 300))
    table = []
    for name, rows in logs.items():
        curves = tokens_until(rows), seconds_until(rows), {} if costs is None else compute_until(rows, costs)
        for first, part in group(contexts(rows), lambda batch: batch.iter_num // width * width).items():
            values = {
                "loss": median(batch.loss for batch in part if batch.finite),
                "update_rate": mean(batch.updated for batch in part if batch.finite),
                "learning_rate": median(used_rate(batch) for batch in part),
                "lambda": median(
                    knob(batch, "lambda_ockham") for batch in part if used_rate(batch) is not None
                ),
            }
            end = max(batch.iter_num for batch in part)
            table.append(_curve_row(name, first, end, curves, {**values, "val_loss": None}))
        nothing = dict.fromkeys(("loss", "update_rate", "learning_rate", "lambda"))
        table += [
            _curve_row(name, at, at, curves, {**nothing, "val_loss": loss})
            for at, loss in finite_losses(rows).items()
        ]
    return table


def _curve_row(name: str, first: int, end: int, curves: Any, values: dict[str, Any]) -> dict[str, Any]:
    axes = ("tokens", "seconds", "compute")
    places = {axis: at_iteration(curve, end) for axis, curve in zip(axes, curves, strict=True)}
    return {
        "run_id": name,
        "iter": first,
        "is_evaluation": values["val_loss"] is not None,
        **places,
        **values,
    }


def seconds_until(rows: list[Row]) -> dict[int, float]:
    """Return the seconds between batches of the same attempt, up to the end of each iteration."""
    total, curve = 0.0, {}
    before: Batch | None = None
    for batch in contexts(rows):
        if before is not None and before.row.attempt == batch.row.attempt:
            total += (_time(batch) - _time(before)).total_seconds()
        curve[batch.iter_num], before = total, batch
    return curve


def _time(batch: Batch) -> dt.datetime:
    return dt.datetime.fromisoformat(TIMES[batch.row.id])


# Event -> time. `Row` does not have it, because no other figure uses the clock.
TIMES: dict[str, str] = {}


def read_times(folder: Path) -> None:
    """Read the times of the events of a run."""
    for segment in (folder / "log").rglob("*.jsonl"):
        for line in segment.read_bytes().split(b"\n")[:-1]:
            event = json.loads(line)
            TIMES[event["id"]] = event["time"]


def workbench_savings(
    logs: Logs, baseline: str, digests: dict[str, str | None], floor: float | None
) -> Table:
    """Return the savings up to the floor: that of the call, or the best loss of the baseline + 0.01."""
    if floor is None and baseline:
        floor = min((loss + 0.01 for loss in finite_losses(logs[baseline]).values()), default=None)
    return [_savings(name, logs, baseline, digests, floor) for name in logs]


def _savings(
    name: str, logs: Logs, baseline: str, digests: dict[str, str | None], floor: float | None
) -> dict[str, Any]:
    rows, losses = logs[name], finite_losses(logs[name])
    reached = min((at for at, loss in losses.items() if floor is not None and loss <= floor), default=None)
    saved = _saved_to_floor(rows, logs.get(baseline), reached, floor)
    if name == baseline:
        verdict = "BASELINE"
    elif floor is None:
        verdict = "GROSS"
    elif baseline and (digests[name] is None or digests[name] != digests[baseline]):
        verdict = "OTHER_DATA"
    elif reached is None:
        verdict = "NOTHING_SAVED"
    elif saved is None:
        verdict = "FLOOR_REACHED"
    else:
        verdict = "SAVED" if saved > 0 else "LOST"
    estimate = compute_savings(rows)
    names = ("compute_saved", "compute_saved_low", "compute_saved_high")
    return {
        "run_id": name,
        "best_val_loss": min(losses.values(), default=None),
        "quality_floor": floor,
        "reached_at": reached,
        "verdict": verdict,
        "compute_saved_to_floor": saved if verdict in ("SAVED", "LOST") else None,
        **{key: estimate[key] if verdict in _COUNTING else None for key in names},
        **_time_figures(rows, logs.get(baseline), verdict, estimate["compute_saved_high"]),
    }


def _saved_to_floor(
    rows: list[Row], other: list[Row] | None, reached: int | None, floor: float | None
) -> float | None:
    """Return 1 - compute up to the floor / that of the baseline, at the times of both together."""
    if reached is None or other is None:
        return None
    costs = prices(rows, other)
    there = [at for at, loss in finite_losses(other).items() if loss <= floor]
    if costs is None or not there:
        return None
    spent = [
        at_iteration(compute_until(side, costs), at) for side, at in ((rows, reached), (other, min(there)))
    ]
    return 1 - spent[0] / spent[1]


def _time_figures(
    rows: list[Row], other: list[Row] | None, verdict: str, limit: float | None
) -> dict[str, Any]:
    """Return the measured saving of time per micro-batch, and whether it is above its bound."""
    found = None
    if other is not None and verdict in ("SAVED", "LOST", "FLOOR_REACHED"):
        means = [_mean_seconds(side) for side in (rows, other)]
        found = None if None in means else 1 - means[0] / means[1]
    return {
        "time_saved": found,
        "timing_noise": found is not None and limit is not None and found > limit,
    }


def _mean_seconds(rows: list[Row]) -> float | None:
    batches = contexts(rows)
    if not all(stage_seconds(batches, stage) for stage in STAGES[:2]):
        return None
    return math.fsum(math.fsum(stage_seconds(batches, stage)) for stage in STAGES) / len(batches)
