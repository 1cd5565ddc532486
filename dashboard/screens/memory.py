"""Memory page: which checkpoints were accepted, and did the Occam Quotient improve?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.layout import auto_refresh, chart_section, page_header, section, select_run
from dashboard.metric_cards import band_sentence, first_row
from dashboard.tables import query_table
from dashboard.words import glossary_line

QUESTION = "Which checkpoints were accepted, and did the Occam Quotient improve?"
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


def answer(gain_row: dict[str, Any], band_row: dict[str, Any]) -> str:
    """Return the answer of the page from rows of `oq_gain` and `run_bands`."""
    if not gain_row.get("candidates"):
        return "The memory has not evaluated a checkpoint yet."
    text = f"{gain_row['accepted']:,} of {gain_row['candidates']:,} candidates were accepted"
    if gain_row["shadow"]:
        text = (
            f"The memory ran in shadow mode. It would have accepted {gain_row['accepted']:,} "
            f"of {gain_row['candidates']:,} candidates"
        )
    rate, band = band_row.get("accept_rate"), band_sentence(band_row, "accept")
    if rate is not None:
        text += f" ({rate:.1%}" + (")" if band is None else f", {band})")
    gain = gain_row["gain"]
    if gain is None:
        return f"{text}."
    return f"{text}; the quotient of the last one is {gain:+.1%} relative to the first."


def open_decision(decision_id: str) -> None:
    """Open the page of a decision."""
    st.switch_page("screens/decision.py", query_params={"run": str(run_id), "decision": decision_id})


def trend_section(points: TimedResult | None) -> None:
    """Show the OQ of all candidates over the run. Selecting a point opens the decision."""
    title = "OQ relative to the first accepted"
    caption = "The line connects accepted candidates. Select a point to open its decision."
    if points is not None and _has_no_accepted(points):
        section(title, caption)
        st.text("No candidate was accepted, so there is no reference for the quotient.")
        return
    state = chart_section(
        points,
        title,
        caption,
        charts.oq_trend,
        "oq",
        "Each point is a candidate. Shape and colour show the outcome. The line connects accepted ones.",
        on_select="rerun",
        selection_mode="candidate",
    )
    selected = next(iter(state["selection"].get("candidate", [])), None) if state else None
    if selected and selected.get("decision_id"):
        open_decision(str(selected["decision_id"]))


def _has_no_accepted(points: TimedResult) -> bool:
    rows = points.table.num_rows
    return rows > 0 and bool(points.table.column("gain").null_count == rows)


def near_misses_section() -> None:
    """Show the rejected candidates with the smallest distance to the limit."""
    misses = query_or_error(run_page_query, "run_near_misses", run=run_id)
    if misses is None or not misses.table.num_rows:
        return
    section(
        "Near misses", "Distance to the limit, as a share of the limit. Select a row to open the decision."
    )
    alt = "Rejected candidates, the closest first."
    selected = query_table(misses, "near", selectable=True, height=280, alt=alt)
    if selected:
        open_decision(str(selected["decision_id"]))


def draw() -> None:
    """Show the page."""
    points = query_or_error(run_page_query, "memory_points", run=run_id)
    band_row = first_row("run_bands", str(run_id))
    gain_row = first_row("oq_gain", str(run_id))
    page_header(QUESTION, answer(gain_row, band_row))
    st.caption(
        "For one architecture, OQ is proportional to 1/loss. Across model sizes it favours very small "
        "models, so always compare the loss too."
    )
    left, right = st.columns([1, 2])
    with left:
        chart_section(
            query_or_error(run_page_query, "memory_funnel", run=run_id),
            "Gates of the memory",
            "Number of candidates that pass each gate.",
            charts.funnel,
            "funnel",
            "Number of candidates that pass each gate.",
        )
    with right:
        trend_section(points)
    chart_section(
        points,
        "Loss against drift",
        "Lower left is better. Line: Pareto frontier, where no other candidate has lower loss and drift.",
        charts.pareto,
        "pareto",
        "Validation loss against drift of each candidate, by outcome. Dashed line: Pareto frontier.",
    )
    near_misses_section()
    st.page_link(
        "screens/checkpoints.py", label="Checkpoints and their files", query_params={"run": str(run_id)}
    )
    glossary_line("Occam Quotient (OQ)", "accept rate", "drift", "checkpoint", "band")


auto_refresh(draw, run_id)
