"""What happened in this run?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, follow, head, section, span, under, zoom
from dashboard.source import ask, ask_sql, or_error

run_id = choose_run()
if run_id is None:
    st.stop()
assert run_id is not None


def answer() -> str:
    """One sentence."""
    summary = or_error(ask_sql, "select * from run_summary where run_id = $run", run=run_id)
    row = next(iter(summary.rows()), {}) if summary is not None else {}
    rate, loss = row.get("update_rate"), row.get("val_loss")
    told = f"{run_id}: {row.get('state')}"
    if rate is not None:
        told += f"; {row['batches']:,} batches, {rate:.1%} of them updated, {row['accepted']} checkpoints accepted"
    return told + (f", validation loss {loss:.4f}." if loss is not None else ".")


def brushed(key: str) -> None:
    """The reader dragged over the loss: look at these iterations."""
    found = st.session_state[key]["selection"].get("brush", {}).get("iter")
    if found:
        zoom(str(run_id), round(found[0]), round(found[1]))


def lanes(low: int, high: int) -> None:
    """Lanes on one axis."""
    where = {"run": run_id, "low": low, "high": high}
    bins, marks = or_error(ask, "run_bins", **where), or_error(ask, "marks", **where)
    if bins is not None and marks is not None:
        section(
            "Loss and the gate's threshold", "Drag over the chart to look closer; the range is also above."
        )
        key = f"chart-loss-{low}-{high}"
        chart(
            lambda: charts.loss_lane(bins.table, marks.table), bins, "loss",
            f"Median loss (line) and range (grey) of {bins.table.num_rows} bins; dashed orange is the loss from which a "
            f"batch is worth an update; {marks.table.num_rows} upright rules mark what happened once.",
            key=key, on_select=lambda: brushed(key), selection_mode="brush",
        )  # fmt: skip
    found = or_error(ask, "plugin_bins", **where)
    if found is not None:
        section(
            "Who acted when",
            "One strip for each plugin and action; the fuller the colour, the larger the share of batches.",
        )
        chart(
            lambda: charts.plugin_lane(found.table),
            found,
            "plugins",
            "Decisions of each plugin and action over the iterations.",
        )
    if bins is not None:
        left, right = st.columns(2)
        with left:
            section("Learning rate")
            chart(
                lambda: charts.lines(
                    bins.table, {"scheduled_rate": (charts.NEUTRAL, [4, 2]), "learning_rate": (charts.UPDATE, [1, 0])}, "learning rate"
                ), bins, "rate", "Scheduled learning rate (dashed) and as the chain left it.",
            )  # fmt: skip
        with right:
            section("Lambda")
            chart(
                lambda: charts.lines(
                    bins.table, {"given_lambda": (charts.NEUTRAL, [4, 2]), "lambda": (charts.ATTACK, [1, 0])}, "lambda"
                ), bins, "lambda", "Pull towards the anchor as it was given (dashed), and as the chain left it.",
            )  # fmt: skip


def decisions(low: int, high: int) -> None:
    """The decisions of the range, newest first; one opens by a click, or by its ID on the Decision page."""
    recent = or_error(ask, "recent", run=run_id, low=low, high=high)
    if recent is None:
        return
    section("The last decisions here", "Choose a row to open it.")
    picked = st.dataframe(
        recent.table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"recent-{low}-{high}",
        height=260,
    )
    under(recent, "recent")
    if picked.selection.rows:
        chosen = recent.rows()[picked.selection.rows[0]]["decision_id"]
        st.switch_page("screens/decision.py", query_params={"run": str(run_id), "decision": chosen})


def draw() -> None:
    """The page."""
    head("What happened in this run?", answer())
    limits = span(str(run_id))
    if limits is not None:
        lanes(*limits)
        decisions(*limits)


follow(draw, run_id)
