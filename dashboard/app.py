"""The audit pages. `ockham dashboard` starts this; every page opens with its question and the answer for this run.

The folder of the pages is not named `pages`: Streamlit would open a deep link from there without this file.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.layout import show_error
from dashboard.style import CSS
from ockham.errors import OckhamError

PAGES = {
    "": (("overview", "Overview", "dashboard"),),
    "One run": (("run", "Run", "timeline"), ("decision", "Decision", "gavel"), ("gate", "Gate", "filter_alt"),
                ("control", "Control", "tune"), ("memory", "Memory and OQ", "verified"), ("integrity", "Integrity", "lock")),
    "Across runs": (("compare", "Compare", "compare_arrows"), ("value", "Value", "savings"), ("odr", "Decision records", "description"),
                    ("sql", "SQL", "database")),
}  # fmt: skip

SIDEBAR = 244  # pixels; hidden on a phone
# The icon is a file: one by name would be fetched from another machine.
st.set_page_config(
    page_title="Ockham",
    page_icon=str(Path(__file__).with_name("icon.svg")),
    layout="wide",
    initial_sidebar_state=SIDEBAR,
)
st.html(CSS)
pages = {
    group: [
        st.Page(
            f"screens/{name}.py",
            title=title,
            url_path=name,
            icon=f":material/{icon}:",
            default=name == "overview",
        )
        for name, title, icon in listed
    ]
    for group, listed in PAGES.items()
}
try:
    st.navigation(pages).run()
except OckhamError as error:
    st.error("This page could not be made.", icon=":material/error:")
    st.code(str(error), language=None)
except Exception as error:
    show_error("This page could not be made.", error)
