"""What did compressor and limiter turn?"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard import charts, timeline_charts
from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import auto_refresh, chart, iteration_range, page_header, section, select_run
from dashboard.style import NEUTRAL, SKIP, UPDATE
from dashboard.tables import query_table

KNOBS = ("learning_rate", "lambda_ockham", "grad_clip", "drift_ceiling")
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


def control_charts(low: int, high: int) -> None:
    """Rate, who turned it, drift and gradient norm on one axis, and what the limiter capped."""
    where = {"run": run_id, "low": low, "high": high}
    bins, acted, over = (
        query_or_error(run_page_query, name, **where) for name in ("run_bins", "plugin_bins", "overshoot")
    )
    if bins is not None:
        section("Learning rate: scheduled, and as it was used")
        rates = {
            "scheduled_rate": ("scheduled rate", NEUTRAL, [4, 2]),
            "learning_rate": ("learning rate", UPDATE, [1, 0]),
        }
        chart(
            lambda: timeline_charts.line_chart(bins.table, rates, (low, high), band=("learning_rate_low", "learning_rate_high"), named=False, height=190), bins, "rates",
            "The dashed line is the schedule; the solid one is what the chain left of it.",
        )  # fmt: skip
    if acted is not None:
        turning = acted._replace(
            table=acted.table.filter(pc.is_in(acted.table["plugin"], pa.array(["compressor", "limiter"])))
        )
        section(
            "Attack, release, make-up, and clamps", "The fuller the colour, the larger the share of batches."
        )
        chart(
            lambda: timeline_charts.plugin_lane(turning.table, (low, high)), turning, "strips",
            "When the compressor attacked, released and made up, and when the limiter clamped.",
        )  # fmt: skip
    if bins is not None:
        section("Drift from the anchor", "It falls to zero where the anchor moves.")
        drifts = {"drift_high": ("highest of the bin", SKIP, [1, 0]), "drift": ("median", UPDATE, [1, 0])}
        chart(
            lambda: timeline_charts.line_chart(bins.table, drifts, (low, high), named=False), bins, "drifts",
            "Median and highest drift of each bin; it falls to zero where the anchor moves.",
        )  # fmt: skip
        section("Gradient norm before clipping", "On a log axis.")
        norms = {
            "grad_norm_high": ("highest of the bin", SKIP, [1, 0]),
            "grad_norm": ("median", UPDATE, [1, 0]),
        }
        chart(
            lambda: timeline_charts.line_chart(bins.table, norms, (low, high), log=True, named=over is None), bins, "norms",
            "Median and highest gradient norm of each bin before clipping, on a log axis.",
        )  # fmt: skip
    if over is not None:
        section(
            "What the limiter capped",
            "How far above its cap a value stood at worst; the larger the mark, the more batches of the bin.",
        )
        chart(
            lambda: timeline_charts.overshoot_chart(over.table, (low, high)), over, "overshoot",
            "How far values stood above the cap at worst, by bin and reason.",
        )  # fmt: skip


def one_knob() -> None:
    """A knob of one batch, through the chain."""
    section("One knob through the chain", "What each plugin made of it, in order.")
    left, right = st.columns(2)
    field = left.selectbox("Knob", KNOBS, key="knob")
    busiest = query_or_error(run_page_query, "knob_most_changed", run=run_id, field=field)
    at = next((row["iter"] for row in busiest.rows()), 0) if busiest is not None else 0
    iteration = right.number_input(
        "Iteration",
        0,
        value=int(at),
        key=f"knob-at-{run_id}-{field}",
        help="It starts where most plugins turned this knob.",
    )
    found = query_or_error(run_page_query, "knob_changes_of_batch", run=run_id, iter=int(iteration), field=field)
    if found is None:
        return
    if not found.table.num_rows:
        st.text(f"No plugin turned {field} at iteration {iteration}.")
        return
    chart(
        lambda: charts.waterfall(found.table),
        found,
        "knob",
        f"{field} of iteration {iteration}, as it was given and after each plugin.",
    )


def draw() -> None:
    """The page."""
    turns = query_or_error(run_page_query, "control_decisions", run=run_id)
    rows = turns.rows() if turns is not None else []
    page_header(
        "What did compressor and limiter turn?",
        f"{sum(row['n'] for row in rows):,} decisions besides the gate's; most of them {rows[0]['plugin']} {rows[0]['reason_code']}."
        if rows
        else "No plugin but the gate has decided anything within a batch.",
    )
    limits = iteration_range(str(run_id))
    if limits is None:
        return
    control_charts(*limits)
    one_knob()
    if turns is not None:
        section("By plugin and reason")
        query_table(turns, "turns", alt="How often each plugin gave each reason.")


auto_refresh(draw, run_id)
