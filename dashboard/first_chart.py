"""Chart of the pages Run and Control for their HTML, with the state of the log above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from dashboard.chart_kinds import CHART_KINDS
from dashboard.components.timeseries import Axis, message
from dashboard.data_source import PageSnapshot, query_snapshot
from dashboard.header import log_fact
from dashboard.iteration_view import visible_iterations
from dashboard.verifier import run_verifier
from ockham.catalog.views import load_page_query

NEWEST_RUN = "select run_id from runs order by created desc, run_id limit 1"
KNOWN_RUN = "select run_id from runs where run_id = $run"


def read_first_chart(
    snapshot: PageSnapshot, page: str, parameters: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return run, state of the log and chart of a page, or None if it has no chart.

    Args:
        snapshot: Snapshot of the runs.
        page: Name of the page, a key of `CHART_KINDS`.
        parameters: Its parameters `run`, `from` and `to`.

    """
    kind = CHART_KINDS[page]

    def ask(sql: str, **values: Any) -> pa.Table:
        return query_snapshot(snapshot, sql, values)[0]

    requested = parameters.get("run")
    known = ask(NEWEST_RUN) if requested is None else ask(KNOWN_RUN, run=requested)
    if not known.num_rows:
        return None
    run_id = str(known.column("run_id")[0])
    [limits] = ask(load_page_query("iteration_range").sql, run=run_id).to_pylist()
    view = visible_iterations(limits, parameters.get("from", ""), parameters.get("to", ""))
    if view is None:
        return None
    tables = {
        name: ask(load_page_query(name).sql, run=run_id, low=view.low, high=view.high)
        for name in kind.queries
    }
    panels = [panel for panel in kind.make_panels(tables) if panel is not None]
    axis = Axis(view.first, view.last, width=view.bin_width)
    state = run_verifier().state(run_id)
    log = " ".join(part for part in log_fact(state)[1:] if part)
    return {
        "page": page,
        "path": f"Runs / {run_id}",
        "heading": kind.title,
        "state": f"Do not rely on this page. The {log}" if state.is_broken else log,
        "isBroken": state.is_broken,
        "chart": message(panels, axis, description=f"{kind.description} of {run_id}.", view=view.zoom),
    }
