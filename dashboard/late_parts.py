"""Parts of a page that are sent after its chart.

A browser needs about half a second for menu, header and inputs of a new visit. Pages with a chart on top send
these parts after the chart, into places that they keep for them.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

PARTS_KEY = "late-parts"
# Pages that send the late parts after their chart, by the name of their file in screens/.
LATE_PAGES = ("run", "control")


def start_parts(page: str) -> None:
    """Prepare a run of the script, before the first part."""
    st.session_state[PARTS_KEY] = [] if page in LATE_PAGES else None


def add_part(show: Callable[[], None]) -> None:
    """Show a part now, or after the chart."""
    parts = st.session_state.get(PARTS_KEY)
    if parts is None:
        show()
    else:
        parts.append(show)


def send_parts() -> None:
    """Show the parts that wait. Calling it again has no effect."""
    parts = st.session_state.get(PARTS_KEY)
    st.session_state[PARTS_KEY] = None
    for show in parts or ():
        show()
