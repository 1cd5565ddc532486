"""Figures of one run, each by its definition in docs/figures.md, from the rows of its logs."""

from __future__ import annotations

import math
from typing import Any

from tests.oracle.log_lines import Row, contexts, counted, decisions, plugin_names, to_number
from tests.oracle.savings import compute_savings

_ONLY_IN_RUN_SAVINGS = ("seconds_saved", "chain_share")


def run_summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures of `run_summary` that need no estimate."""
    batches = contexts(rows)
    finite = [batch for batch in batches if batch.finite]
    updated = [batch for batch in finite if batch.updated]
    steps = {batch.iter_num for batch in batches}
    stepped = {batch.iter_num for batch in batches if batch.stepped}
    losses = evaluation_losses(rows)
    finite_losses = [loss for loss in losses if math.isfinite(loss)]
    accepted = [row for row in memory_decisions(rows) if row.data["action"] == "ACCEPT"]
    return {
        "run_id": rows[0].run_id,
        "state": state(rows),
        "policy": max(
            (row for row in rows if row.kind == "policy.loaded" and row.signed), key=lambda row: row.attempt
        ).data["policy"],
        "batches": len(batches),
        "finite_batches": len(finite),
        "updated_batches": len(updated),
        "skipped_batches": len(batches) - len(updated),
        "optimizer_steps": len(stepped),
        "skipped_steps": len(steps - stepped),
        "update_rate": ratio(len(updated), len(finite)),
        "evaluations": len(losses),
        "accepted": len(accepted),
        "accept_rate": ratio(len(accepted), len(finite_losses)),
        "val_loss": losses[-1] if losses else None,
        "best_val_loss": min(finite_losses, default=None),
        "occam_quotient": last_quotient(rows),
        "nonfinite": len(batches) - len(finite),
        **{name: value for name, value in compute_savings(rows).items() if name not in _ONLY_IN_RUN_SAVINGS},
        "last_iter": max((batch.iter_num for batch in batches), default=None),
        "decisions": len(decisions(rows)),
        "shadow_decisions": len(decisions(rows, acting=False)) - len(decisions(rows)),
        "decisions_all_ranks": sum(
            row.kind == "decision.made" and row.signed and not row.superseded for row in rows
        ),
        "unsigned_events": sum(not row.signed for row in rows),
    }


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def state(rows: list[Row]) -> str:
    """Return the reason code of the end of the newest attempt."""
    signed = [row for row in rows if row.signed]
    newest = max(row.attempt for row in signed if row.kind in ("run.started", "run.resumed"))
    ends = [row for row in signed if row.kind == "run.finished" and row.attempt == newest]
    return ends[0].data["reason_code"] if ends else "UNFINISHED"


def evaluation_losses(rows: list[Row]) -> list[float]:
    return [to_number(row.data["val_loss"]) for row in counted(rows, "evaluation.recorded")]


def memory_decisions(rows: list[Row], *, acting: bool = True) -> list[Row]:
    """Return the counted verdicts of the memory."""
    names = plugin_names(rows, "memory")
    return [row for row in decisions(rows, acting=acting) if row.data["plugin"] in names]


def last_quotient(rows: list[Row]) -> float | None:
    """Return the quotient that the last evaluation measured."""
    measured = [batch.measured.get("occam_quotient") for batch in contexts(rows, "on_evaluate")]
    return to_number(measured[-1]) if measured else None
