"""Control page: what did the compressor and the limiter change?"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard import charts, run_panels
from dashboard.components.timeseries import LinePanel, RowPanel
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.iteration_view import read_view
from dashboard.late_parts import send_parts
from dashboard.layout import auto_refresh, chart, page_header, section, select_run
from dashboard.run_chart import run_chart
from dashboard.tables import query_table
from dashboard.words import glossary_line, knob_name, reason_name

QUESTION = "What did the compressor and the limiter change?"
# Page query -> description of its rows.
CHART_QUERIES = {
    "run_bins": "Learning rate, lambda, drift and gradient norm of each bin.",
    "plugin_bins": "Decisions of each plugin and action.",
    "overshoot": "Excess over the caps of the limiter.",
}
KNOBS = ("learning_rate", "lambda_ockham", "grad_clip", "drift_ceiling")
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


def make_panels(tables: Mapping[str, pa.Table]) -> list[LinePanel | RowPanel | None]:
    """Return the panels of the chart, from the tables of `CHART_QUERIES`."""
    panels: list[LinePanel | RowPanel | None] = []
    if "run_bins" in tables:
        panels.append(run_panels.rate_panel(tables["run_bins"], height=190))
    if "plugin_bins" in tables:
        actions = tables["plugin_bins"]
        chosen = actions.filter(pc.is_in(actions["plugin"], pa.array(["compressor", "limiter"])))
        panels.append(run_panels.plugin_panel(chosen, "Compressor and limiter"))
    if "run_bins" in tables:
        bins = tables["run_bins"]
        panels += [
            run_panels.lambda_panel(bins),
            run_panels.drift_panel(bins),
            run_panels.norm_panel(bins),
        ]
    if "overshoot" in tables:
        panels.append(run_panels.overshoot_panel(tables["overshoot"]))
    return panels


@st.fragment
def control_charts() -> None:
    """Show learning rate, actions, drift, gradient norm and caps on one axis. A zoom draws only this part."""
    view = read_view(str(run_id))
    if view is None:
        return
    run_chart(
        str(run_id),
        view,
        CHART_QUERIES,
        make_panels,
        key=f"control-{run_id}",
        description=f"Learning rate, compressor, limiter, drift and gradient norm of {run_id}.",
    )
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
    page_header(QUESTION, answer(decisions))
    control_charts()
    send_parts()
    knob_section()
    if decisions is not None:
        section("By plugin and reason")
        query_table(decisions, "turns", alt="Number of decisions per plugin and reason.")
    glossary_line("knob", "lambda", "drift", "anchor weights", "chain")


auto_refresh(draw, run_id)
