"""Search box of all pages: opens the run, checkpoint, decision or decision record that a text names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query
from dashboard.file_digest import SHA256, file_digest

MAX_TEXT_CHARACTERS = 200
BOX_KEY = "search-text"


def search_box() -> None:
    """Show the box. A text with one match opens it, another text opens the page with all matches."""
    with st.container(horizontal=True, vertical_alignment="center", width="content", key="search"):
        st.text_input(
            "Search",
            key=BOX_KEY,
            type="search",
            placeholder="Name, ID or SHA-256",
            label_visibility="collapsed",
            width=310,
            on_change=_remember,
        )
        popover = st.popover("Identify a file", key="identify", on_change="rerun")
        if popover.open:
            with popover:
                digest = file_digest("identified")
            if digest:
                st.switch_page("screens/checkpoints.py", query_params={"digest": digest})
    text = st.session_state.pop("searched", "")
    if text:
        _open(text)


def _remember() -> None:
    """Note the text and empty the box, so that the next page does not search again."""
    st.session_state["searched"] = normalize(st.session_state[BOX_KEY])
    st.session_state[BOX_KEY] = ""


def normalize(text: str) -> str:
    """Return the text of a search as the query compares it."""
    return text.strip().lower()[:MAX_TEXT_CHARACTERS].removeprefix("sha256:")


def _open(text: str) -> None:
    if SHA256.fullmatch(text):
        st.switch_page("screens/checkpoints.py", query_params={"digest": text})
    rows = find_matches(text)
    exact = [row for row in rows if text in (str(row["name"]).lower(), row["run_id"])] or rows
    if len(exact) == 1:
        page, parameters = target(exact[0])
        st.switch_page(page, query_params=parameters)
    st.switch_page("screens/search.py", query_params={"q": text})


def find_matches(text: str) -> list[dict[str, Any]]:
    """Return all matches of a text, see search.sql."""
    result = query_or_error(run_page_query, "search", text=text) if text else None
    return [] if result is None else result.rows()


def target(row: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return page and parameters of a match."""
    name, run_id = str(row["name"]), str(row["run_id"])
    if row["kind"] == "run":
        return "screens/run.py", {"run": run_id}
    if row["kind"] == "checkpoint":
        return "screens/checkpoints.py", {"run": run_id, "checkpoint": name}
    if row["kind"] == "decision":
        return "screens/decision.py", {"run": run_id, "decision": name}
    return "screens/odr.py", {"id": name}
