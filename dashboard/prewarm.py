"""Work of the first visit that is done at the start: imports, catalog, and queries of the newest run."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable

from dashboard.data_source import query_snapshot, store
from ockham.catalog.views import load_page_query
from ockham.errors import OckhamError

MODULES = ("altair", "dashboard.layout", "dashboard.metric_cards", "dashboard.run_chart", "dashboard.charts")
# Page queries about one run, and about a range of its iterations.
RUN_QUERIES = ("run_bands", "oq_gain", "sparklines", "evaluation_points", "run_ranks", "adapter_status")
RANGE_QUERIES = ("run_bins", "timeline_events", "plugin_bins", "served_bins")


def start_prewarm(*tasks: Callable[[], None]) -> threading.Thread:
    """Start a thread that runs *tasks* and then `prewarm`."""

    def run_tasks() -> None:
        for task in (*tasks, prewarm):
            task()

    thread = threading.Thread(target=run_tasks, name="prewarm", daemon=True)
    thread.start()
    return thread


def prewarm() -> None:
    """Import the modules of the pages, open the catalog, and run the queries of the newest run.

    Results are in the cache of the pages until a file changes. An error is shown by the page, not here.
    """
    # Without a session, Streamlit warns about each cache.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    for name in MODULES:
        importlib.import_module(name)
    try:
        _run_queries()
    except OckhamError:
        return


def _run_queries() -> None:
    snapshot = store().snapshot()

    def ask(sql: str, **parameters: object) -> list[dict[str, object]]:
        return list(query_snapshot(snapshot, sql, parameters)[0].to_pylist())

    try:
        newest = ask("select run_id from runs order by created desc, run_id")
        if not newest:
            return
        # The start page.
        ask(load_page_query("workbench").sql)
        run = str(newest[0]["run_id"])
        [limits] = ask(load_page_query("iteration_range").sql, run=run)
        if not limits["batches"]:
            return
        for name in RANGE_QUERIES:
            ask(load_page_query(name).sql, run=run, low=limits["first"], high=limits["last"])
        ask("select * from run_summary where run_id = $run", run=run)
        for name in RUN_QUERIES:
            ask(load_page_query(name).sql, run=run)
    finally:
        snapshot.catalog.close()
