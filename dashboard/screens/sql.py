"""Ask the log anything."""

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

LIMIT, SECONDS = 10_000, 5.0
MOST_TEXT = 20_000
DRAWN = 1_000
MARKS = ("bar", "line", "point")
START = "select plugin, action, reason_code, count(*) as n\nfrom decisions group by all order by n desc"


@st.cache_resource(
    show_spinner="Starting the process that answers", max_entries=4, on_release=lambda pair: pair[0].close()
)
def guard(runs: str, odr: str) -> tuple[Guard, threading.Lock]:
    """One process that answers for all readers, in turn."""
    return Guard(runs, load_odr_tables(odr_folder()), timeout=SECONDS, limit=LIMIT), threading.Lock()


def encode_sql(text: str) -> str:
    """SQL as one short word for an address."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def decode_sql(word: str) -> str:
    """SQL from an address; plain text is taken as it is."""
    try:
        # A small word could unfold into gigabytes: no more than a text of a person's length is unfolded.
        return zlib.decompressobj().decompress(base64.urlsafe_b64decode(word), MOST_TEXT).decode()
    except (zlib.error, binascii.Error, ValueError):
        return word[:MOST_TEXT]


def saved_question(names: list[str], asked: str) -> None:
    """Choose a saved question; it stands in the address."""
    picked = st.selectbox(
        "Saved question", names, index=names.index(asked) if asked in names else None, format_func=lambda n: load_question(n).question,
        key="saved", placeholder=f"{len(names)} questions that people ask; or write your own below",
    )  # fmt: skip
    if picked and picked != asked:
        st.query_params.from_dict({"q": picked})
        st.rerun()


def schema() -> None:
    """The views and their columns."""
    views = query_or_error(run_sql, 'select view, "column", type, comment from data_dictionary')
    if views is None:
        return
    names = sorted(set(views.table["view"].to_pylist()))
    view = st.selectbox(
        "Columns of", names, index=names.index("decisions") if "decisions" in names else 0, key="view"
    )
    rows = (
        views.table.filter(pc.equal(views.table["view"], view))
        .drop_columns(["view"])
        .rename_columns(["column", "type", "meaning"])
    )
    data_table(rows, "columns", height=250, alt=f"Columns of {view}.")


def answer(text: str, values: dict[str, str]) -> None:
    """The guard's answer, or its refusal."""
    typed: dict[str, Any] = {
        k: int(v) if v.isascii() and v.isdigit() and len(v) < 18 else v for k, v in values.items()
    }
    began = time.perf_counter()
    try:
        asking, turn = guard(str(runs_folder()), str(odr_folder()))
        with st.spinner("Asking"), turn:
            found = asking.query(text, typed)
    except OckhamError as error:
        st.error("This query was not answered.", icon=":material/block:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    if found.truncated:
        st.warning(f"More than {LIMIT:,} rows: the rest was left out.")
    data_table(found.table, "answer", alt=f"{found.table.num_rows} rows.")
    query_details(TimedResult(found.table, text, typed, time.perf_counter() - began), "answer")
    auto_chart(found.table)


def guess_x_column(table: pa.Table) -> str:
    """The column that is most likely meant as the axis: iterations or times, else the words that differ most."""
    for name in table.column_names:
        if name.startswith("iter") or name.endswith("_iter") or pa.types.is_timestamp(table[name].type):
            return str(name)
    words = [name for name in table.column_names if pa.types.is_string(table[name].type)]
    return str(max(words, key=lambda name: len(set(table[name].to_pylist())), default=table.column_names[0]))


def auto_chart(table: pa.Table) -> None:
    """A chart of two columns, where there is a number to draw."""
    numbers = [f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    if not numbers or table.num_rows < 2 or len(set(table.column_names)) != table.num_columns:
        return
    section("Chart")
    left, middle, right = st.columns(3)
    start = guess_x_column(table)
    x = left.selectbox("Across", table.column_names, index=table.column_names.index(start), key="x")
    others = [name for name in numbers if name != start] or numbers
    y = middle.selectbox("Up", numbers, index=numbers.index(others[-1]), key="y")
    mark = right.selectbox("As", MARKS, index=MARKS.index("line") if start in numbers else 0, key="mark")
    # Names of columns are a stranger's: Vega would read dots and brackets in them as paths.
    about = pa.table({"x": table[x].slice(0, DRAWN), "y": table[y].slice(0, DRAWN)})
    kind = (
        "quantitative" if x in numbers else "temporal" if pa.types.is_timestamp(table[x].type) else "nominal"
    )
    made = alt.Chart(about, mark={"type": mark, "color": UPDATE}).encode(
        x=alt.X("x", type=kind, title=x, sort=None), y=alt.Y("y:Q", title=y), tooltip=["x", "y"]
    )
    st.altair_chart(themed(made, 300), alt=f"{y} by {x}, {about.num_rows} rows.", key="drawn")
    if table.num_rows > DRAWN:
        st.caption(f"The first {DRAWN:,} rows of {table.num_rows:,}.")


def editor(names: list[str], asked: str) -> tuple[str | None, dict[str, str]]:
    """The editor and the parameters of a saved question; what is to be asked now, or None."""
    linked = st.query_params.get("sql")
    start = load_question(asked).sql if asked in names else decode_sql(linked) if linked else START
    if asked and asked not in names:
        st.error("The question that this address names is not here.")
        st.code(asked[:200], language=None)
    text = st.text_area("SQL", start, height=250, key=f"sql-{asked}", max_chars=MOST_TEXT)
    wanted = load_question(asked).parameters if asked in names and text == start else {}
    values = {
        name: st.text_input(f"${name}: {meaning}", st.query_params.get(name, ""), key=f"parameter-{name}")
        for name, meaning in wanted.items()
    }
    if st.button("Run", type="primary", key="go"):
        st.session_state["ran"] = text
        # The address opens this query again.
        if text == start and asked in names:
            st.query_params.from_dict({"q": asked, **{k: v for k, v in values.items() if v}})
        else:
            st.query_params.from_dict({"sql": encode_sql(text)})
    if not all(values.values()):
        st.caption("Give each parameter a value.")
        return None, values
    again = st.session_state.get("ran") == text or (text == start and (linked or asked in names))
    return (text if text.strip() and again else None), values


page_header(
    "Ask the log anything.",
    f"One SELECT over the audit views; at most {SECONDS:g} seconds and {LIMIT:,} rows. Nothing can be changed from here.",
)
known, given = question_names(), st.query_params.get("q", "")
saved_question(known, given)
wide, narrow = st.columns([3, 2])
with narrow:
    schema()
with wide:
    text, values = editor(known, given)
if text is not None:
    answer(text, values)
