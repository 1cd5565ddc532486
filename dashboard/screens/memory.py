"""Which checkpoints were kept, and did the Occam Quotient rise?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, section, under
from dashboard.source import ask, or_error

run_id = choose_run()
if run_id is None:
    st.stop()


def answer(row: dict[str, Any], band: dict[str, Any]) -> str:
    """One sentence."""
    if not row.get("candidates"):
        return "No checkpoint has been judged yet."
    told = f"{row['accepted']:,} of {row['candidates']:,} candidates were kept"
    rate, low, high = (band.get(name) for name in ("accept_rate", "accept_low", "accept_high"))
    if rate is not None and low is not None and high is not None:
        told += f" ({rate:.1%}, {'inside' if low <= rate <= high else 'outside'} the promised {low:.0%} to {high:.0%})"
    gain = row["gain"]
    return told + (
        f"; the last one's quotient is {gain:+.1%} against the first." if gain is not None else "."
    )


def draw() -> None:
    """Funnel, trend, frontier, near misses."""
    points, bands, gain = (
        or_error(ask, name, run=run_id) for name in ("memory_points", "bands_of", "oq_gain")
    )
    band, row = (next(iter(found.rows()), {}) if found is not None else {} for found in (bands, gain))
    head("Which checkpoints were kept, and did the Occam Quotient rise?", answer(row, band))
    st.caption(
        "At a fixed architecture OQ is 1/loss times a constant; across sizes it favours tiny models. Read it beside the loss."
    )
    funnel = or_error(ask, "funnel", run=run_id)
    left, right = st.columns([1, 2])
    with left:
        if funnel is not None:
            section("Through the gates")
            chart(lambda: charts.funnel(funnel.table), funnel, "funnel", "Candidates left after each gate.")
    with right:
        if points is not None:
            section("OQ against the first accepted")
            chart(
                lambda: charts.oq_trend(points.table), points, "oq",
                "Each point is a candidate; shape and colour say which gate refused it, or that it was kept.",
            )  # fmt: skip
    if points is not None:
        section("Loss against drift", "Lower left is better in both.")
        chart(
            lambda: charts.pareto(points.table),
            points,
            "pareto",
            "Validation loss against drift of each candidate, by outcome.",
        )
    near = or_error(ask, "near_misses_of", run=run_id)
    if near is not None and near.table.num_rows:
        section(
            "Near misses", "What was missing, as a share of the limit; choose a row to open the decision."
        )
        picked = st.dataframe(
            near.table,
            hide_index=True,
            key="near",
            on_select="rerun",
            selection_mode="single-row",
            height=280,
        )
        under(near, "near")
        if picked.selection.rows:
            chosen = near.rows()[picked.selection.rows[0]]["decision_id"]
            st.switch_page("screens/decision.py", query_params={"run": str(run_id), "decision": chosen})


follow(draw, run_id)
