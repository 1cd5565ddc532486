"""What did compressor and limiter turn?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, section, span, under
from dashboard.source import ask, ask_sql, or_error

KNOBS = ("learning_rate", "lambda_ockham", "grad_clip", "drift_ceiling")
run_id = choose_run()
if run_id is None:
    st.stop()
assert run_id is not None


def lanes(low: int, high: int) -> None:
    """Rate, drift and gradient norm on one axis, and what the limiter capped."""
    where = {"run": run_id, "low": low, "high": high}
    bins, over = or_error(ask, "run_bins", **where), or_error(ask, "overshoot", **where)
    if bins is not None:
        section("Learning rate: scheduled, and as it was used")
        chart(
            lambda: charts.lines(
                bins.table, {"scheduled_rate": (charts.NEUTRAL, [4, 2]), "learning_rate": (charts.UPDATE, [1, 0])}, "learning rate"
            ), bins, "rates", "The dashed line is the schedule; the solid one is what the chain left of it.",
        )  # fmt: skip
        left, right = st.columns(2)
        with left:
            section("Drift from the anchor")
            chart(
                lambda: charts.lines(bins.table, {"drift": (charts.UPDATE, [1, 0]), "drift_high": (charts.SKIP, [4, 2])}, "relative drift"),
                bins, "drifts", "Median and highest drift of each bin; it falls to zero where the anchor moves.",
            )  # fmt: skip
        with right:
            section("Gradient norm")
            chart(
                lambda: charts.lines(
                    bins.table, {"grad_norm": (charts.UPDATE, [1, 0]), "grad_norm_high": (charts.SKIP, [4, 2])}, "gradient norm", log=True
                ), bins, "norms", "Median and highest gradient norm of each bin before clipping, on a log axis.",
            )  # fmt: skip
    if over is not None:
        section("What the limiter capped", "The larger the mark, the more batches of the bin were capped.")
        chart(
            lambda: charts.overshoot(over.table),
            over,
            "overshoot",
            "How far values stood above the cap at worst, by bin and reason.",
        )


def one_knob() -> None:
    """A knob of one batch, through the chain."""
    section("One knob through the chain", "What each plugin made of it, in order.")
    turned = or_error(
        ask_sql, "select max(iter_num) as at from hyperparameter_changes where run_id = $run and field = 'learning_rate' and not superseded and not shadow",
        run=run_id,
    )  # fmt: skip
    at = turned.rows()[0]["at"] if turned is not None else None
    left, right = st.columns(2)
    field = left.selectbox("Knob", KNOBS, key="knob")
    iteration = right.number_input("Iteration", 0, value=int(at or 0), key=f"knob-at-{run_id}")
    found = or_error(ask, "knob", run=run_id, iter=int(iteration), field=field)
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
    turns = or_error(ask, "turns", run=run_id)
    rows = turns.rows() if turns is not None else []
    head(
        "What did compressor and limiter turn?",
        f"{sum(row['n'] for row in rows):,} decisions besides the gate's; most of them {rows[0]['plugin']} {rows[0]['reason_code']}."
        if rows
        else "Nothing but the gate has decided anything.",
    )
    limits = span(str(run_id))
    if limits is None:
        return
    lanes(*limits)
    one_knob()
    if turns is not None:
        section("By plugin and reason")
        st.dataframe(turns.table, hide_index=True, key="turns")
        under(turns, "turns")


follow(draw, run_id)
