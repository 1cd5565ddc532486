"""Tables of the pages: rates as percent, floats with five digits, missing values as a dash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult
from dashboard.words import (
    action_name,
    column_heading,
    column_help,
    gate_name,
    hook_name,
    person_event_name,
    reason_name,
)
from ockham.arrow_values import table_rows

RATE_COLUMNS = (
    "update_rate",
    "accept_rate",
    "compute_saved",
    "compute_saved_low",
    "compute_saved_high",
    "compute_saved_to_floor",
    "compute_saved_to_floor_low",
    "compute_saved_to_floor_high",
    "time_saved",
    "share",
    "update_low",
    "update_high",
    "accept_low",
    "accept_high",
)
COUNT_COLUMNS = (
    "batches",
    "evaluations",
    "accepted",
    "n",
    "decisions",
    "skipped_batches",
    "events",
    "signed",
    "pinned",
    "unsigned_events",
    "iterations",
    "all_iterations",
    "compute",
    "runs",
    "runs_that_count",
)
# Column with codes -> function that returns the plain name of a code.
PLAIN_NAMES = {
    "hook": hook_name,
    "action": action_name,
    "failed_gate": gate_name,
    "person_event": person_event_name,
}


def data_table(
    table: pa.Table,
    key: str,
    *,
    columns: tuple[str, ...] = (),
    headings: bool = True,
    selectable: bool = False,
    height: int | str = "auto",
    widths: Mapping[str, int] | None = None,
    width: int | str = "stretch",
    alt: str = "",
) -> dict[str, Any] | None:
    """Show a table, and return the selected row, if any.

    Args:
        table: Rows. Text in cells is never read as markup.
        key: Key of the widget.
        columns: Columns to show, in this order. Empty shows all.
        headings: Show words as headings, and names of reason codes. Results of user SQL stay as they are.
        selectable: Allow selecting one row, by mouse or with the space bar.
        widths: Column -> width in pixels. The others fit their first rows.
        height: Height in pixels. `auto` shows up to ten rows.
        width: Width in pixels, or `stretch`.
        alt: Description for screen readers.

    """
    visible = table.select(list(columns)) if columns else table
    visible = add_plain_names(visible) if headings else visible
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": "single-row"} if selectable else {}
    formats = column_formats(visible, headings=headings)
    for name, pixels in (widths or {}).items():
        formats[name]["width"] = pixels
    event = st.dataframe(
        round_rates(visible),
        hide_index=True,
        key=key,
        column_config=formats,
        placeholder="-",
        height=height,
        width=width,
        alt=alt or None,
        **options,
    )
    if not selectable or not event.selection.rows:
        return None
    row: dict[str, Any] = table_rows(table.slice(event.selection.rows[0], 1))[0]
    return row


def query_table(result: TimedResult, key: str, **options: Any) -> dict[str, Any] | None:
    """Show the table of a query with its details, and return the selected row, if any."""
    from dashboard.layout import query_details

    selected = data_table(result.table, key, **options)
    query_details(result, key, in_table=True)
    return selected


def round_rates(table: pa.Table) -> pa.Table:
    """Round rates to a tenth of a percent, because Streamlit's percent format shows all digits."""
    for name in RATE_COLUMNS:
        if name in table.column_names and pa.types.is_floating(table[name].type):
            position = table.column_names.index(name)
            table = table.set_column(position, name, pc.round(table[name], 3))
    return table


def add_plain_names(table: pa.Table) -> pa.Table:
    """Return the table with the name of each reason code in a column before it, and names for other codes."""
    for column, name_value in PLAIN_NAMES.items():
        if column in table.column_names and pa.types.is_string(table[column].type):
            values = [None if value is None else name_value(value) for value in table[column].to_pylist()]
            position = table.column_names.index(column)
            table = table.set_column(position, column, pa.array(values, pa.string()))
    if "reason_code" not in table.column_names or "reason" in table.column_names:
        return table
    codes = table["reason_code"].to_pylist()
    names = pa.array([None if code is None else reason_name(code) for code in codes], pa.string())
    return table.add_column(table.column_names.index("reason_code"), "reason", names)


def column_formats(table: pa.Table, *, headings: bool = True) -> dict[str, Any]:
    """Return the Streamlit column configuration of a table: heading, meaning on hover, number format."""
    return {field.name: _column_format(field, headings=headings) for field in table.schema}


def cell_texts(table: pa.Table) -> list[list[str]]:
    """Return the rows with the text that the formats of `column_formats` show."""
    columns = [
        [_cell_text(field, value) for value in table.column(field.name).to_pylist()] for field in table.schema
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _cell_text(field: pa.Field, value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if pa.types.is_timestamp(field.type):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if field.name in RATE_COLUMNS:
        return f"{100 * value:.4g}%"
    if field.name in COUNT_COLUMNS:
        return f"{value:,}"
    return f"{value:.5g}" if pa.types.is_floating(field.type) else str(value)


def _column_format(field: pa.Field, *, headings: bool) -> Any:
    name, columns = field.name, st.column_config
    texts: dict[str, Any] = {"label": None, "help": None}
    if headings:
        texts = {"label": column_heading(name), "help": column_help(name)}
    if pa.types.is_timestamp(field.type):
        texts["help"] = texts["help"] or "UTC"
        return columns.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", **texts)
    if name in RATE_COLUMNS:
        return columns.NumberColumn(format="percent", **texts)
    if name in COUNT_COLUMNS:
        return columns.NumberColumn(format="localized", **texts)
    if pa.types.is_floating(field.type):
        return columns.NumberColumn(format="%.5g", **texts)
    if pa.types.is_integer(field.type):
        return columns.NumberColumn(format="%d", **texts)
    return columns.Column(**texts)
