"""Chart of a Run or Control page as part of its HTML, so that it is shown before Streamlit has started.

Streamlit needs about a second until it shows its first element. The same queries and scripts draw the same
chart meanwhile. The state of the log is above it, so that no figure of a broken log is shown without warning.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread
import pyarrow as pa
from streamlit import config

from dashboard.chart_kinds import CHART_KINDS
from dashboard.components.timeseries import Axis, message
from dashboard.data_source import PageSnapshot, query_snapshot, store
from dashboard.header import log_fact
from dashboard.iteration_view import visible_iterations
from dashboard.verifier import run_verifier
from ockham.catalog.views import load_page_query
from ockham.errors import OckhamError

NEWEST_RUN = "select run_id from runs order by created desc, run_id limit 1"
KNOWN_RUN = "select run_id from runs where run_id = $run"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# Options of Streamlit with the address of the server.
HOST_OPTIONS = ("server.address", "browser.serverAddress")
# A page that takes longer is sent without the chart.
LIMIT_SECONDS = 0.25
ELEMENT = '<script type="application/json" id="first-chart-data">%s</script>\n'


async def first_chart_element(page: str, query: str, host: str) -> bytes:
    """Return the HTML element with the chart of a page, or nothing if the page has no chart yet.

    Another site must not read it under a name that leads to this machine, so the host must be known.

    Args:
        page: Name of the page.
        query: Query of the address.
        host: Host that the browser asked for.

    """
    if page not in CHART_KINDS or not _is_known_host(host):
        return b""
    parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    chart = None
    with anyio.move_on_after(LIMIT_SECONDS):
        chart = await anyio.to_thread.run_sync(read_first_chart, page, parameters, abandon_on_cancel=True)
    return b"" if chart is None else make_element(chart)


def make_element(chart: Mapping[str, Any]) -> bytes:
    """Return the HTML element with *chart*. No text in it can end the element."""
    return (ELEMENT % json.dumps(chart).replace("<", "\\u003c")).encode()


def _is_known_host(host: str) -> bool:
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return (
        name in (*LOCAL_HOSTS, *(config.get_option(option) for option in HOST_OPTIONS)) and name is not None
    )


def read_first_chart(page: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
    """Return run, state of the log and chart of a page, or None if it has no chart.

    An error is shown by the page, not here.

    Args:
        page: Name of the page, a key of `CHART_KINDS`.
        parameters: Its parameters `run`, `from` and `to`.

    """
    snapshot = store().snapshot()
    try:
        return _read_chart(snapshot, page, parameters)
    except OckhamError:
        return None
    finally:
        snapshot.catalog.close()


def _read_chart(snapshot: PageSnapshot, page: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
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
    return {
        "page": page,
        "run": run_id,
        "title": kind.title,
        "log": " ".join(part for part in log_fact(state)[1:] if part),
        "isBroken": state.is_broken,
        "chart": message(panels, axis, description=f"{kind.description} of {run_id}.", view=view.zoom),
    }
