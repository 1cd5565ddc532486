"""Control page: what did the compressor and the limiter change?"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard import charts, timeline_charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.layout import (
    auto_refresh,
    chart,
    chart_section,
    iteration_range,
    page_header,
    section,
    select_run,
)
from dashboard.style import SKIP, UPDATE
from dashboard.tables import query_table

QUESTION = "What did the compressor and the limiter change?"
KNOBS = ("learning_rate", "lambda_ockham", "grad_clip", "drift_ceiling")
DRIFT_FIELDS = {"drift_high": ("highest of the bin", SKIP, [1, 0]), "drift": ("median", UPDATE, [1, 0])}
NORM_FIELDS = {
    "grad_norm_high": ("highest of the bin", SKIP, [1, 0]),
    "grad_norm": ("median", UPDATE, [1, 0]),
}
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


def control_charts(limits: tuple[int, int]) -> None:
    """Show learning rate, actions, drift, gradient norm and caps on one axis."""
    low, high = limits
    names = ("run_bins", "plugin_bins", "overshoot")
    bins, actions, overshoot = (
        query_or_error(run_page_query, name, run=run_id, low=low, high=high) for name in names
    )
    chart_section(
        bins,
        "Learning rate",
        "Dashed: scheduled. Solid: after the chain.",
        lambda table: timeline_charts.learning_rate_chart(table, limits, height=190),
        "rates",
        "Scheduled learning rate (dashed), and learning rate after the chain (solid).",
    )
    chart_section(
        _control_actions(actions),
        "Attack, release, make-up and clamps",
        "A darker colour means a larger share of batches.",
        lambda table: timeline_charts.plugin_chart(table, limits),
        "strips",
        "Iterations at which the compressor attacked, released and made up, and the limiter clamped.",
    )
    chart_section(
        bins,
        "Drift from the anchor",
        "Drift returns to zero when the anchor moves.",
        lambda table: timeline_charts.line_chart(table, DRIFT_FIELDS, limits, titled=False),
        "drifts",
        "Median and highest drift of each bin. Drift returns to zero when the anchor moves.",
    )
    norm_and_overshoot_charts(bins, overshoot, limits)


def norm_and_overshoot_charts(
    bins: TimedResult | None, overshoot: TimedResult | None, limits: tuple[int, int]
) -> None:
    """Show the gradient norm, and the values that the limiter capped."""
    chart_section(
        bins,
        "Gradient norm before clipping",
        "Logarithmic axis.",
        lambda table: timeline_charts.line_chart(
            table, NORM_FIELDS, limits, log=True, titled=overshoot is None
        ),
        "norms",
        "Median and highest gradient norm of each bin before clipping, on a logarithmic axis.",
    )
    chart_section(
        overshoot,
        "Values capped by the limiter",
        "Highest excess over the cap per bin. A larger mark means more batches.",
        lambda table: timeline_charts.overshoot_chart(table, limits),
        "overshoot",
        "Highest excess over the cap, by bin and reason.",
    )


def _control_actions(actions: TimedResult | None) -> TimedResult | None:
    if actions is None:
        return None
    plugins = pa.array(["compressor", "limiter"])
    return actions._replace(table=actions.table.filter(pc.is_in(actions.table["plugin"], plugins)))


def knob_section() -> None:
    """Show one knob of one batch, before the chain and after each plugin."""
    section("One knob through the chain", "Value of the knob after each plugin, in the order of the chain.")
    left, right = st.columns(2)
    field = left.selectbox("Knob", KNOBS, key="knob")
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
        st.text(f"No plugin changed {field} at iteration {iteration}.")
        return
    chart(
        lambda: charts.waterfall(changes.table),
        changes,
        "knob",
        f"{field} at iteration {iteration}, before the chain and after each plugin.",
    )


def answer(decisions: TimedResult | None) -> str:
    """Return the answer of the page from the rows of `control_decisions`."""
    rows = decisions.rows() if decisions is not None else []
    if not rows:
        return "Only the gate has made decisions about batches."
    total = sum(row["n"] for row in rows)
    top = rows[0]
    most_frequent = f"{top['plugin']} {top['reason_code']}"
    return f"{total:,} decisions of plugins other than the gate; most frequent: {most_frequent}."


def draw() -> None:
    """Show the page."""
    decisions = query_or_error(run_page_query, "control_decisions", run=run_id)
    page_header(QUESTION, answer(decisions))
    limits = iteration_range(str(run_id))
    if limits is None:
        return
    control_charts(limits)
    knob_section()
    if decisions is not None:
        section("By plugin and reason")
        query_table(decisions, "turns", alt="Number of decisions per plugin and reason.")


auto_refresh(draw, run_id)
