"""Ask the log anything."""

from __future__ import annotations

import streamlit as st

from dashboard.frame import head, under
from dashboard.source import Answer, ask_sql, odr_folder, or_error, runs_folder
from ockham.catalog.views import question, question_names
from ockham.errors import OckhamError
from ockham.guard import Guard
from ockham.odr.tables import tables_of_folder

LIMIT, SECONDS = 10_000, 5.0


@st.cache_resource(show_spinner="Starting the process that answers")
def guard(runs: str, odr: str) -> Guard:
    return Guard(runs, tables_of_folder(odr_folder()), timeout=SECONDS, limit=LIMIT)


head(
    "Ask the log anything.",
    f"One SELECT over the audit views; at most {SECONDS:g} seconds and {LIMIT:,} rows. Nothing can be changed from here.",
)
names = question_names()
asked = st.query_params.get("q", "")
start = (
    question(asked).sql
    if asked in names
    else st.query_params.get(
        "sql",
        "select plugin, action, reason_code, count(*) as n\nfrom decisions group by all order by n desc",
    )
)
left, right = st.columns([3, 1])
with right:
    saved = st.selectbox(
        "Saved question",
        names,
        index=names.index(asked) if asked in names else None,
        format_func=lambda n: question(n).question,
        key="saved",
    )
    if saved and saved != asked:
        st.query_params.from_dict({"q": saved})
        st.rerun()
    views = or_error(ask_sql, 'select view, "column", type, comment from data_dictionary')
    if views is not None:
        listed = sorted({row["view"] for row in views.rows()})
        view = st.selectbox("Columns of", listed, key="view")
        st.dataframe(
            [
                {"column": r["column"], "type": r["type"], "meaning": r["comment"]}
                for r in views.rows()
                if r["view"] == view
            ],
            key="columns",
        )
with left:
    text = st.text_area("SQL", start, height=220, key=f"sql-{asked}")
    wanted = question(asked).parameters if asked in names and text == start else {}
    values = {
        name: st.text_input(f"${name}: {meaning}", key=f"parameter-{name}")
        for name, meaning in wanted.items()
    }
    if st.button("Run", type="primary", key="go") or (
        text and not wanted and {"sql", "q"} & set(st.query_params)
    ):
        try:
            typed = {k: int(v) if v.isdigit() else v for k, v in values.items()}
            answer = guard(str(runs_folder()), str(odr_folder())).query(text, typed)
        except OckhamError as error:
            st.error("This query was not answered.", icon=":material/block:")
            st.code(str(error), language=None)
        else:
            if text != start or not asked:
                st.query_params.from_dict({"sql": text[:4000]})
            if answer.truncated:
                st.warning(f"More than {LIMIT:,} rows: the rest was left out.")
            st.dataframe(answer.table, hide_index=True, key="answer")
            under(Answer(answer.table, text, typed, 0.0), "answer")
