"""Control page: what did the compressor and the limiter change?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.chart_kinds import CHART_KINDS
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.iteration_view import read_view
from dashboard.layout import auto_refresh, chart, page_header, section, select_run
from dashboard.run_chart import run_chart
from dashboard.tables import query_table
from dashboard.words import glossary_line, knob_name, reason_name

KIND = CHART_KINDS["control"]
KNOBS = ("learning_rate", "lambda_ockham", "grad_clip", "drift_ceiling")
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


@st.fragment
def control_charts() -> None:
    """Show learning rate, actions, drift, gradient norm and caps on one axis. A zoom draws only this part."""
    view = read_view(str(run_id))
    if view is None:
        return
    run_chart(str(run_id), view, KIND, key=f"control-{run_id}")
    st.caption("Drift returns to zero when the anchor moves.")


def knob_section() -> None:
    """Show one knob of one batch, before the chain and after each plugin."""
    section("One knob through the chain", "Value of the knob after each plugin, in the order of the chain.")
    left, right = st.columns(2)
    field = left.selectbox("Knob", KNOBS, format_func=knob_name, key="knob")
    busiest = query_or_error(run_page_query, "knob_most_changed", run=run_id, field=field)
    initial = next((row["iter"] for row in busiest.rows()), 0) if busiest is not None else 0
    iteration = int(
        right.number_input(
            "Iteration",
            0,
            value=int(initial),
            key=f"knob-at-{run_id}-{field}",
            help="Default: the iteration at which the most plugins changed this knob.",
        )
    )
    changes = query_or_error(run_page_query, "knob_changes_of_batch", run=run_id, iter=iteration, field=field)
    if changes is None:
        return
    if not changes.table.num_rows:
        st.text(f"No plugin changed the {knob_name(field)} at iteration {iteration:,}.")
        return
    chart(
        lambda: charts.waterfall(changes.table),
        changes,
        "knob",
        f"{knob_name(field)} at iteration {iteration:,}, before the chain and after each plugin.",
    )


def answer(decisions: TimedResult | None) -> str:
    """Return the answer of the page from the rows of `control_decisions`."""
    rows = decisions.rows() if decisions is not None else []
    if not rows:
        return "Only the gate has made decisions about batches."
    total = sum(row["n"] for row in rows)
    top = rows[0]
    return (
        f"Plugins other than the gate made {total:,} decisions. The most frequent reason is of the "
        f"{top['plugin']}: {reason_name(top['reason_code'])}, {top['n']:,} times."
    )


def draw() -> None:
    """Show the page."""
    decisions = query_or_error(run_page_query, "control_decisions", run=run_id)
    page_header(KIND.title, answer(decisions))
    control_charts()
    knob_section()
    if decisions is not None:
        section("By plugin and reason")
        query_table(decisions, "turns", alt="Number of decisions per plugin and reason.")
    glossary_line("knob", "lambda", "drift", "anchor weights", "chain")


auto_refresh(draw, run_id)
