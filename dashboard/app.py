"""The audit pages. `ockham dashboard` starts this; every page opens with its question and the answer for this run."""

from __future__ import annotations

import streamlit as st

PAGES = (
    ("overview", "Overview"), ("run", "Run"), ("decision", "Decision"), ("gate", "Gate"), ("control", "Control"),
    ("memory", "Memory and OQ"), ("compare", "Compare"), ("odr", "Decision records"), ("sql", "SQL"),
    ("integrity", "Integrity"),
)  # fmt: skip

st.set_page_config(page_title="Ockham", page_icon=":material/balance:", layout="wide")
pages = [
    st.Page(f"screens/{name}.py", title=title, url_path=name, default=name == "overview")
    for name, title in PAGES
]
st.navigation(pages).run()
