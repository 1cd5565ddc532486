"""Layout of all pages: header, run selection, chart details, auto-refresh and iteration range."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from dashboard.address import open_run, run_ids
from dashboard.data_source import (
    TimedResult,
    page_snapshot,
    query_or_error,
    run_sql,
    runs_folder,
    show_error,
    store,
)
from ockham.arrow_values import column_values
from ockham.formatting import format_cell
from ockham.text_safety import escape_formula

MAX_ROWS_SHOWN = 1_000
# Rows that a table of automatic height shows.
MAX_ROWS_WITHOUT_SCROLLING = 10
REFRESH_SECONDS = 2.0
MAX_NUMBER_CHARACTERS = 15


def page_header(question: str, answer: str, codes: Sequence[str] = ()) -> None:
    """Show the question of the page and its answer. Text of runs is never read as Markdown.

    Args:
        question: Heading of the page.
        answer: Answer, with plain names.
        codes: Codes of these names in the log, shown small below the answer.

    """
    st.title(question, anchor=False)
    st.text(answer)
    if codes:
        items = " ".join(f"<code>{html.escape(code)}</code>" for code in codes)
        st.html(f'<p class="ockham-codes">{items}</p>')


def section(title: str, caption: str = "") -> None:
    """Show a section heading with an optional caption."""
    st.header(title, anchor=False)
    if caption:
        st.caption(caption)


def select_run(key: str = "run") -> str | None:
    """Return the run of the address, else the newest one.

    Shows an error and returns None if the run of the address does not exist, or if there are no runs.

    Args:
        key: Parameter of the address. Keys other than `run` select a second run.

    """
    names = run_ids()
    if names is None:
        return None
    requested = st.query_params.get(key)
    if requested is not None and requested not in names:
        _show_unknown_run(key, requested, names)
        return None
    if not names:
        st.title("No runs yet", anchor=False)
        no_runs_hint()
        return None
    selected = requested or _default_run(key, names)
    # The address decides, also after the reader went back in the history of the browser. Setting an equal
    # value would undo a choice that the reader makes while the page is drawn.
    menu_key = f"{key}-choice"
    if st.session_state.get(menu_key) != selected:
        st.session_state[menu_key] = selected
    label = "Run" if key == "run" else "Other run"
    st.sidebar.selectbox(label, names, key=menu_key, on_change=_open_choice, args=(key,))
    return selected


def _open_choice(key: str) -> None:
    selected = st.session_state[f"{key}-choice"]
    if key == "run":
        open_run(selected)
    else:
        st.query_params[key] = selected


def _default_run(key: str, names: list[str]) -> str:
    return names[1] if key != "run" and len(names) > 1 else names[0]


def _show_unknown_run(key: str, requested: str, names: list[str]) -> None:
    error = store().broken.get(requested)
    st.title("Run not readable" if error else "Run not found", anchor=False)
    if error:
        st.error("The run in this URL cannot be read.")
    else:
        st.error("The run in this URL was not found.")
    st.code((error or requested)[:300], language=None)
    if not names:
        no_runs_hint()
        return
    selected = st.selectbox("Existing runs", names, index=None, key=f"{key}-other")
    if selected:
        st.query_params[key] = selected
        st.rerun()


def no_runs_hint() -> None:
    """Show how to create a run."""
    st.info("No runs yet. This command creates one:", icon=":material/inbox:")
    st.code(f"ockham --runs {runs_folder()} train --set max_iters=300", language="bash", wrap_lines=True)


def chart(
    make_chart: Callable[[], alt.Chart | alt.LayerChart],
    result: TimedResult,
    name: str,
    alt_text: str,
    **options: Any,
) -> Any:
    """Show a chart with its query details, and return the selection in it.

    Args:
        make_chart: Creates the chart. If it raises, the error is shown instead of the chart.
        result: Data of the chart.
        name: Name for widget keys and file names.
        alt_text: Description of the chart for screen readers.
        options: Options of `st.altair_chart`, such as `on_select`.

    """
    state = None
    if result.table.num_rows == 0:
        st.caption("No data for this chart.")
    else:
        # Altair raises exceptions of jsonschema. The rest of the page must be shown.
        try:
            state = st.altair_chart(make_chart(), alt=alt_text, **{"key": f"chart-{name}", **options})
        except Exception as error:
            show_error("This chart cannot be drawn.", error)
    query_details(result, name, alt_text)
    return state


def chart_section(
    result: TimedResult | None,
    title: str,
    caption: str,
    make_chart: Callable[[pa.Table], alt.Chart | alt.LayerChart],
    name: str,
    alt_text: str,
    **options: Any,
) -> Any:
    """Show a heading and a chart, and return the selection in it. Shows nothing if the query failed.

    Args:
        result: Result of the query, or None if it failed.
        title: Heading.
        caption: Caption below the heading.
        make_chart: Creates the chart from the table of *result*.
        name: Name for widget keys and file names.
        alt_text: Description of the chart for screen readers.
        options: Options of `st.altair_chart`, such as `on_select`.

    """
    if result is None:
        return None
    section(title, caption)
    return chart(lambda: make_chart(result.table), result, name, alt_text, **options)


def query_details(
    result: TimedResult, name: str, alt_text: str = "", *, in_table: bool = False, label: str = ""
) -> None:
    """Show number of rows and duration, and on request the SQL, the table and downloads.

    Args:
        result: Result of the query.
        name: Name for widget keys and file names.
        alt_text: Description of the rows.
        in_table: The rows are shown in a table, which scrolls if there are many.
        label: Name of the result, if several results are below one chart.

    """
    rows = result.table.num_rows
    line = st.container(horizontal=True, vertical_alignment="center")
    unit = "row" if rows == 1 else "rows"
    scroll = "; scroll in the table for more" if in_table and rows > MAX_ROWS_WITHOUT_SCROLLING else ""
    subject = f"{label}: " if label else ""
    line.caption(f"{subject}{rows:,} {unit}, {result.seconds * 1000:.0f} ms{scroll}", width="content")
    # The label must be constant: with another label Streamlit creates a new, closed popover.
    popover = line.popover("SQL, table, download", type="tertiary", key=f"under-{name}", on_change="rerun")
    if not popover.open:
        return
    with popover:
        if alt_text:
            st.text(alt_text)
        st.code(result.sql, language="sql")
        if result.parameters:
            values = ", ".join(f"${key} = {value!r}" for key, value in result.parameters.items())
            st.code(values, language=None)
        st.dataframe(result.table.slice(0, MAX_ROWS_SHOWN), key=f"table-{name}")
        if rows > MAX_ROWS_SHOWN:
            st.caption(f"First {MAX_ROWS_SHOWN:,} rows. Downloads contain all {rows:,} rows.")
        _download_buttons(result, name)


def _download_buttons(result: TimedResult, name: str) -> None:
    left, right = st.columns(2)
    left.download_button(
        "CSV", lambda: csv_bytes(result), f"{name}.csv", "text/csv", key=f"csv-{name}", on_click="ignore"
    )
    right.download_button(
        "Parquet",
        lambda: parquet_bytes(result),
        f"{name}.parquet",
        key=f"parquet-{name}",
        on_click="ignore",
    )


def auto_refresh(draw: Callable[[], None], run_id: str) -> None:
    """Draw the page, and redraw it when files change while the run is live and auto-refresh is on.

    An unfinished run whose files do not change is checked, but not drawn again.
    """
    if _is_unfinished(run_id) and st.sidebar.toggle(
        "Follow the live run",
        value=True,
        key="live",
        help="Updates the page when the run writes new events.",
    ):
        version = page_snapshot().version

        def rerun_on_change() -> None:
            if store().version != version:
                st.rerun()

        st.fragment(rerun_on_change, run_every=REFRESH_SECONDS)()
    draw()


def _is_unfinished(run_id: str) -> bool:
    result = query_or_error(run_sql, "select state from runs where run_id = $run", run=run_id)
    return result is not None and any(row["state"] == "UNFINISHED" for row in result.rows())


def parse_number(text: str) -> int | None:
    """Return *text* from a URL as a number, or None if it is not a number of at most 15 digits."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_CHARACTERS:
        return int(text)
    return None


def csv_bytes(result: TimedResult) -> bytes:
    """Return the table as CSV. Cells that look like a formula start with an apostrophe."""
    out = io.StringIO()
    columns = [column_values(result.table.column(i)) for i in range(result.table.num_columns)]
    for row in [tuple(result.table.column_names), *zip(*columns, strict=True)]:
        cells = [escape_formula(format_cell(value)).replace('"', '""') for value in row]
        out.write(",".join(f'"{cell}"' for cell in cells) + "\n")
    return out.getvalue().encode()


def parquet_bytes(result: TimedResult) -> bytes:
    """Return the table as Parquet, with the SQL and its parameters in the metadata."""
    metadata = {b"ockham.sql": result.sql.encode(), b"ockham.parameters": repr(result.parameters).encode()}
    sink = io.BytesIO()
    pq.write_table(result.table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()
