"""Entry point of the dashboard, started by `ockham dashboard`.

Each page opens with a question, and with a sentence that answers it for the selected run. The folder of the
pages is not named `pages`, because Streamlit would then open deep links without this file.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.address import RUNS_PAGE
from dashboard.data_source import renew_snapshot, show_error
from dashboard.header import menu, page_header, page_title
from dashboard.style import CSS, SCRIPT
from ockham.errors import OckhamError

# Group -> (file in screens/, title, icon).
PAGES = {
    "": (("runs", "Runs", "table_chart"),),
    "One run": (
        ("run", "Run", "timeline"),
        ("decision", "Decision", "gavel"),
        ("gate", "Gate", "filter_alt"),
        ("control", "Control", "tune"),
        ("memory", "Memory and OQ", "verified"),
        ("checkpoints", "Checkpoints", "save"),
        ("integrity", "Integrity", "lock"),
    ),
    "Across runs": (
        ("odr", "Decision records", "description"),
        ("sql", "SQL", "database"),
        ("search", "Search", "search"),
    ),
}
# Hidden on a phone.
SIDEBAR_PIXELS = 244


def navigation_pages() -> dict[str, list[st.Page]]:
    """Return the Streamlit pages of each group."""
    return {
        group: [
            st.Page(
                f"screens/{name}.py",
                title=title,
                url_path=name,
                icon=f":material/{icon}:",
                default=name == RUNS_PAGE,
            )
            for name, title, icon in entries
        ]
        for group, entries in PAGES.items()
    }


def show_page() -> None:
    """Show menu, header and content of the page in the address."""
    page = st.navigation(navigation_pages(), position="hidden")
    entries = [entry for group in PAGES.values() for entry in group]
    name, title = next((name, title) for name, title, _ in entries if title == page.title)
    renew_snapshot()
    st.set_page_config(page_title=page_title(name, title))
    with st.sidebar.container(key="menu", gap=None):
        menu(PAGES)
    with st.container(key=f"header-{name}"):
        page_header(name, title)
    page.run()


# The icon is a file, because the browser would load a named icon from another host.
st.set_page_config(
    page_title="Ockham",
    page_icon=str(Path(__file__).with_name("icon.svg")),
    layout="wide",
    initial_sidebar_state=SIDEBAR_PIXELS,
)
st.html(CSS)
st.container(key="script").html(SCRIPT, unsafe_allow_javascript=True)
try:
    show_page()
except OckhamError as error:
    st.error("This page cannot be shown.", icon=":material/error:")
    st.code(str(error), language=None)
except Exception as error:
    show_error("This page cannot be shown.", error)
