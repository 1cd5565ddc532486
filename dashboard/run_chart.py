"""Chart of one run over its iterations, with the queries of its panels below it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.components.timeseries import Axis, LinePanel, Pick, RowPanel, timeseries
from dashboard.data_source import query_or_error, run_page_query, show_error
from dashboard.iteration_view import IterationView, set_view, view_inputs
from dashboard.layout import query_details

Panels = list[LinePanel | RowPanel]
# Time in which the browser draws a chart, on a busy machine with two cores.
DRAWING_SECONDS = 0.5


def run_chart(
    run_id: str,
    view: IterationView,
    queries: Mapping[str, str],
    make_panels: Callable[[Mapping[str, pa.Table]], Sequence[LinePanel | RowPanel | None]],
    *,
    key: str,
    description: str,
    on_view: Callable[[tuple[float, float] | None], None] = set_view,
    on_pick: Callable[[Pick], None] | None = None,
) -> Panels:
    """Show the chart, its range and the details of its queries, and return its panels.

    Args:
        run_id: Run of the chart.
        view: Visible iterations.
        queries: Page query -> description of its rows. All have the parameters run, low and high.
        make_panels: Creates the panels from the tables of the queries that did not fail. None is left out.
        key: Key of the widget.
        description: Description of the chart for screen readers.
        on_view: Called with the new range after a zoom.
        on_pick: Called with the mark or position after a click.

    """
    parameters: dict[str, Any] = {"run": run_id, "low": view.low, "high": view.high}
    results = {name: query_or_error(run_page_query, name, **parameters) for name in queries}
    found = {name: result for name, result in results.items() if result is not None}
    panels: Panels = []
    # The rest of the page must be shown, whatever the defect of a panel is.
    try:
        tables = {name: result.table for name, result in found.items()}
        panels = [panel for panel in make_panels(tables) if panel is not None]
        axis = Axis(view.first, view.last, width=view.bin_width)
        timeseries(
            panels,
            axis,
            key=key,
            description=description,
            view=view.zoom,
            on_view=on_view,
            on_pick=on_pick,
        )
    except Exception as error:
        show_error("This chart cannot be drawn.", error)
    let_browser_draw(key)
    with st.container(horizontal=True, vertical_alignment="center"):
        view_inputs(run_id, view)
        for name, result in found.items():
            if result.table.num_rows:
                with st.container(width="content"):
                    query_details(result, name, queries[name])
    return panels


def let_browser_draw(name: str) -> None:
    """Wait until the browser has drawn the chart *name*, once in a session.

    The rest of the page would otherwise be drawn first, and the chart half a second later.
    """
    key = f"drawn-{name}"
    if key not in st.session_state:
        st.session_state[key] = True
        time.sleep(DRAWING_SECONDS)
