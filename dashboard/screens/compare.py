"""In what do two runs differ?"""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, head, under
from dashboard.source import ask, or_error

run_id = choose_run()
other = choose_run("vs") if run_id else None
if run_id is None or other is None:
    st.stop()
if run_id == other:
    head("In what do two runs differ?", "Choose another run to set beside this one.")
    st.stop()
both = or_error(ask, "compare", run=run_id, other=other)
rows = both.rows() if both is not None else []
if both is None or len(rows) != 2:
    st.stop()
one, two = rows
better = "neither"
if one["best_val_loss"] is not None and two["best_val_loss"] is not None:
    better = one["run_id"] if one["best_val_loss"] < two["best_val_loss"] else two["run_id"]
same = one["data_sha256"] == two["data_sha256"]
head(
    "In what do two runs differ?",
    f"The lower validation loss is that of {better}; the data are {'the same' if same else 'NOT the same, so the losses do not compare'}.",
)
text = lambda value: "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)  # noqa: E731
fields = [name for name in both.table.column_names if name != "run_id"]
st.dataframe(
    pa.table({"": fields, one["run_id"]: [text(one[f]) for f in fields], f"{two['run_id']} ": [text(two[f]) for f in fields],
              "differs": ["yes" if one[f] != two[f] else "" for f in fields]}), hide_index=True, key="fields",
)  # fmt: skip
under(both, "compare")
losses = or_error(ask, "overlay", run=run_id, other=other)
if losses is not None:
    st.subheader("Validation loss")
    chart(
        charts.overlay(losses.table),
        losses,
        "overlay",
        "Validation losses of both runs at their evaluations.",
    )
st.subheader("Keep the answer")
st.text("Begin a decision record with both runs as evidence:")
st.code(
    f'ockham odr new "{other} instead of {run_id}" --baseline {run_id} --candidate {other}', language="bash"
)
