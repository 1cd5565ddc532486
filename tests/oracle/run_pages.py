"""Numbers of the dashboard pages about one run or two: bands, events, the memory, adapters, differences."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.oracle.figures import memory_decisions, run_summary
from tests.oracle.log_lines import Row, contexts, counted, decisions, to_number
from tests.oracle.pages import gate_decisions
from tests.oracle.statistics import bin_width, group, mean, median

Table = list[dict[str, Any]]
UPDATE_BANDS = {"balanced": (0.5, 0.7), "tight": (0.2, 0.4), "exploratory": (0.8, 0.95)}
# With more events of a kind, a page lists parts of the range instead.
MAX_EVENTS_LISTED = 40
# With fewer batches or evaluations a rate can be outside of its band by chance.
MIN_BATCHES, MIN_EVALUATIONS = 200, 20
_FAILED_GATES = {
    "REJECTED_NONFINITE": "finite",
    "REJECTED_QUALITY": "quality",
    "REJECTED_COMPLEXITY": "complexity",
    "INVALID_BASELINE": "baseline",
    "REJECTED_INCOMPARABLE": "baseline",
}


def failed_gate(row: Row) -> str | None:
    """Return the gate of the memory at which a candidate failed. None if it was accepted."""
    if row.data["action"] == "ACCEPT":
        return None
    return _FAILED_GATES.get(row.data["reason_code"], "efficiency")


def numbers(row: Row) -> dict[str, float]:
    return {name: to_number(value) for name, value in row.data["numbers"].items()}


def run_bands(rows: list[Row]) -> Table:
    summary = run_summary(rows)
    low, high = UPDATE_BANDS.get(summary["policy"], (None, None))
    shadow = [row.data["action"] == "UPDATE" for row in gate_decisions(rows) if row.data["shadow"]]
    names = ("run_id", "batches", "update_rate", "accept_rate", "evaluations", "backward_over_forward")
    savings = {name: value for name, value in summary.items() if name.startswith("compute_saved")}
    bands = {"update_low": low, "update_high": high, "shadow_rate": mean(shadow)}
    return [{**{name: summary[name] for name in names}, **savings, **bands}]


def oq_gain(rows: list[Row]) -> Table:
    verdicts = memory_decisions(rows, acting=False)
    accepted = [numbers(row)["oq"] for row in verdicts if failed_gate(row) is None]
    return [
        {
            "candidates": len(verdicts),
            "accepted": len(accepted),
            "shadow": any(row.data["shadow"] for row in verdicts) if verdicts else None,
            "gain": accepted[-1] / accepted[0] - 1 if accepted else None,
        }
    ]


def memory_points(rows: list[Row]) -> Table:
    """Return every candidate. The page lists fewer only from 1,000 candidates on."""
    verdicts = memory_decisions(rows, acting=False)
    first = next((numbers(row)["oq"] for row in verdicts if failed_gate(row) is None), None)
    points = [(numbers(row).get("drift"), numbers(row)["loss"], row) for row in verdicts]
    known = [point for point in points if all(v is not None and math.isfinite(v) for v in point[:2])]
    frontier, lowest = set(), math.inf
    for _, loss, row in sorted(known, key=lambda point: (point[0], point[1], point[2].sequence)):
        if loss < lowest:
            frontier.add(row.id)
            lowest = loss
    return [
        {
            "iter": row.iter_num,
            "loss": loss,
            "drift": drift,
            "outcome": failed_gate(row) or "accepted",
            "decision_id": row.id,
            "gain": _gain(row, first),
            "frontier": row.id in frontier,
            "candidates": len(verdicts),
        }
        for drift, loss, row in points
    ]


def _gain(row: Row, first: float | None) -> float | None:
    quotient = numbers(row).get("oq")
    return None if first is None or quotient is None else quotient / first - 1


def evaluation_points(rows: list[Row]) -> Table:
    """Return the last finite loss and gain of at most 100 parts of equal size. The first are larger."""
    verdicts = memory_decisions(rows, acting=False)
    first = next((numbers(row)["oq"] for row in verdicts if failed_gate(row) is None), None)
    size, larger = divmod(len(verdicts), 100)
    table, start = [], 0
    for part in range(min(100, len(verdicts))):
        some = verdicts[start : start + size + (part < larger)]
        start += len(some)
        losses = [loss for row in some if math.isfinite(loss := numbers(row)["loss"])]
        gains = [g for row in some if (g := _gain(row, first)) is not None and math.isfinite(g)]
        table.append(
            {
                "iter": some[-1].iter_num,
                "val_loss": losses[-1] if losses else None,
                "gain": gains[-1] if gains else None,
            }
        )
    return table


def run_near_misses(rows: list[Row]) -> Table:
    """Return the 20 candidates that failed by the smallest part of their limit."""
    table = []
    for row in memory_decisions(rows, acting=False):
        gate, values = failed_gate(row), numbers(row)
        if gate == "quality":
            missing = values["loss"] / values["quality_limit"] - 1
        elif gate == "complexity":
            missing = values["drift"] / values["complexity_limit"] - 1
        elif gate == "efficiency":
            limit = values["efficiency_limit"]
            missing = (limit - (values["oq"] / values["oq_baseline"] - 1)) / (1 + limit)
        else:
            continue
        table.append({"decision_id": row.id, "failed_gate": gate, "missing": missing})
    return sorted(table, key=lambda row: row["missing"])[:20]


def adapter_status(rows: list[Row]) -> Table:
    enabled, reverted = (counted(rows, f"adapter.{kind}") for kind in ("enabled", "reverted"))
    if not enabled and not reverted:
        return []
    return [
        {
            "added_params": enabled[0].data["added_params"] if enabled else None,
            "model_params": enabled[0].data["model_params"] if enabled else None,
            "layers": len(enabled[0].data["layers"]) if enabled else None,
            "reverts": len(reverted),
            "traces": sum(not row.data["identical"] for row in reverted),
            "seconds": median(row.data["seconds"] for row in reverted),
        }
    ]


def served_bins(rows: list[Row], low: int, high: int) -> Table:
    """Return the mean losses after the last served micro-batch of each part of the range."""
    width = bin_width(low, high, 500)
    served = [
        (batch.iter_num, batch.measured.get("custom", batch.row.data["given"].get("custom", {})))
        for batch in contexts(rows)
        if low <= batch.iter_num <= high
    ]
    served = [(at, metrics) for at, metrics in served if "served_loss" in metrics]
    names = ("served_loss", "served_new_loss", "served_familiar_loss")
    return [
        {"iter": first, "batches": len(part), **{name: to_number(part[-1][1].get(name)) for name in names}}
        for first, part in group(served, lambda item: item[0] // width * width).items()
    ]


def timeline_events(rows: list[Row], low: int, high: int) -> Table:
    """Return the single events of each kind, or their number in each of 40 parts of the range."""
    table: Table = []
    for what, marks in _timeline_marks(rows).items():
        some = [(at, which) for at, which in marks if low <= at <= high]
        if len(some) <= MAX_EVENTS_LISTED:
            table += [{"iter": at, "what": what, "which": which, "times": 1} for at, which in some]
            continue
        for part in group(some, lambda mark: (mark[0] - low) * 40 // (high - low + 1)).values():
            first, last = min(part)[0], max(part)[0]
            text = f"{len(part)} events up to iteration {last}"
            table.append({"iter": first, "what": what, "which": text, "times": len(part)})
    return table


def _timeline_marks(rows: list[Row]) -> dict[str, list[tuple[int, str]]]:
    saved = [row for row in counted(rows, "checkpoint.saved") if row.data["kind"] == "accepted"]
    resumed = [row for row in rows if row.kind == "run.resumed" and row.signed and row.rank == 0]
    enabled = group(counted(rows, "adapter.enabled"), lambda row: row.attempt).values()
    reverted = counted(rows, "adapter.reverted")
    return {
        "accepted": [(row.iter_num, row.data["snapshot_id"]) for row in saved],
        "anchor moved": [(row.iter_num, "") for row in counted(rows, "anchor.consolidated")],
        "rollback": [(row.iter_num, row.data["decision_id"]) for row in counted(rows, "rollback.performed")],
        "resumed": [(row.iter_num, f"attempt {row.attempt}") for row in resumed],
        "adapter enabled": [
            (part[0].iter_num, f"{part[0].data['added_params']} parameters") for part in enabled
        ],
        "revert failed": [
            (row.iter_num, "weights differ from those before")
            for row in reverted
            if not row.data["identical"]
        ],
        "ranks differ": [
            (row.iter_num, f"rank {row.rank}") for row in rows if row.kind == "rank.diverged" and row.signed
        ],
        "not finite": [(batch.iter_num, "") for batch in contexts(rows) if not batch.finite],
    }


def log_gaps(rows: list[Row]) -> Table:
    kinds = {"log.gap": "gap", "log.recovered": "recovered", "log.halted": "halted"}
    return [
        {"attempt": row.attempt, "rank": row.rank, "sequence": row.data["sequence"], "kind": kinds[row.kind]}
        for row in rows
        if row.kind in kinds and row.signed
    ]


def attention(rows: list[Row]) -> list[tuple[str, str]]:
    """Return what needs attention in a run, and the page that shows why."""
    summary = run_summary(rows)
    found = [*_rates_outside(rows, summary), *_bad_ends(summary)]
    if summary["nonfinite"]:
        found.append((f"batches with a non-finite loss: {summary['nonfinite']}", "run"))
    if any(row.kind == "adapter.reverted" and not row.data["identical"] and row.signed for row in rows):
        found.append(("disabling the adapter did not restore the base weights", "run"))
    if any(row.kind == "rank.diverged" and row.signed for row in rows):
        found.append(("ranks decided differently", "integrity"))
    found += [
        (f"the log reports missing events: {gap['kind']}", "integrity")
        for gap in log_gaps(rows)
        if gap["kind"] != "recovered"
    ]
    if summary["unsigned_events"]:
        found.append((f"unsigned events are not counted: {summary['unsigned_events']}", "integrity"))
    return sorted(found)


def _rates_outside(rows: list[Row], summary: dict[str, Any]) -> list[tuple[str, str]]:
    if summary["batches"] < MIN_BATCHES:
        return []
    found, rate = [], summary["update_rate"]
    low, high = UPDATE_BANDS.get(summary["policy"], (0, 1))
    if rate is not None and not low <= rate <= high:
        shown = Decimal(repr(100 * rate)).quantize(Decimal("0.1"), ROUND_HALF_UP)
        limits = f"{100 * low:.0f} to {100 * high:.0f} %"
        found.append((f"update rate {shown} % is outside its band of {limits}", "gate"))
    is_shadow = any(row.data["shadow"] for row in memory_decisions(rows, acting=False))
    if summary["evaluations"] >= MIN_EVALUATIONS and summary["accept_rate"] == 0 and not is_shadow:
        text = f"never accepted a checkpoint in {summary['evaluations']} evaluations"
        found.append((text, "memory"))
    return found


def _bad_ends(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if summary["state"] == "UNFINISHED":
        return [("no run.finished event: the run is still active or was killed", "run")]
    return [] if summary["state"] == "COMPLETED" else [(f"ended with {summary['state']}", "run")]


def run_pair(rows: list[Row], other: list[Row]) -> Table:
    names = ("run_id", "policy", "state", "batches", "update_rate", "evaluations", "accept_rate")
    names += ("val_loss", "best_val_loss", "nonfinite", "updated_batches", "optimizer_steps")
    table = []
    for side in (rows, other):
        summary = run_summary(side)
        savings = {name: value for name, value in summary.items() if name.startswith("compute_saved")}
        table.append({**{name: summary[name] for name in names}, **savings})
    return table if rows is not other else table[:1]


def policy_differences(settings: dict[str, Any], other: dict[str, Any]) -> Table:
    """Return the settings in which two policies differ."""
    return [
        {
            "plugin": plugin,
            "setting": name,
            "this_run": settings.get((plugin, name)),
            "other_run": other.get((plugin, name)),
        }
        for plugin, name in {**settings, **other}
        if settings.get((plugin, name)) != other.get((plugin, name))
    ]


def disagreement(rows: list[Row], other: list[Row]) -> Table:
    """Return the verdicts of two runs on the micro-batches that both have."""
    there = {(batch.iter_num, batch.micro_step): batch.updated for batch in contexts(other)}
    both = [
        (batch.iter_num, batch.updated, there[batch.iter_num, batch.micro_step])
        for batch in contexts(rows)
        if (batch.iter_num, batch.micro_step) in there
    ]
    words = {True: "updated", False: "skipped"}
    return [
        {
            "this_run": words[one],
            "other_run": words[two],
            "batches": len(part),
            "share": len(part) / len(both),
            "first_iter": part[0][0],
        }
        for (one, two), part in group(both, lambda item: item[1:]).items()
    ]


def control_decisions(rows: list[Row]) -> Table:
    """Return the decisions about batches of all plugins but the gate."""
    gates = {row.data["plugin"] for row in gate_decisions(rows)}
    some = [
        row
        for row in decisions(rows, acting=False)
        if row.data["hook"] in ("on_batch_start", "on_batch_end") and row.data["plugin"] not in gates
    ]
    table = []
    names = ("plugin", "action", "reason_code", "shadow")
    for key, part in group(some, lambda row: tuple(row.data[name] for name in names)).items():
        values = [to_number(row.data["observed"]) for row in part]
        found = [value for value in values if value is not None and math.isfinite(value)]
        at = [row.iter_num for row in part]
        limits = {"n": len(part), "first_iter": min(at), "last_iter": max(at)}
        table.append({**dict(zip(names, key, strict=True)), **limits, "highest": max(found, default=None)})
    return table
