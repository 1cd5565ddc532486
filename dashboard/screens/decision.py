"""What was decided here, and why?"""

from __future__ import annotations

import re

import streamlit as st

from dashboard.frame import choose_run, head, under
from dashboard.source import ask, ask_sql, or_error

ID = re.compile(r"[0-9a-f-]{36}")
asked = st.query_params.get("decision")
if asked is None:
    head("What was decided here, and why?", "Choose an iteration, or give the ID of a decision.")
    typed = st.text_input("Decision ID", key="decision-id").strip().lower()
    run_id = choose_run()
    if typed:
        st.query_params["decision"] = typed
        st.rerun()
    if run_id is None:
        st.stop()
    iteration = st.number_input("Iteration", 0, key="iteration")
    batch = or_error(ask, "chain_of_batch", run=run_id, iter=int(iteration))
    if batch is not None and batch.table.num_rows:
        picked = st.dataframe(
            batch.table, hide_index=True, on_select="rerun", selection_mode="single-row", key="batch"
        )
        if picked.selection.rows:
            st.query_params["decision"] = batch.rows()[picked.selection.rows[0]]["decision_id"]
            st.rerun()
    elif batch is not None:
        st.info("Nothing was decided at this iteration.")
    st.stop()
found = or_error(ask, "decision", id=asked) if ID.fullmatch(asked) else None
rows = found.rows() if found is not None else []
if found is None or not rows:
    head("What was decided here, and why?", "The decision that this address names is not in the logs here.")
    st.code(asked[:200], language=None)
    st.stop()
row = rows[0]
number = lambda value: "-" if value is None else f"{value:.6g}"  # noqa: E731
against = (
    f": {number(row['observed'])} against {number(row['threshold'])}" if row["observed"] is not None else ""
)
shadow = " It stood in shadow, so nothing changed." if row["shadow"] else ""
head(
    "What was decided here, and why?",
    f"At iteration {row['iter_num']} {row['plugin']} said {row['action']} because {row['reason_code']}{against}.{shadow}",
)
if row["meaning"]:
    st.text(row["meaning"])
columns = st.columns(3)
columns[0].metric("Observed", number(row["observed"]))
columns[1].metric("Threshold", number(row["threshold"]))
columns[2].metric("Margin", number(row["margin"]))
if row["observed"] is not None and row["margin"] is not None:
    st.text(
        f"With a threshold on the other side of {number(row['observed'])}, {number(abs(row['margin']))} away, it would have been decided otherwise."
    )
st.subheader("The whole chain of this batch")
chain = or_error(ask, "chain_of_batch", run=row["run_id"], iter=row["iter_num"])
if chain is not None:
    st.dataframe(chain.table, hide_index=True, key="chain")
    under(chain, "chain")
around = or_error(
    ask_sql, "select (select arg_max(decision_id, sequence) from decisions where run_id = $run and attempt = $attempt and rank = $rank and sequence < $sequence) as before, "
    "(select arg_min(decision_id, sequence) from decisions where run_id = $run and attempt = $attempt and rank = $rank and sequence > $sequence) as after",
    run=row["run_id"], attempt=row["attempt"], rank=row["rank"], sequence=row["sequence"],
)  # fmt: skip
if around is not None:
    left, right = st.columns(2)
    beside = around.rows()[0]
    for column, label, key in ((left, "Decision before", "before"), (right, "Decision after", "after")):
        if column.button(label, disabled=beside[key] is None, key=key):
            st.query_params["decision"] = beside[key]
            st.rerun()
st.subheader("Where it stands")
st.code("\n".join([
    f"decision  {row['decision_id']}", f"run       {row['run_id']}, attempt {row['attempt']}, rank {row['rank']}, sequence {row['sequence']}",
    f"policy    {row['policy_revision']}", f"proof     ockham prove {row['decision_id']} -o decision.proof",
]), language=None)  # fmt: skip
cited = or_error(
    ask_sql, "select odr_id, side from odr_evidence where decision_id = $id", id=row["decision_id"]
)
if cited is not None:
    st.text("Cited by: " + (", ".join(r["odr_id"] for r in cited.rows()) or "no decision record"))
