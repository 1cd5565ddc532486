"""Newest rows of the page Runs for its HTML, with the state of all logs above them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from dashboard.data_source import PageSnapshot, query_snapshot, runs_folder, store
from dashboard.header import fleet_facts
from dashboard.run_choice import visible_table
from dashboard.run_filter import add_labels
from dashboard.tables import cell_texts
from dashboard.verifier import run_verifier
from dashboard.words import RUNS_QUESTION, column_heading
from ockham.catalog.views import load_page_query
from ockham.record.run_labels import read_labels

MAX_ROWS = 10


def read_first_table(
    snapshot: PageSnapshot, _page: str, parameters: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the state of all logs and the newest runs, or None for an address with a filter or a choice."""
    runs, _ = query_snapshot(snapshot, load_page_query("workbench").sql, {})
    if parameters or not runs.num_rows:
        return None
    names = [*runs["run_id"].to_pylist(), *store().broken]
    states = run_verifier().states(names)
    broken = sum(state.is_broken for state in states.values())
    text = "; ".join(text for _, _, text in fleet_facts(states))
    labelled = add_labels(runs, read_labels(runs_folder()))
    table = visible_table(labelled.filter(pc.invert(labelled["archived"])))
    return {
        "page": "runs",
        "path": "Runs",
        "heading": RUNS_QUESTION,
        "state": f"Do not rely on figures of these runs: {text}" if broken else text,
        "isBroken": bool(broken),
        "columns": [column_heading(name) for name in table.column_names],
        # The first column has links.
        "rows": [[run.partition("=")[2], *cells] for run, *cells in cell_texts(table.slice(0, MAX_ROWS))],
    }
