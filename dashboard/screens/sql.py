"""SQL page: query the logs with SQL."""

from __future__ import annotations

import base64
import binascii
import threading
import time
import zlib
from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult, odr_folder, query_or_error, run_sql, runs_folder
from dashboard.layout import page_header, query_details, section
from dashboard.style import UPDATE, themed
from dashboard.tables import data_table
from ockham.catalog.views import load_question, question_names
from ockham.errors import OckhamError
from ockham.guard import Guard
from ockham.odr.arrow_tables import load_odr_tables

MAX_RESULT_ROWS = 10_000
QUERY_TIMEOUT_SECONDS = 5.0
MAX_SQL_CHARACTERS = 20_000
MAX_CHART_ROWS = 1_000
CHART_MARKS = ("bar", "line", "point")
START_SQL = "select plugin, action, reason_code, count(*) as n\nfrom decisions group by all order by n desc"


@st.cache_resource(
    show_spinner="Starting the query process", max_entries=4, on_release=lambda pair: pair[0].close()
)
def cached_guard(runs: str, odr: str) -> tuple[Guard, threading.Lock]:
    """Return the guard of all sessions, and the lock that serializes its queries."""
    tables = load_odr_tables(odr_folder(), runs=runs_folder())
    return Guard(runs, tables, timeout=QUERY_TIMEOUT_SECONDS, limit=MAX_RESULT_ROWS), threading.Lock()


def encode_sql(text: str) -> str:
    """Return SQL as a compressed URL parameter."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def decode_sql(parameter: str) -> str:
    """Return the SQL of a URL parameter. A parameter that is not compressed is returned as it is."""
    try:
        # The limit stops a small parameter from expanding to gigabytes.
        compressed = base64.urlsafe_b64decode(parameter)
        return zlib.decompressobj().decompress(compressed, MAX_SQL_CHARACTERS).decode()
    except (zlib.error, binascii.Error, ValueError):
        return parameter[:MAX_SQL_CHARACTERS]


def select_saved_question(names: list[str], current: str) -> None:
    """Show the menu of saved questions. The URL contains the selected one."""
    selected = st.selectbox(
        "Saved question",
        names,
        index=names.index(current) if current in names else None,
        format_func=lambda name: load_question(name).question,
        key="saved",
        placeholder=f"Select one of {len(names)} saved questions, or write SQL below",
    )
    if selected and selected != current:
        st.query_params.from_dict({"q": selected})
        st.rerun()


def schema_section() -> None:
    """Show the views and their columns."""
    dictionary = query_or_error(run_sql, 'select view, "column", type, comment from data_dictionary')
    if dictionary is None:
        return
    names = sorted(set(dictionary.table["view"].to_pylist()))
    index = names.index("decisions") if "decisions" in names else 0
    view = st.selectbox("Columns of view", names, index=index, key="view")
    rows = dictionary.table.filter(pc.equal(dictionary.table["view"], view)).drop_columns(["view"])
    rows = rows.rename_columns(["column", "type", "meaning"])
    data_table(rows, "columns", height=250, alt=f"Columns of {view}.")


def show_result(text: str, values: dict[str, str]) -> None:
    """Run user SQL with the guard, and show the rows or the error."""
    parameters = {name: _parse_value(value) for name, value in values.items()}
    start = time.perf_counter()
    try:
        guard, lock = cached_guard(str(runs_folder()), str(odr_folder()))
        with st.spinner("Running the query"), lock:
            result = guard.query(text, parameters)
    except OckhamError as error:
        st.error("The query failed.", icon=":material/block:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    if result.truncated:
        st.warning(f"The result has more than {MAX_RESULT_ROWS:,} rows. Only the first ones are shown.")
    data_table(result.table, "answer", headings=False, alt=f"{result.table.num_rows} rows.")
    query_details(TimedResult(result.table, text, parameters, time.perf_counter() - start), "answer")
    auto_chart(result.table)


def _parse_value(text: str) -> Any:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else text


def guess_x_column(table: pa.Table) -> str:
    """Return a column for the x axis: an iteration or time, else the text column with most values."""
    for name in table.column_names:
        if name.startswith("iter") or name.endswith("_iter") or pa.types.is_timestamp(table[name].type):
            return str(name)
    texts = [name for name in table.column_names if pa.types.is_string(table[name].type)]
    return str(max(texts, key=lambda name: len(set(table[name].to_pylist())), default=table.column_names[0]))


def auto_chart(table: pa.Table) -> None:
    """Show a chart of two columns, if the table has a numeric column."""
    numbers = [f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    if not numbers or table.num_rows < 2 or len(set(table.column_names)) != table.num_columns:
        return
    section("Chart")
    left, middle, right = st.columns(3)
    default_x = guess_x_column(table)
    x = left.selectbox("X axis", table.column_names, index=table.column_names.index(default_x), key="x")
    others = [name for name in numbers if name != default_x] or numbers
    y = middle.selectbox("Y axis", numbers, index=numbers.index(others[-1]), key="y")
    default_mark = CHART_MARKS.index("line") if default_x in numbers else 0
    mark = right.selectbox("Chart type", CHART_MARKS, index=default_mark, key="mark")
    # Column names are untrusted. Vega reads dots and brackets in them as paths.
    data = pa.table({"x": table[x].slice(0, MAX_CHART_ROWS), "y": table[y].slice(0, MAX_CHART_ROWS)})
    kind = "nominal"
    if x in numbers:
        kind = "quantitative"
    elif pa.types.is_timestamp(table[x].type):
        kind = "temporal"
    chart = alt.Chart(data, mark={"type": mark, "color": UPDATE}).encode(
        x=alt.X("x", type=kind, title=x, sort=None), y=alt.Y("y:Q", title=y), tooltip=["x", "y"]
    )
    st.altair_chart(themed(chart, 300), alt=f"{y} by {x}, {data.num_rows} rows.", key="drawn")
    if table.num_rows > MAX_CHART_ROWS:
        st.caption(f"First {MAX_CHART_ROWS:,} of {table.num_rows:,} rows.")


def editor(names: list[str], current: str) -> tuple[str | None, dict[str, str]]:
    """Show the SQL editor, and return the SQL to run with its parameters. None runs nothing."""
    linked = st.query_params.get("sql")
    is_saved = current in names
    start = START_SQL
    if is_saved:
        start = load_question(current).sql
    elif linked:
        start = decode_sql(linked)
    if current and not is_saved:
        st.error("The saved question in this URL was not found.")
        st.code(current[:200], language=None)
    text = st.text_area("SQL", start, height=250, key=f"sql-{current}", max_chars=MAX_SQL_CHARACTERS)
    parameters = load_question(current).parameters if is_saved and text == start else {}
    values = {
        name: st.text_input(f"${name}: {meaning}", st.query_params.get(name, ""), key=f"parameter-{name}")
        for name, meaning in parameters.items()
    }
    if st.button("Run", type="primary", key="go"):
        st.session_state["ran"] = text
        # With this URL the same query can be opened again.
        if text == start and is_saved:
            st.query_params.from_dict({"q": current, **{name: v for name, v in values.items() if v}})
        else:
            st.query_params.from_dict({"sql": encode_sql(text)})
    if not all(values.values()):
        st.caption("Enter a value for each parameter.")
        return None, values
    run_now = st.session_state.get("ran") == text or (text == start and (linked or is_saved))
    return (text if text.strip() and run_now else None), values


page_header(
    "Query the logs with SQL.",
    f"Runs one SELECT over the audit views, for at most {QUERY_TIMEOUT_SECONDS:g} seconds "
    f"and {MAX_RESULT_ROWS:,} rows. Queries cannot change data.",
)
saved_names = question_names()
current_question = st.query_params.get("q", "")
select_saved_question(saved_names, current_question)
wide, narrow = st.columns([3, 2])
with narrow:
    schema_section()
with wide:
    sql, sql_values = editor(saved_names, current_question)
if sql is not None:
    show_result(sql, sql_values)
