"""List of decisions with plain names, drawn by a light script. Each row is a link to its decision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from dashboard.components.scripts import make_component
from dashboard.words import action_name, knob_name, reason_name


def decision_list(
    rows: Sequence[dict[str, Any]], run_id: str, *, key: str, height: int, description: str
) -> str | None:
    """Show decisions, and return the ID of the one that was opened in this run of the page.

    Args:
        rows: Rows of the page query `recent_decisions`.
        run_id: Run of the decisions.
        key: Key of the widget.
        height: Largest height in pixels.
        description: Description for screen readers.

    """
    message = {
        "rows": [decision_entry(row) for row in rows],
        "address": decision_address(run_id),
        "height": height,
        "description": description,
    }
    result = _component()(key=key, data=message, on_open_change=_no_action)
    opened = result.get("open")
    return None if opened is None else str(opened)


def decision_address(run_id: str) -> str:
    """Return the address of a decision of a run, up to the ID of the decision."""
    return f"decision?{urlencode({'run': run_id, 'decision': ''})}"


def decision_entry(row: dict[str, Any]) -> dict[str, Any]:
    """Return the texts of one decision."""
    return {
        "id": row["decision_id"],
        "iter": f"{row['iter_num']:,}",
        "what": f"{row['plugin']}: {action_name(row['action'])}",
        "reason": reason_name(row["reason_code"]),
        "code": row["reason_code"],
        "values": compare_values(row["observed"], row["threshold"]),
        "changes": [change_text(change) for change in row["changes"] or []],
        "shadow": bool(row["shadow"]),
    }


def change_text(change: str) -> str:
    """Return a change such as "learning_rate: 0.001 -> 0.002" with the plain name of the knob."""
    knob, separator, values = change.partition(": ")
    return f"{knob_name(knob)}{separator}{values}"


def compare_values(observed: float | None, threshold: float | None) -> str:
    """Return value and threshold, such as "0.3351 above 0.25 by 0.08509"."""
    if observed is None:
        return ""
    if threshold is None:
        return f"{observed:.5g}"
    side = "above" if observed > threshold else "below"
    if observed == threshold:
        return f"{observed:.5g}, equal to the threshold"
    return f"{observed:.5g} {side} {threshold:.5g} by {abs(observed - threshold):.4g}"


def _no_action() -> None:
    """Register the trigger. The page reads it from the result."""


@functools.cache
def _component() -> Callable[..., Any]:
    return make_component("decision_list")
