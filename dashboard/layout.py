"""What all pages share: the question and its answer, the run that is looked at, and what stands under each chart."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from typing import Any

import altair as alt
import pyarrow.parquet as pq
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_sql, runs_folder, store

ROWS_SHOWN = 1_000
EVERY_SECONDS = 2.0


def page_header(question: str, answer: str) -> None:
    """The page's question, and one sentence that answers it; text of runs is never read as markdown."""
    st.title(question, anchor=False)
    st.text(answer)


def section(title: str, caption: str = "") -> None:
    """A heading of our own words."""
    st.subheader(title, anchor=False)
    if caption:
        st.caption(caption)


def select_run(key: str = "run") -> str | None:
    """The run of the URL, or the one looked at before, or the newest; an unknown one is said to be unknown."""
    found = query_or_error(run_sql, "select run_id from runs order by created desc, run_id")
    if found is None:
        return None
    names = [row["run_id"] for row in found.rows()]
    asked = st.query_params.get(key)
    if asked is not None and asked not in names:
        _unknown(key, asked, names)
        return None
    if not names:
        no_runs_hint()
        return None
    before = st.session_state.get(f"last-{key}")
    start = asked or (before if before in names else names[1 if key != "run" and len(names) > 1 else 0])
    label = "Run" if key == "run" else "Other run"
    if (
        asked and st.session_state.get(f"url-{key}") != asked
    ):  # the address leads, also where the menu was used before
        st.session_state.pop(f"{key}-choice", None)
    chosen = st.sidebar.selectbox(label, names, index=names.index(start), key=f"{key}-choice")
    if chosen != asked:
        st.query_params[key] = chosen
    st.session_state[f"last-{key}"] = st.session_state[f"url-{key}"] = chosen
    return str(chosen)


def _unknown(key: str, asked: str, names: list[str]) -> None:
    why = store().broken.get(asked)
    st.error(
        "The run that this address names cannot be read."
        if why
        else "The run that this address names is not here."
    )
    st.code((why or asked)[:300], language=None)
    if names:
        picked = st.selectbox("Runs that are here", names, index=None, key=f"{key}-other")
        if picked:
            st.query_params[key] = picked
            st.rerun()
    else:
        no_runs_hint()


def no_runs_hint() -> None:
    """No run yet: what to type."""
    st.info("There is no run here yet.", icon=":material/inbox:")
    st.code(f"ockham --runs {runs_folder()} train --set max_iters=300", language="bash", wrap_lines=True)


def chart(
    make_chart: Callable[[], alt.Chart | alt.LayerChart],
    answer: TimedResult,
    name: str,
    alt_text: str,
    **options: Any,
) -> Any:
    """A chart, and under it rows used, time, SQL, the table itself and its downloads.

    Args:
        drawn: makes the chart; what it raises is shown in its place.
        answer: the table that it shows.
        name: for keys and file names.
        alt_text: what it shows, in words.
        options: for `st.altair_chart`.

    Returns:
        what was selected in it, where `on_select` asks for that.

    """
    state = None
    if answer.table.num_rows == 0:
        st.caption("Nothing to draw: no rows.")
    else:
        try:
            state = st.altair_chart(make_chart(), alt=alt_text, **{"key": f"chart-{name}", **options})
        except Exception as error:  # one chart that fails blanks no page; altair raises errors of jsonschema
            show_error("This chart could not be drawn.", error)
    query_details(answer, name, alt_text)
    return state


def query_details(answer: TimedResult, name: str, alt_text: str = "") -> None:
    """Rows, time, SQL, table, downloads; made only when somebody opens it."""
    rows = answer.table.num_rows
    line = st.container(horizontal=True, vertical_alignment="center")
    line.caption(
        f"{rows:,} {'row' if rows == 1 else 'rows'}, {answer.seconds * 1000:.0f} ms", width="content"
    )
    # What changes stands outside of the label: another label is another popover, and a closed one.
    box = line.popover("SQL, table, download", type="tertiary", key=f"under-{name}", on_change="rerun")
    if not box.open:
        return
    with box:
        if alt_text:
            st.text(alt_text)
        st.code(answer.sql, language="sql")
        if answer.parameters:
            st.code(
                ", ".join(f"${key} = {value!r}" for key, value in answer.parameters.items()), language=None
            )
        st.dataframe(answer.table.slice(0, ROWS_SHOWN), key=f"table-{name}")
        if rows > ROWS_SHOWN:
            st.caption(f"The first {ROWS_SHOWN:,} rows; the downloads hold all {rows:,}.")
        left, right = st.columns(2)
        left.download_button(
            "CSV", lambda: csv_bytes(answer), f"{name}.csv", "text/csv", key=f"csv-{name}", on_click="ignore"
        )
        right.download_button(
            "Parquet",
            lambda: parquet_bytes(answer),
            f"{name}.parquet",
            key=f"parquet-{name}",
            on_click="ignore",
        )


def show_error(what: str, error: Exception) -> None:
    """A fault of our own: one sentence here, the traceback where the server was started."""
    traceback.print_exception(error)
    st.error(what, icon=":material/error:")
    st.code(f"{type(error).__name__}: {error}"[:600], language=None, wrap_lines=True)


def auto_refresh(draw: Callable[[], None], run_id: str) -> None:
    """Draw; again whenever its files have changed, while the run goes on and the reader lets it. Its end is noticed.

    A run without an end that does not grow (it was killed, or waits) is looked at and not sent again.
    """
    if _live(run_id) and st.sidebar.toggle(
        "Follow the live run", value=True, key="live", help="Off: the page stands still."
    ):
        seen = store().version

        def look() -> None:
            if store().version != seen:
                st.rerun()

        st.fragment(look, run_every=EVERY_SECONDS)()
    draw()


def _live(run_id: str) -> bool:
    found = query_or_error(run_sql, "select state from runs where run_id = $run", run=run_id)
    return found is not None and any(row["state"] == "UNFINISHED" for row in found.rows())


def iteration_range(run_id: str, key: str = "span") -> tuple[int, int] | None:
    """The iterations to look at, from the URL or two number inputs; None for a run without batches."""
    found = query_or_error(run_page_query, "iteration_range", run=run_id)
    row: dict[str, Any] = found.rows()[0] if found is not None else {"batches": 0}
    if not row["batches"]:
        st.info("This run has no batch yet.")
        return None
    first, last = int(row["first"]), int(row["last"])
    names = f"{key}-low-{run_id}", f"{key}-high-{run_id}"
    left, middle, right = st.columns([2, 2, 1], vertical_alignment="bottom")
    for name, part in zip(names, ("from", "to"), strict=True):
        st.session_state.setdefault(name, _number(part, first, last))
    ask_for = {"min_value": first, "max_value": last, "value": None, "on_change": _to_url, "args": names}
    low = left.number_input("From iteration", placeholder=str(first), key=names[0], **ask_for)
    high = middle.number_input("To iteration", placeholder=str(last), key=names[1], **ask_for)
    right.button(
        "Whole run",
        key=f"{key}-whole",
        on_click=set_iteration_range,
        args=(run_id, None, None, key),
        width="stretch",
    )
    start, end = first if low is None else int(low), last if high is None else int(high)
    return (start, end) if start <= end else (end, start)


def set_iteration_range(run_id: str, low: int | None, high: int | None, key: str = "span") -> None:
    """Look at other iterations; None: from the first, to the last. For callbacks of widgets."""
    names = f"{key}-low-{run_id}", f"{key}-high-{run_id}"
    st.session_state[names[0]], st.session_state[names[1]] = low, high
    _to_url(*names)


def _to_url(low: str, high: str) -> None:
    for name, key in (("from", low), ("to", high)):
        value = st.session_state.get(key)
        if value is None:
            st.query_params.pop(name, None)
        else:
            st.query_params[name] = str(int(value))


def _number(key: str, low: int, high: int) -> int | None:
    text = st.query_params.get(key, "")
    return min(max(int(text), low), high) if text.isascii() and text.isdigit() and len(text) < 16 else None


def csv_bytes(answer: TimedResult) -> bytes:
    """Comma-separated; a cell that a spreadsheet would run begins with an apostrophe."""
    from ockham.formatting import format_cell
    from ockham.text_safety import escape_formula

    out = io.StringIO()
    columns = [answer.table.column(i).to_pylist() for i in range(answer.table.num_columns)]
    for row in [tuple(answer.table.column_names), *zip(*columns, strict=True)]:
        cells = [escape_formula(format_cell(value)).replace('"', '""') for value in row]
        out.write(",".join(f'"{cell}"' for cell in cells) + "\n")
    return out.getvalue().encode()


def parquet_bytes(answer: TimedResult) -> bytes:
    """Parquet, with the SQL and its parameters in the file's metadata."""
    about = {b"ockham.sql": answer.sql.encode(), b"ockham.parameters": repr(answer.parameters).encode()}
    sink = io.BytesIO()
    pq.write_table(answer.table.replace_schema_metadata(about), sink, compression="zstd")
    return sink.getvalue()
