"""Rows of the dashboard pages about single decisions."""

from __future__ import annotations

from typing import Any

from tests.oracle.log_lines import Row, decisions, to_number
from tests.oracle.pages import knob_changes, observed

Table = list[dict[str, Any]]


def _row(row: Row) -> dict[str, Any]:
    names = ("plugin", "action", "reason_code", "shadow")
    values = {name: row.data[name] for name in names}
    threshold = to_number(row.data["threshold"])
    return {**values, "observed": observed(row), "threshold": threshold, "decision_id": row.id}


def batch_decisions(rows: list[Row], at: int, on_rank: int) -> Table:
    """Return what one rank decided in an iteration, in order."""
    return [
        {"hook": row.data["hook"], "micro_step": row.data["micro_step"], **_row(row)}
        for row in rows
        if row.kind == "decision.made"
        and row.iter_num == at
        and row.rank == on_rank
        and row.signed
        and not row.superseded
    ]


def recent_decisions(rows: list[Row], low: int, high: int, plugin: str, action: str, shadow: str) -> Table:
    """Return the newest 100 decisions, the newest first. An empty text filters nothing."""
    some = [
        {"iter_num": row.iter_num, **_row(row)}
        for row in decisions(rows, acting=False)
        if low <= row.iter_num <= high
        and plugin in ("", row.data["plugin"])
        and action in ("", row.data["action"])
        and shadow in ("", str(row.data["shadow"]).lower())
    ]
    return some[:-101:-1]


def decision(rows: list[Row], decision_id: str) -> Table:
    return [{"run_id": row.run_id, **_row(row)} for row in rows if row.id == decision_id]


def decisions_by_id_prefix(rows: list[Row], beginning: str) -> Table:
    if len(beginning) < 6:
        return []
    return [
        {"decision_id": row.id, "run_id": row.run_id, "plugin": row.data["plugin"]}
        for row in rows
        if row.kind == "decision.made" and row.id.startswith(beginning)
    ]


def adjacent_decisions(rows: list[Row], decision_id: str) -> Table:
    """Return the signed decisions before and after a decision in its log."""
    here = next(row for row in rows if row.id == decision_id)
    log = [
        row.id
        for row in rows
        if row.kind == "decision.made" and (row.attempt, row.rank) == (here.attempt, here.rank)
        if row.signed or row is here
    ]
    place = log.index(decision_id)
    return [
        {
            "before": log[place - 1] if place else None,
            "after": log[place + 1] if place + 1 < len(log) else None,
        }
    ]


def knob_changes_of_batch(rows: list[Row], at: int, field: str) -> Table:
    """Return the knob before the chain, and after each plugin that changed it in the first micro-batch."""
    changes = [
        change
        for change in knob_changes(rows, field)
        if change[0].iter_num == at and change[0].data["micro_step"] == 0
    ]
    if not changes:
        return []
    table = [{"step": 0, "who": "before the chain", "before": changes[0][1], "after": changes[0][1]}]
    return table + [
        {
            "step": step,
            "who": f"{row.data['plugin']} {row.data['action']}",
            "before": before,
            "after": after,
        }
        for step, (row, before, after) in enumerate(changes, 1)
    ]
