"""Which checkpoints were kept, and did the Occam Quotient rise?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.layout import auto_refresh, chart, page_header, section, select_run
from dashboard.metric_cards import band_sentence, first_row
from dashboard.tables import query_table

run_id = select_run()
if run_id is None:
    st.stop()


def answer(row: dict[str, Any], band: dict[str, Any]) -> str:
    """One sentence."""
    if not row.get("candidates"):
        return "No checkpoint has been judged yet."
    told = f"{row['accepted']:,} of {row['candidates']:,} candidates {'would have been kept by a memory that only watched, in shadow' if row['shadow'] else 'were kept'}"
    beside = band_sentence(band, "accept")
    if beside is not None:
        told += f" ({band['accept_rate']:.1%}, {beside})"
    gain = row["gain"]
    return told + (
        f"; the last one's quotient is {gain:+.1%} against the first." if gain is not None else "."
    )


def open_decision(decision_id: str) -> None:
    """Go to the decision."""
    st.switch_page("screens/decision.py", query_params={"run": str(run_id), "decision": decision_id})


def trend(points: TimedResult) -> None:
    """What became of each candidate, over the run; a click opens the decision."""
    section(
        "OQ against the first accepted",
        "The line joins what was kept. A click on a point opens its decision.",
    )
    if points.table.num_rows and points.table.column("gain").null_count == points.table.num_rows:
        st.text("No candidate was accepted, so there is none to compare with.")
        return
    made = chart(
        lambda: charts.oq_trend(points.table), points, "oq",
        "Each point is a candidate; shape and colour say which gate refused it, or that it was kept; the line joins those kept.",
        on_select="rerun", selection_mode="candidate",
    )  # fmt: skip
    picked = next(iter(made["selection"].get("candidate", [])), None) if made else None
    if picked and picked.get("decision_id"):
        open_decision(str(picked["decision_id"]))


def near_misses() -> None:
    """Candidates that missed by the least; a row opens the decision."""
    near = query_or_error(run_page_query, "run_near_misses", run=run_id)
    if near is None or not near.table.num_rows:
        return
    section("Near misses", "What was missing, as a share of the limit; choose a row to open the decision.")
    chosen = query_table(
        near, "near", selectable=True, height=280, alt="Refused candidates, the nearest first."
    )
    if chosen:
        open_decision(str(chosen["decision_id"]))


def draw() -> None:
    """Funnel, trend, frontier, near misses."""
    points, band, row = (
        query_or_error(run_page_query, "memory_points", run=run_id),
        first_row("run_bands", str(run_id)),
        first_row("oq_gain", str(run_id)),
    )
    page_header("Which checkpoints were kept, and did the Occam Quotient rise?", answer(row, band))
    st.caption(
        "At a fixed architecture OQ is 1/loss times a constant; across sizes it favours tiny models. Read it beside the loss."
    )
    funnel = query_or_error(run_page_query, "memory_funnel", run=run_id)
    left, right = st.columns([1, 2])
    with left:
        if funnel is not None:
            section("Through the gates", "How many candidates were left after each.")
            chart(lambda: charts.funnel(funnel.table), funnel, "funnel", "Candidates left after each gate.")
    with right:
        if points is not None:
            trend(points)
    if points is not None:
        section(
            "Loss against drift",
            "Lower left is better; the line joins the candidates that no other beats in both (the Pareto front).",
        )
        chart(
            lambda: charts.pareto(points.table), points, "pareto",
            "Validation loss against drift of each candidate, by outcome; the dashed line is the Pareto front.",
        )  # fmt: skip
    near_misses()


auto_refresh(draw, run_id)
