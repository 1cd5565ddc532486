"""What all pages share: the question and its answer, the run that is looked at, and what stands under each chart."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import altair as alt
import pyarrow.parquet as pq
import streamlit as st

from dashboard.source import Answer, ask, ask_sql, or_error, runs_folder


def head(question: str, answer: str) -> None:
    """The page's question, and one sentence that answers it; text of runs is never read as markdown."""
    st.title(question)
    st.text(answer)


def choose_run(key: str = "run") -> str | None:
    """The run of the URL, or the newest; an unknown one is said to be unknown."""
    found = or_error(ask_sql, "select run_id from runs order by created desc")
    if found is None:
        return None
    names = [row["run_id"] for row in found.rows()]
    if not names:
        empty()
        return None
    asked = st.query_params.get(key)
    if asked is not None and asked not in names:
        st.error("The run that this address names is not here. Choose one that is:")
        st.code(asked[:300], language=None)
        picked = st.selectbox("Run", names, index=None, key=f"{key}-other")
        if picked:
            st.query_params[key] = picked
            st.rerun()
        return None
    chosen = st.sidebar.selectbox(
        "Run" if key == "run" else "Other run",
        names,
        index=names.index(asked) if asked else 0,
        key=f"{key}-choice",
    )
    if chosen != asked:
        st.query_params[key] = chosen
    return str(chosen)


def empty() -> None:
    """No run yet: what to type."""
    st.info("There is no run here yet.", icon=":material/inbox:")
    st.code(f"ockham --runs {runs_folder()} train --set max_iters=300", language="bash")


def chart(drawn: alt.Chart | alt.LayerChart | None, answer: Answer, name: str, alt_text: str) -> None:
    """A chart, and under it rows used, time, SQL, the table itself and its downloads."""
    if answer.table.num_rows == 0:
        st.caption("Nothing to draw: no rows.")
    elif drawn is not None:
        st.altair_chart(drawn.properties(description=alt_text), key=f"chart-{name}")
    under(answer, name, alt_text)


def under(answer: Answer, name: str, alt_text: str = "") -> None:
    """Rows, time, SQL, table, downloads."""
    with st.expander(f"{answer.table.num_rows:,} rows, {answer.seconds * 1000:.0f} ms. SQL, table, download"):
        if alt_text:
            st.text(alt_text)
        st.code(answer.sql, language="sql")
        if answer.parameters:
            st.code(
                ", ".join(f"${key} = {value!r}" for key, value in answer.parameters.items()), language=None
            )
        st.dataframe(answer.table.slice(0, 1_000), key=f"table-{name}")
        left, right = st.columns(2)
        left.download_button(
            "CSV", _csv(answer), f"{name}.csv", "text/csv", key=f"csv-{name}", on_click="ignore"
        )
        right.download_button(
            "Parquet", _parquet(answer), f"{name}.parquet", key=f"parquet-{name}", on_click="ignore"
        )


def follow(draw: Callable[[], None], run_id: str) -> None:
    """Draw once, or every two seconds while the run goes on and the reader wants it."""
    state = or_error(ask_sql, "select state from runs where run_id = $run", run=run_id)
    live = state is not None and state.rows() and state.rows()[0]["state"] == "UNFINISHED"
    wanted = st.sidebar.toggle("Follow the live run", value=False, key="live") if live else False
    st.fragment(draw, run_every=2.0 if wanted else None)()


def span(run_id: str) -> tuple[int, int] | None:
    """The iterations to look at, from the URL or two number inputs; None for a run without batches."""
    found = or_error(ask, "span", run=run_id)
    row: dict[str, Any] = found.rows()[0] if found is not None else {"batches": 0}
    if not row["batches"]:
        st.info("This run has no batch yet.")
        return None
    first, last = int(row["first"]), int(row["last"])
    low = st.sidebar.number_input(
        "From iteration", first, last, _number("from", first, first, last), key="span-low"
    )
    high = st.sidebar.number_input(
        "To iteration", int(low), last, max(int(low), _number("to", last, first, last)), key="span-high"
    )
    if (low, high) != (first, last):
        st.query_params.update({"from": str(int(low)), "to": str(int(high))})
    return int(low), int(high)


def _number(key: str, default: int, low: int, high: int) -> int:
    text = st.query_params.get(key, "")
    return min(max(int(text), low), high) if text.isascii() and text.isdigit() and len(text) < 16 else default


def _csv(answer: Answer) -> bytes:
    from ockham.cli.output import shown

    out = io.StringIO()
    out.write(",".join(answer.table.column_names) + "\n")
    for row in answer.rows():
        cells = [shown(value).replace('"', '""') for value in row.values()]
        out.write(",".join(f'"{chr(39) + c if c[:1] in "=+@" else c}"' for c in cells) + "\n")
    return out.getvalue().encode()


def _parquet(answer: Answer) -> bytes:
    sink = io.BytesIO()
    pq.write_table(answer.table, sink, compression="zstd")
    return sink.getvalue()
