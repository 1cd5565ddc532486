"""Which runs are there, and which need a look?"""

from __future__ import annotations

import streamlit as st

from dashboard.frame import empty, head, under
from dashboard.source import ask, ask_sql, or_error

summary = or_error(
    ask_sql,
    "select s.*, r.created, r.data from run_summary s join runs r using (run_id) order by r.created desc",
)
attention = or_error(ask, "attention")
rows = summary.rows() if summary is not None else []
looks = attention.rows() if attention is not None else []
need = len({row["run_id"] for row in looks})
told = (
    f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}; {need or 'none'} of them {'needs' if need == 1 else 'need'} a look."
    if rows
    else "No run yet."
)
head("Which runs are there, and which need a look?", told)
if not rows:
    empty()
    st.stop()
newest = rows[0]
st.subheader("The newest run")
st.text(f"{newest['run_id']}: {newest['state']}, policy {newest['policy']}")
percent = lambda value: "-" if value is None else f"{value:.1%}"  # noqa: E731
columns = st.columns(5)
columns[0].metric("Update rate", percent(newest["update_rate"]))
columns[1].metric(
    "Accept rate",
    percent(newest["accept_rate"]),
    f"of {newest['evaluations']} evaluations",
    delta_color="off",
    delta_arrow="off",
)
columns[2].metric(
    "Compute saved",
    percent(newest["compute_saved"]),
    "measured in the run",
    delta_color="off",
    delta_arrow="off",
)
columns[3].metric("Validation loss", "-" if newest["val_loss"] is None else f"{newest['val_loss']:.4f}")
columns[4].metric("Not finite", f"{newest['nonfinite']:,}", "batches", delta_color="off", delta_arrow="off")
st.subheader("Needs a look")
if looks and attention is not None:
    st.dataframe(attention.table, hide_index=True, key="attention")
else:
    st.text("Nothing: every run has ended, is finite, and keeps its band.")
st.subheader("All runs")
shown = summary.table.select(
    [
        "run_id",
        "state",
        "policy",
        "batches",
        "update_rate",
        "evaluations",
        "accept_rate",
        "best_val_loss",
        "compute_saved",
        "created",
    ]
)
picked = st.dataframe(
    shown, hide_index=True, on_select="rerun", selection_mode="single-row", key="runs",
    column_config={name: st.column_config.NumberColumn(format="percent") for name in ("update_rate", "accept_rate", "compute_saved")},
)  # fmt: skip
if picked.selection.rows:
    st.switch_page("screens/run.py", query_params={"run": rows[picked.selection.rows[0]]["run_id"]})
under(summary, "runs")
