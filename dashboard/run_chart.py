"""Chart of one run over its iterations, with the queries of its panels below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.chart_kinds import QUERY_LABELS, ChartKind, Panels
from dashboard.components.timeseries import Axis, Pick, timeseries
from dashboard.data_source import query_or_error, run_page_query, show_error
from dashboard.iteration_view import IterationView, set_view, view_inputs
from dashboard.layout import query_details


def run_chart(
    run_id: str,
    view: IterationView,
    kind: ChartKind,
    *,
    key: str,
    on_view: Callable[[tuple[float, float] | None], None] = set_view,
    on_pick: Callable[[Pick], None] | None = None,
) -> Panels:
    """Show the chart, its range and the details of its queries, and return its panels.

    Args:
        run_id: Run of the chart.
        view: Visible iterations.
        kind: Queries and panels of the chart.
        key: Key of the widget.
        on_view: Called with the new range after a zoom.
        on_pick: Called with the mark or position after a click.

    """
    parameters: dict[str, Any] = {"run": run_id, "low": view.low, "high": view.high}
    results = {name: query_or_error(run_page_query, name, **parameters) for name in kind.queries}
    found = {name: result for name, result in results.items() if result is not None}
    panels: Panels = []
    # The rest of the page must be shown, whatever the defect of a panel is.
    try:
        tables = {name: result.table for name, result in found.items()}
        panels = [panel for panel in kind.make_panels(tables) if panel is not None]
        timeseries(
            panels,
            Axis(view.first, view.last, width=view.bin_width),
            key=key,
            description=f"{kind.description} of {run_id}.",
            view=view.zoom,
            on_view=on_view,
            on_pick=on_pick,
        )
    except Exception as error:
        show_error("This chart cannot be drawn.", error)
    with st.container(horizontal=True, vertical_alignment="center"):
        view_inputs(run_id, view)
        for name, result in found.items():
            if result.table.num_rows:
                with st.container(width="content"):
                    query_details(result, name, kind.queries[name], label=QUERY_LABELS[name])
    return panels
