"""Tables on pages: rates as percent, numbers to five digits however small, nothing as a dash; and the row that was chosen."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult

# Columns that are shares of one, and columns that count; all others are shown as they are.
RATES = (
    "update_rate",
    "accept_rate",
    "compute_saved",
    "share",
    "update_low",
    "update_high",
    "accept_low",
    "accept_high",
)
COUNTS = ("batches", "evaluations", "accepted", "n", "decisions", "skips", "events", "signed", "pinned")


def data_table(
    table: pa.Table,
    key: str,
    *,
    columns: tuple[str, ...] = (),
    selectable: bool = False,
    height: int | str = "auto",
    width: int | str = "stretch",
    alt: str = "",
) -> dict[str, Any] | None:
    """A table; with `selectable` one row can be chosen, by mouse or by the space bar, and is returned.

    Args:
        table: rows; text in cells is never read as markup.
        key: of the widget.
        columns: those to show, in this order; () for all.
        pick: whether a row can be chosen.
        height: pixels, or as many as the rows need up to ten.
        alt: what it holds, for screen readers.

    """
    shown = table.select(list(columns)) if columns else table
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": "single-row"} if selectable else {}
    made = st.dataframe(
        rounded(shown),
        hide_index=True,
        key=key,
        column_config=column_formats(shown),
        placeholder="-",
        height=height,
        width=width,
        alt=alt or None,
        **options,
    )
    return (
        table.slice(made.selection.rows[0], 1).to_pylist()[0] if selectable and made.selection.rows else None
    )


def query_table(answer: TimedResult, key: str, **options: Any) -> dict[str, Any] | None:
    """The table of an answer, with what stands under each chart."""
    from dashboard.layout import query_details

    chosen = data_table(answer.table, key, **options)
    query_details(answer, key)
    return chosen


def rounded(table: pa.Table) -> pa.Table:
    """Rates to a tenth of a percent: Streamlit's percent keeps as many digits as there are."""
    for name in RATES:
        if name in table.column_names and pa.types.is_floating(table[name].type):
            at = table.column_names.index(name)
            table = table.set_column(at, name, pc.round(table[name], 3))
    return table


def column_formats(table: pa.Table) -> dict[str, Any]:
    """How each column is written."""
    made: dict[str, Any] = {}
    for field in table.schema:
        if field.name in RATES:
            made[field.name] = st.column_config.NumberColumn(format="percent")
        elif field.name in COUNTS:
            made[field.name] = st.column_config.NumberColumn(format="localized")
        elif pa.types.is_floating(field.type):
            made[field.name] = st.column_config.NumberColumn(format="%.5g")
        elif pa.types.is_integer(field.type):
            made[field.name] = st.column_config.NumberColumn(format="%d")
        elif pa.types.is_timestamp(field.type):
            made[field.name] = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", help="UTC")
    return made
