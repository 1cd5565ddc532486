"""Does the gate keep its rate, and how close are its verdicts?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, under
from dashboard.source import ask, ask_saved, or_error

run_id = choose_run()
if run_id is None:
    st.stop()


def draw() -> None:
    """Rate, margins, what other thresholds would have given, longest rows of skips."""
    bands = or_error(ask_saved, "bands")
    row = next((r for r in bands.rows() if r["run_id"] == run_id), {}) if bands is not None else {}
    rate, low, high = row.get("update_rate"), row.get("update_low"), row.get("update_high")
    if rate is None:
        told = "No batch has been judged yet."
    elif low is None:
        told = f"{rate:.1%} of the finite batches updated; the policy promises no rate."
    else:
        told = f"{rate:.1%} of the finite batches updated: {'inside' if low <= rate <= high else 'outside'} the promised {low:.0%} to {high:.0%}."
    head("Does the gate keep its rate?", told)
    found = or_error(ask, "gate_bins", run=run_id)
    if found is not None:
        st.subheader("Update rate over the run")
        chart(
            charts.rate_band(found.table, low, high),
            found,
            "rate",
            "Update rate in fortieths of the run with its 95 % interval; the green band is what the policy promises.",
        )
    left, right = st.columns(2)
    margins, curve = or_error(ask, "margins", run=run_id), or_error(ask_saved, "thresholds")
    with left:
        if margins is not None:
            st.subheader("How close the verdicts were")
            chart(
                charts.margin_histogram(margins.table),
                margins,
                "margins",
                "Loss minus threshold of every batch; right of zero it was updated.",
            )
    with right:
        if curve is not None:
            st.subheader("Other fixed thresholds")
            import pyarrow.compute as pc

            own = curve._replace(table=curve.table.filter(pc.equal(curve.table["run_id"], run_id)))
            chart(
                charts.threshold_curve(own.table),
                own,
                "thresholds",
                "Update rate at other fixed thresholds: a replay of the logged losses, not a run trained anew.",
            )
            st.caption("A replay of the logged losses: another gate would have trained another model.")
    streaks = or_error(ask, "skip_streaks", run=run_id)
    if streaks is not None:
        st.subheader("Longest rows of skips")
        st.dataframe(streaks.table, hide_index=True, key="streaks")
        under(streaks, "streaks")


follow(draw, run_id)
