"""State of the pages in the address: run, iteration range, decision. No page has another state.

Links to pages of a run contain the run, so that opening a page makes one entry in the history of the browser.
"""

from __future__ import annotations

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query, run_sql

# Pages about one run, by the name of their file in screens/.
RUN_PAGES = ("run", "decision", "gate", "control", "memory", "integrity", "checkpoints")
# Page with the list of runs, which an address without a path opens.
RUNS_PAGE = "runs"
RANGE_PARAMETERS = ("from", "to")


def run_ids() -> list[str] | None:
    """Return the IDs of all runs that can be read, the newest first. None if the query fails."""
    result = query_or_error(run_sql, "select run_id from runs order by created desc, run_id")
    return None if result is None else [row["run_id"] for row in result.rows()]


def requested_run() -> str | None:
    """Return the run that the address names, whether it exists or not. None if it names no run."""
    run_id = st.query_params.get("run")
    decision_id = st.query_params.get("decision")
    if decision_id is not None and len(decision_id) == 36:
        result = query_or_error(run_page_query, "decision", id=decision_id)
        for row in result.rows() if result is not None else ():
            return str(row["run_id"])
    return run_id


def page_run() -> str | None:
    """Return the run of the page: the one in the address, else the newest one. None if there are no runs."""
    return requested_run() or next(iter(run_ids() or ()), None)


def run_of_page(name: str) -> str | None:
    """Return the run that a page is about. Without a run in the address, Checkpoints is about all runs."""
    if name == "checkpoints":
        return requested_run()
    return page_run() if name in RUN_PAGES else None


def run_parameters(run_id: str | None) -> dict[str, str]:
    """Return the parameters of a link to a page of a run. The iteration range stays for the same run."""
    if run_id is None:
        return {}
    ranges = {}
    if run_id == st.query_params.get("run"):
        ranges = {name: st.query_params[name] for name in RANGE_PARAMETERS if name in st.query_params}
    return {"run": run_id, **ranges}


def open_run(run_id: str) -> None:
    """Replace the run in the address, and remove what belongs to the other run. For callbacks."""
    st.query_params.from_dict({"run": run_id})
