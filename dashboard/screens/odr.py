"""Which decisions of people are on record, and do they still hold?"""

from __future__ import annotations

import streamlit as st

from dashboard.frame import head, under
from dashboard.source import ask_sql, odr_folder, or_error

records = or_error(
    ask_sql,
    "select odr_id, title, status, date, claimed_verdict, claimed_oq_delta, errors, warnings, path from odrs order by odr_id",
)
rows = records.rows() if records is not None else []
wrong = sum(1 for row in rows if row["errors"])
head(
    "Which decisions of people are on record?",
    f"{len(rows)} records, {wrong or 'none'} of them with errors." if rows else "No record yet.",
)
if records is None or not rows:
    st.code(f'ockham odr --dir {odr_folder()} new "Move to preset tight" --candidate RUN', language="bash")
    st.stop()
st.dataframe(records.table, hide_index=True, key="odrs")
under(records, "odrs")
chosen = st.selectbox("Record", [row["odr_id"] for row in rows], key="odr")
for title, sql in (
    (
        "Constraints",
        "select constraint_id, text, op, threshold, claimed_value, value, state, sql from odr_constraints where odr_id = $id",
    ),
    (
        "Evidence",
        "select side, run_id, attempt, rank, through_sequence, root, decision_id from odr_evidence where odr_id = $id",
    ),
    ("Findings", "select code, severity, line, message from odr_findings where odr_id = $id"),
):
    found = or_error(ask_sql, sql, id=chosen)
    if found is not None:
        st.subheader(title)
        if found.table.num_rows:
            st.dataframe(found.table, hide_index=True, key=title)
        else:
            st.text("None.")
st.text("Constraints are judged by:")
st.code("ockham odr check", language="bash")
