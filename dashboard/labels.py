"""Names and tags of runs, from the ledger."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.data_source import folder_state, runs_folder
from ockham.errors import OckhamError
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.run_labels import RunLabels, read_labels


def run_labels() -> dict[str, RunLabels]:
    """Return the labels of the runs that have some, by run ID. Empty if the ledger cannot be read."""
    runs = runs_folder()
    if not RunFolder(runs, LEDGER).exists():
        return {}
    return _read(str(runs), folder_state(runs / LEDGER))


@st.cache_data(max_entries=4, show_spinner=False)
def _read(runs: str, state: str) -> dict[str, RunLabels]:
    del state
    try:
        return read_labels(Path(runs))
    except (OckhamError, OSError):
        # The header shows that the ledger is broken.
        return {}
