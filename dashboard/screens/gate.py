"""Does the gate keep its rate, and how close are its verdicts?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, section, under
from dashboard.source import ask, or_error

run_id = choose_run()
if run_id is None:
    st.stop()


def answer(row: dict[str, Any]) -> str:
    """One sentence."""
    rate, low, high, saved = (
        row.get(name) for name in ("update_rate", "update_low", "update_high", "compute_saved")
    )
    if rate is None:
        return "No batch has been judged yet."
    if low is None or high is None:
        told = f"{rate:.1%} of the finite batches updated; the policy promises no rate"
    else:
        told = f"{rate:.1%} of the finite batches updated: {'inside' if low <= rate <= high else 'outside'} the promised {low:.0%} to {high:.0%}"
    return told + (f"; the skips saved {saved:.1%} of the compute, measured." if saved is not None else ".")


def closeness() -> None:
    """Margins, and what other thresholds would have given."""
    left, right = st.columns(2)
    margins, curve = or_error(ask, "margins", run=run_id), or_error(ask, "thresholds_of", run=run_id)
    with left:
        if margins is not None:
            section("How close the verdicts were", "Right of zero a batch is worth an update.")
            chart(
                lambda: charts.margin_histogram(margins.table), margins, "margins",
                "Loss minus threshold of every batch, by verdict; the outermost bars hold all that is farther out.",
            )  # fmt: skip
    with right:
        if curve is not None:
            section(
                "Other fixed thresholds",
                "A replay of the logged losses, not a run trained anew: another gate trains another model.",
            )
            chart(
                lambda: charts.threshold_curve(curve.table),
                curve,
                "thresholds",
                "Update rate at other fixed thresholds over the logged losses.",
            )
    st.code(f"ockham whatif {run_id} --set gate.target=0.4", language="bash")


def draw() -> None:
    """Rate, margins, reasons, longest rows of skips."""
    bands = or_error(ask, "bands_of", run=run_id)
    row = next(iter(bands.rows()), {}) if bands is not None else {}
    head("Does the gate keep its rate?", answer(row))
    found = or_error(ask, "gate_bins", run=run_id)
    if found is not None:
        section("Update rate over the run")
        chart(
            lambda: charts.rate_band(found.table, row.get("update_low"), row.get("update_high")), found, "rate",
            "Update rate in fortieths of the run with its 95 % interval (Wilson); the green band is what the policy promises.",
        )  # fmt: skip
    closeness()
    reasons, streaks = or_error(ask, "gate_reasons", run=run_id), or_error(ask, "skip_streaks", run=run_id)
    left, right = st.columns([3, 2])
    with left:
        if reasons is not None:
            section("Reasons")
            st.dataframe(
                reasons.table,
                hide_index=True,
                key="reasons",
                column_config={"share": st.column_config.NumberColumn(format="percent")},
            )
            under(reasons, "reasons")
    with right:
        if streaks is not None:
            section("Longest rows of skips")
            st.dataframe(streaks.table, hide_index=True, key="streaks", height=248)
            under(streaks, "streaks")


follow(draw, run_id)
