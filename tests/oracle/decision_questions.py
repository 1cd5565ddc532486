"""Saved questions about decisions, checkpoints and whole runs, by their definitions."""

from __future__ import annotations

import math
from typing import Any

from tests.oracle.figures import evaluation_losses, memory_decisions, ratio, run_summary, state
from tests.oracle.log_lines import Row, contexts, counted, decisions, plugin_names, to_number
from tests.oracle.pages import observed
from tests.oracle.savings import compute_savings
from tests.oracle.statistics import finite, group, largest, mean, median

Table = list[dict[str, Any]]
Runs = dict[str, list[Row]]

_FAILED_GATES = {
    "REJECTED_NONFINITE": "finite",
    "REJECTED_QUALITY": "quality",
    "REJECTED_COMPLEXITY": "complexity",
    "REJECTED_OQ_INSUFFICIENT": "efficiency",
    "REJECTED_NO_COST": "efficiency",
    "REJECTED_NO_PERFORMANCE": "efficiency",
    "INVALID_BASELINE": "baseline",
    "REJECTED_INCOMPARABLE": "baseline",
}


def number(row: Row, name: str) -> Any:
    """Return one of the numbers of a decision."""
    return to_number(row.data["numbers"].get(name))


def accepts(row: Row) -> bool:
    return row.data["action"] == "ACCEPT"


def decisions_by_reason(runs: Runs) -> Table:
    return _count(runs, ("plugin", "action", "reason_code", "shadow"), acting=False)


def shadow(runs: Runs) -> Table:
    table = _count(runs, ("plugin", "action", "reason_code", "shadow"), acting=False)
    return [{k: v for k, v in row.items() if k != "shadow"} for row in table if row["shadow"]]


def _count(runs: Runs, columns: tuple[str, ...], *, acting: bool) -> Table:
    return [
        {"run_id": run_id, **dict(zip(columns, key, strict=True)), "n": len(some)}
        for run_id, rows in runs.items()
        for key, some in group(
            decisions(rows, acting=acting), lambda row: tuple(row.data[name] for name in columns)
        ).items()
    ]


def consolidations(runs: Runs) -> Table:
    return [
        {
            "run_id": run_id,
            "iter_num": row.iter_num,
            "plugin": row.data["plugin"],
            "action": row.data["action"],
            "reason_code": row.data["reason_code"],
        }
        for run_id, rows in runs.items()
        for row in decisions(rows)
        if row.data["hook"] == "on_evaluate" and row.data["action"] in ("ALLOW", "REFUSE")
    ]


def anchor_moves(runs: Runs) -> Table:
    return [
        {
            "run_id": run_id,
            "attempt": row.attempt,
            "iter_num": row.iter_num,
            "drift": to_number(row.data["drift"]),
            "val_loss": to_number(row.data["val_loss"]),
            "decision_id": row.data["decision_id"],
        }
        for run_id, rows in runs.items()
        for row in counted(rows, "anchor.consolidated")
    ]


def knob_turns(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        changes = [
            (row.data["plugin"], change["field"], to_number(change["before"]), to_number(change["after"]))
            for row in decisions(rows)
            for change in row.data["changes"]
            if not isinstance(change["before"], bool)
        ]
        for (plugin, field), some in group(changes, lambda change: change[:2]).items():
            factors = [after / before for *_, before, after in some if before]
            table.append(
                {
                    "run_id": run_id,
                    "plugin": plugin,
                    "field": field,
                    "turns": len(some),
                    "least_factor": min(factors, default=None),
                    "median_factor": median(factors),
                    "greatest_factor": max(factors, default=None),
                }
            )
    return table


def refusals(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        verdicts = memory_decisions(rows)
        gates = group(verdicts, lambda row: _FAILED_GATES.get(row.data["reason_code"], "accepted"))
        table += [
            {"run_id": run_id, "gate": gate, "n": len(some), "share": len(some) / len(verdicts)}
            for gate, some in gates.items()
        ]
    return table


def near_misses(runs: Runs) -> Table:
    found = [
        {
            "run_id": run_id,
            "iter_num": row.iter_num,
            "missing": missing,
            "loss": number(row, "loss"),
            "decision_id": row.id,
        }
        for run_id, rows in runs.items()
        for row in memory_decisions(rows)
        if row.data["reason_code"] == "REJECTED_OQ_INSUFFICIENT"
        and math.isfinite(
            missing := number(row, "efficiency_limit") - (number(row, "oq") / number(row, "oq_baseline") - 1)
        )
    ]
    return sorted(found, key=lambda row: (row["missing"], row["run_id"], row["iter_num"]))[:20]


def oq_trend(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        verdicts = memory_decisions(rows, acting=False)
        first = next(iter(finite(number(row, "oq") for row in verdicts)), None)
        table += [
            {
                "run_id": run_id,
                "iter_num": row.iter_num,
                "loss": number(row, "loss"),
                "gain": None if first is None else number(row, "oq") / first - 1,
                "accepted": accepts(row) and not row.data["shadow"],
                "failed_gate": _FAILED_GATES.get(row.data["reason_code"]),
                "shadow": row.data["shadow"],
            }
            for row in verdicts
        ]
    return table


def savings(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        summary, verdicts = run_summary(rows), memory_decisions(rows)
        quotients = [number(row, "oq") for row in verdicts if accepts(row)]
        estimate = compute_savings(rows)
        table.append(
            {
                "run_id": run_id,
                "policy": summary["policy"],
                "skipped": ratio(summary["skipped_batches"], summary["batches"]),
                **{name: estimate[name] for name in estimate if name != "seconds_saved"},
                "saves_avoided": ratio(
                    sum(not accepts(row) for row in verdicts), len(evaluation_losses(rows))
                ),
                "oq_gain": quotients[-1] / quotients[0] - 1 if quotients else None,
                "best_val_loss": summary["best_val_loss"],
            }
        )
    return table


def limiter_occasions(rows: list[Row]) -> dict[tuple[str, int], set[tuple[int, int]]]:
    """Return the places where the limiter can act, by hook and window of 100 iterations."""
    places: dict[tuple[str, int], set[tuple[int, int]]] = {}
    for batch in contexts(rows):
        window = batch.iter_num // 100 * 100
        if batch.updated:
            places.setdefault(("on_batch_start", window), set()).add((batch.iter_num, batch.micro_step))
        if any(name in batch.measured for name in ("grad_norm", "complexity_cost", "drift_raw")):
            places.setdefault(("on_batch_end", window), set()).add((batch.iter_num, 0))
    return places


def limiter_storms(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        names, occasions = plugin_names(rows, "limiter"), limiter_occasions(rows)
        caps = [
            row
            for row in decisions(rows)
            if row.data["plugin"] in names and row.data["hook"] in ("on_batch_start", "on_batch_end")
        ]
        windows = group(
            caps, lambda row: (row.data["hook"], row.data["reason_code"], row.iter_num // 100 * 100)
        )
        for (hook, reason, first), some in windows.items():
            places = occasions[hook, first]
            hits = {(row.iter_num, row.data["micro_step"] if hook == "on_batch_start" else 0) for row in some}
            assert hits <= places
            if 2 * len(hits) > len(places):
                limits = [(observed(row), to_number(row.data["threshold"])) for row in some]
                table.append(
                    {
                        "run_id": run_id,
                        "reason_code": reason,
                        "hook": hook,
                        "from_iter": first,
                        "occasions": len(places),
                        "hits": len(hits),
                        "share": len(hits) / len(places),
                        "worst": largest(finite(value / cap - 1 for value, cap in limits if cap)),
                    }
                )
    return table


def actions_by_phase(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        batches = contexts(rows)
        if not batches:
            continue
        planned = max(
            (row.data["given"].get("max_iters", 0) for row in counted(rows, "context.recorded")), default=0
        )
        steps = max(planned, max(batch.iter_num for batch in batches) + 1)
        acting = decisions(rows)

        def phase(row: Row, steps: int = steps) -> tuple[int, str]:
            return min(row.iter_num * 4 // steps, 3) + 1, row.data["plugin"]

        for (quarter, plugin), some in group(acting, phase).items():
            for action, part in group(some, lambda row: row.data["action"]).items():
                table.append(
                    {
                        "run_id": run_id,
                        "quarter": quarter,
                        "plugin": plugin,
                        "action": action,
                        "n": len(part),
                        "share_of_plugin": len(part) / len(some),
                        "first_iter": min(row.iter_num for row in part),
                        "last_iter": max(row.iter_num for row in part),
                    }
                )
    return table


def knob_conflicts(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        pulls = [
            (row, change["field"], to_number(change["after"]) / to_number(change["before"]))
            for row in decisions(rows)
            if row.data["hook"] in ("on_batch_start", "on_batch_end")
            for change in row.data["changes"]
            if not isinstance(change["before"], bool) and to_number(change["before"])
        ]
        pairs = []
        same = group(pulls, lambda pull: (pull[0].iter_num, pull[0].data["micro_step"], pull[1]))
        for (iter_num, micro_step, field), some in same.items():
            for up, _, raised in some:
                for down, _, lowered in some:
                    if raised > 1 > lowered:
                        key = field, up.data["plugin"], down.data["plugin"]
                        pairs.append((key, (iter_num, micro_step), raised, lowered))
        for (field, up, down), some in group(pairs, lambda pair: pair[0]).items():
            table.append(
                {
                    "run_id": run_id,
                    "field": field,
                    "raised_by": up,
                    "lowered_by": down,
                    "batches": len({pair[1] for pair in some}),
                    "median_up_factor": median(pair[2] for pair in some),
                    "median_down_factor": median(pair[3] for pair in some),
                }
            )
    return table


def checkpoint_costs(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        summary, batches = run_summary(rows), contexts(rows)
        if not batches:
            continue
        seconds = math.fsum(value for batch in batches for value in batch.seconds.values())
        seconds += math.fsum(row.data["seconds"] for row in counted(rows, "evaluation.recorded"))
        megabytes = sum(
            file["bytes"] / 1e6
            for row in counted(rows, "checkpoint.saved")
            if row.data["kind"] == "accepted"
            for file in row.data["files"]
        )
        accepted = summary["accepted"]
        table.append(
            {
                "run_id": run_id,
                "accepted": accepted,
                "evaluations": summary["evaluations"],
                "batches": len(batches),
                "optimizer_steps": summary["optimizer_steps"],
                "seconds": seconds,
                "megabytes": megabytes,
                "batches_each": ratio(len(batches), accepted),
                "steps_each": ratio(summary["optimizer_steps"], accepted),
                "seconds_each": ratio(seconds, accepted),
                "megabytes_each": ratio(megabytes, accepted),
            }
        )
    return table


def rank_losses(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        pairs = [
            (row.rank, to_number(row.data["given"]["rank_loss"]), to_number(row.data["given"]["task_loss"]))
            for row in rows
            if row.kind == "context.recorded"
            and row.signed
            and not row.superseded
            and row.data["hook"] == "batch"
            and row.data["given"].get("rank_loss") is not None
        ]
        for rank, some in group(pairs, lambda pair: pair[0]).items():
            losses = finite(loss for _, loss, _ in some)
            differences = finite(loss - shared for _, loss, shared in some)
            table.append(
                {
                    "run_id": run_id,
                    "rank": rank,
                    "batches": len(some),
                    "nonfinite": len(some) - len(losses),
                    "mean_loss": mean(losses),
                    "mean_difference": mean(differences),
                    "largest_difference": max(map(abs, differences), default=None),
                }
            )
    return table


def trouble(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        nonfinite = sum(not batch.finite for batch in contexts(rows))
        if nonfinite:
            table.append({"run_id": run_id, "kind": "not finite", "n": nonfinite})
        if state(rows) == "UNFINISHED":
            table.append({"run_id": run_id, "kind": "no end in the log", "n": 1})
    return table


def unexplained(runs: Runs) -> Table:
    table = []
    for run_id, rows in runs.items():
        changes = [
            (row.data["plugin"], row.data["hook"], change["field"])
            for row in decisions(rows)
            if row.data["reason_code"] == "UNEXPLAINED"
            for change in row.data["changes"]
        ]
        table += [
            {"run_id": run_id, "plugin": plugin, "hook": hook, "field": field, "n": len(some)}
            for (plugin, hook, field), some in group(changes, lambda change: change).items()
        ]
    return table
