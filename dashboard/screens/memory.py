"""Which checkpoints were kept, and did the Occam Quotient rise?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, under
from dashboard.source import ask, ask_sql, or_error

run_id = choose_run()
if run_id is None:
    st.stop()


def draw() -> None:
    """Funnel, trend, frontier, near misses."""
    points = or_error(ask, "memory_points", run=run_id)
    rows = points.rows() if points is not None else []
    accepted = [row for row in rows if row["accepted"]]
    gain = accepted[-1]["gain"] if accepted else None
    told = f"{len(accepted)} of {len(rows)} candidates were kept" + (
        f"; the last one's quotient is {gain:+.1%} against the first." if gain is not None else "."
    )
    head("Which checkpoints were kept, and did the Occam Quotient rise?", told)
    st.caption(
        "At a fixed architecture OQ is 1/loss times a constant; across sizes it favours tiny models. Read it beside the loss."
    )
    funnel = or_error(ask, "funnel", run=run_id)
    left, right = st.columns([1, 2])
    with left:
        if funnel is not None:
            st.subheader("Through the gates")
            chart(charts.funnel(funnel.table), funnel, "funnel", "Candidates left after each gate.")
    with right:
        if points is not None:
            st.subheader("OQ against the first accepted")
            chart(
                charts.oq_trend(points.table),
                points,
                "oq",
                "Each point is a candidate; shape and colour say which gate refused it, or that it was kept.",
            )
    if points is not None:
        st.subheader("Loss against drift")
        chart(charts.pareto(points.table), points, "pareto", "Lower left is better in both.")
    near = or_error(
        ask_sql,
        "select iter_num, loss, oq_improvement, oq_limit, oq_limit - oq_improvement as missing, decision_id from memory_decisions where run_id = $run and failed_gate = 'efficiency' and not superseded order by missing limit 10",
        run=run_id,
    )
    if near is not None:
        st.subheader("Near misses at the efficiency gate")
        st.dataframe(near.table, hide_index=True, key="near")
        under(near, "near")


follow(draw, run_id)
