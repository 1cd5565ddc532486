"""Search page: all matches of a text."""

from __future__ import annotations

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import page_header, section
from dashboard.search import normalize, target
from dashboard.tables import query_table

QUESTION = "What has this name, ID or digest?"
MAX_ROWS = 200
text = normalize(st.query_params.get("q", ""))
result = query_or_error(run_page_query, "search", text=text) if text else None
if not text:
    page_header(QUESTION, "Enter a run, decision, checkpoint, SHA-256 or decision record above.")
elif result is not None:
    count = result.table.num_rows
    number = f"the first {count:,}" if count == MAX_ROWS else f"{count:,}"
    unit = "match" if count == 1 else "matches"
    page_header(QUESTION, f"{number} {unit}." if count else "Nothing has this name, ID or digest.")
    st.code(text, language=None, wrap_lines=True)
    if count:
        section("Matches", "Select a row to open it.")
        columns = ("kind", "name", "run_id", "detail")
        selected = query_table(result, "matches", columns=columns, selectable=True, alt="Matches.")
        if selected:
            page, parameters = target(selected)
            st.switch_page(page, query_params=parameters)
    else:
        st.caption("Digests and decision IDs are matched from their start, with at least 8 characters.")
