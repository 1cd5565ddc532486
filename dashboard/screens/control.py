"""What did compressor and limiter turn?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, head, span, under
from dashboard.source import ask, ask_sql, or_error

run_id = choose_run()
if run_id is None:
    st.stop()
turns = or_error(
    ask_sql,
    "select plugin, action, reason_code, shadow, count(*) as n, min(iter_num) as first_iter, max(iter_num) as last_iter, max(observed) as highest from decisions where run_id = $run and not superseded and hook in ('on_batch_start', 'on_batch_end') and plugin not in (select plugin from gate_decisions where run_id = $run) group by all order by n desc",
    run=run_id,
)
count = sum(row["n"] for row in turns.rows()) if turns is not None else 0
most = turns.rows()[0] if turns is not None and turns.rows() else None
head(
    "What did compressor and limiter turn?",
    f"{count:,} decisions besides the gate's; most of them {most['plugin']} {most['reason_code']}."
    if most
    else "Nothing but the gate has decided anything.",
)
limits = span(run_id)
if limits is None:
    st.stop()
bins = or_error(ask, "run_bins", run=run_id, low=limits[0], high=limits[1])
if bins is not None:
    st.subheader("Learning rate: scheduled, and as it was used")
    chart(
        charts.lines(
            bins.table,
            {"scheduled_rate": (charts.NEUTRAL, [4, 2]), "learning_rate": (charts.UPDATE, [1, 0])},
            "learning rate",
        ),
        bins,
        "rates",
        "The dashed line is the schedule.",
    )
    left, right = st.columns(2)
    with left:
        st.subheader("Drift")
        chart(
            charts.lines(
                bins.table,
                {"drift": (charts.UPDATE, [1, 0]), "drift_high": (charts.SKIP, [4, 2])},
                "relative drift",
            ),
            bins,
            "drifts",
            "Median and highest drift of each bin; it falls to zero where the anchor moves.",
        )
    with right:
        st.subheader("Gradient norm")
        chart(
            charts.lines(
                bins.table,
                {"grad_norm": (charts.UPDATE, [1, 0]), "grad_norm_high": (charts.SKIP, [4, 2])},
                "gradient norm",
                log=True,
            ),
            bins,
            "norms",
            "Median and highest gradient norm of each bin before clipping, on a log axis.",
        )
if turns is not None:
    st.subheader("By plugin and reason")
    st.dataframe(turns.table, hide_index=True, key="turns")
    under(turns, "turns")
