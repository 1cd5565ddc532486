"""What happened in this run?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, span
from dashboard.source import ask, ask_sql, or_error

run_id = choose_run()
if run_id is None:
    st.stop()
limits = span(run_id)
if limits is None:
    st.stop()
low, high = limits


def draw() -> None:
    """Lanes on one axis."""
    summary = or_error(ask_sql, "select * from run_summary where run_id = $run", run=run_id)
    row = summary.rows()[0] if summary is not None else {}
    rate = row.get("update_rate")
    told = (
        f"{run_id}: {row.get('state')}; {row.get('batches'):,} batches, {rate:.1%} of them updated, {row.get('accepted')} checkpoints accepted"
        if rate is not None
        else run_id
    )
    loss = row.get("val_loss")
    head("What happened in this run?", told + (f", validation loss {loss:.4f}." if loss is not None else "."))
    bins, marks = (
        or_error(ask, "run_bins", run=run_id, low=low, high=high),
        or_error(ask, "marks", run=run_id),
    )
    if bins is not None and marks is not None:
        st.subheader("Loss and the gate's threshold")
        chart(
            charts.loss_lane(bins.table, marks.table),
            bins,
            "loss",
            f"Median loss and range of {bins.table.num_rows} bins; the dashed line is the threshold from which a batch is worth an update; rules are events.",
        )
    lanes = or_error(ask, "plugin_bins", run=run_id, low=low, high=high)
    if lanes is not None:
        st.subheader("Who acted when")
        chart(
            charts.plugin_lane(lanes.table),
            lanes,
            "plugins",
            "One strip for each plugin and action; the darker, the more decisions.",
        )
    if bins is not None:
        st.subheader("Learning rate and lambda")
        chart(
            charts.lines(
                bins.table,
                {"scheduled_rate": (charts.NEUTRAL, [4, 2]), "learning_rate": (charts.UPDATE, [1, 0])},
                "learning rate",
            ),
            bins,
            "rate",
            "Scheduled learning rate (dashed) and as the chain left it.",
        )
        chart(
            charts.lines(
                bins.table,
                {"drift": (charts.UPDATE, [1, 0]), "drift_high": (charts.SKIP, [4, 2])},
                "relative drift",
            ),
            bins,
            "drift",
            "Relative drift from the anchor: median and highest of each bin.",
        )
    recent = or_error(ask, "recent", run=run_id)
    if recent is not None:
        st.subheader("The last decisions")
        picked = st.dataframe(
            recent.table, hide_index=True, on_select="rerun", selection_mode="single-row", key="recent"
        )
        if picked.selection.rows:
            st.switch_page(
                "screens/decision.py",
                query_params={"decision": recent.rows()[picked.selection.rows[0]]["decision_id"]},
            )


follow(draw, run_id)
