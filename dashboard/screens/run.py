"""Run page: what happened in this run?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import timeline_charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_sql
from dashboard.layout import (
    auto_refresh,
    chart,
    chart_section,
    iteration_range,
    page_header,
    section,
    select_run,
    set_iteration_range,
)
from dashboard.metric_cards import first_row, metric_cards
from dashboard.people import people_section
from dashboard.style import ATTACK, NEUTRAL, SKIP, UPDATE
from dashboard.tables import query_table

QUESTION = "What happened in this run?"
COLUMNS = (
    "iter_num",
    "plugin",
    "action",
    "reason_code",
    "observed",
    "threshold",
    "margin",
    "changes",
    "shadow",
    "decision_id",
)
ALL_DECISIONS = "all decisions"
LAMBDA_FIELDS = {
    "given_lambda": ("before the chain", NEUTRAL, [4, 2]),
    "lambda": ("lambda", ATTACK, [1, 0]),
}
SERVED_FIELDS = {
    "served_loss": ("all", NEUTRAL, [4, 2]),
    "served_new_loss": ("new", SKIP, [1, 0]),
    "served_familiar_loss": ("familiar", UPDATE, [1, 0]),
}
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None
FILTER_KEY = f"filter-{run_id}"
CELL_KEY = f"cell-{run_id}"


def answer(row: dict[str, Any]) -> str:
    """Return the answer of the page from a row of `run_summary`."""
    rate = row.get("update_rate")
    loss = row.get("val_loss")
    text = f"{run_id}: {row.get('state')}"
    if rate is not None:
        unit = "checkpoint" if row["accepted"] == 1 else "checkpoints"
        text += f"; {row['batches']:,} batches, {rate:.1%} updated, {row['accepted']:,} accepted {unit}"
    text += f", validation loss {loss:.4f}." if loss is not None else "."
    ranks = first_row("run_ranks", str(run_id))
    if ranks.get("ranks", 1) > 1:
        agreement = "They made different decisions" if ranks["diverged"] else "All made the same decisions"
        text += f" {ranks['ranks']} ranks wrote a log. {agreement}. This page shows rank 0."
    return text


def on_brush(key: str) -> None:
    """Set the iteration range to the range selected in the loss chart."""
    selected = st.session_state[key]["selection"].get("brush", {}).get("iter")
    if selected:
        st.session_state.pop(CELL_KEY, None)
        set_iteration_range(str(run_id), round(selected[0]), round(selected[1]))


def on_cell_click(key: str) -> None:
    """List the decisions of the cell selected in the plugin chart."""
    cell = next(iter(st.session_state[key]["selection"].get("cell", [])), None)
    if cell:
        st.session_state[FILTER_KEY] = f"{cell['plugin']} {cell['action']}"
        st.session_state[CELL_KEY] = int(cell["iter"]), int(cell["iter"] + cell["width"]) - 1


def loss_and_plugin_charts(limits: tuple[int, int], key: str) -> TimedResult | None:
    """Show losses, plugin actions and knobs on one axis, and return the plugin actions by bin."""
    low, high = limits
    names = ("run_bins", "timeline_events", "plugin_bins")
    bins, events, actions = (
        query_or_error(run_page_query, name, run=run_id, low=low, high=high) for name in names
    )
    if bins is not None and events is not None:
        chart_section(
            bins,
            "Loss and gate threshold, nats/token",
            "Drag over the chart to zoom in, or enter the range above.",
            lambda table: timeline_charts.loss_chart(table, events.table, limits),
            "loss",
            f"Median loss (line) and range (grey) of {bins.table.num_rows} bins. "
            "The dashed orange line is the gate threshold. "
            f"{events.table.num_rows} vertical lines are single events.",
            key=f"chart-loss-{key}",
            on_select=lambda: on_brush(f"chart-loss-{key}"),
            selection_mode="brush",
        )
    chart_section(
        actions,
        "Plugin actions",
        "One row per plugin and action, also of plugins in shadow, which change nothing. "
        "A darker colour means a larger share of batches. Select a cell to list its decisions.",
        lambda table: timeline_charts.plugin_chart(table, limits),
        "plugins",
        "Decisions of each plugin and action over the iterations.",
        key=f"chart-plugins-{key}",
        on_select=lambda: on_cell_click(f"chart-plugins-{key}"),
        selection_mode="cell",
    )
    if bins is not None:
        knob_charts(bins, limits)
    return actions


def knob_charts(bins: TimedResult, limits: tuple[int, int]) -> None:
    """Show learning rate and lambda before and after the chain, on the same axis."""
    chart_section(
        bins,
        "Learning rate and lambda",
        "Dashed: scheduled. Solid: used by the updates. Grey: lowest to highest value of each bin.",
        lambda table: timeline_charts.learning_rate_chart(table, limits),
        "rate",
        "Scheduled learning rate (dashed), and learning rate after the chain (solid).",
    )
    chart(
        lambda: timeline_charts.line_chart(bins.table, LAMBDA_FIELDS, limits, height=120),
        bins,
        "lambda",
        "Strength of the pull to the anchor before the chain (dashed) and after the chain (solid).",
    )


def served_loss_section(limits: tuple[int, int]) -> None:
    """Show the losses of batches that were served before training. Other runs have no such batches."""
    bins = query_or_error(run_page_query, "served_bins", run=run_id, low=limits[0], high=limits[1])
    if bins is None or not bins.table.num_rows:
        return
    chart_section(
        bins,
        "Loss of served batches, nats/token",
        "Cumulative mean. Each batch is scored before it updates the model.",
        lambda table: timeline_charts.line_chart(table, SERVED_FIELDS, limits),
        "served",
        "Cumulative mean loss of all served batches, of new text and of familiar text.",
    )
    adapter = first_row("adapter_status", str(run_id))
    if adapter:
        st.text(adapter_sentence(adapter))


def adapter_sentence(adapter: dict[str, Any]) -> str:
    """Return a text about the adapter of a run, from a row of `adapter_status`."""
    share = adapter["added_params"] / adapter["model_params"]
    text = (
        f"Adapter with {adapter['added_params']:,} parameters ({share:.1%} of the model) "
        f"on {adapter['layers']} layers; disabled {adapter['reverts']:,} times"
    )
    if not adapter["reverts"]:
        return f"{text}."
    result = "the base weights were restored exactly each time"
    if adapter["traces"]:
        result = f"the base weights were NOT restored exactly {adapter['traces']:,} times"
    return f"{text} in {adapter['seconds'] * 1000:.2g} ms; {result}."


def decision_filter(actions: pa.Table) -> tuple[str, str]:
    """Show the filter of the decision list, and return its plugin and action. Empty texts mean all."""
    pairs = {
        f"{plugin} {action}": (plugin, action)
        for plugin, action in sorted(
            {(row["plugin"], row["action"]) for row in actions.select(["plugin", "action"]).to_pylist()}
        )
    }
    st.session_state.setdefault(FILTER_KEY, st.query_params.get("of", ALL_DECISIONS))
    if st.session_state[FILTER_KEY] not in pairs:
        st.session_state[FILTER_KEY] = ALL_DECISIONS
    selected = st.selectbox("Show", [ALL_DECISIONS, *pairs], key=FILTER_KEY)
    if selected == ALL_DECISIONS:
        st.query_params.pop("of", None)
        return "", ""
    st.query_params["of"] = selected
    return pairs[selected]


def decisions_section(limits: tuple[int, int], actions: pa.Table) -> None:
    """Show the newest decisions of the range. Selecting a row opens the decision."""
    section("Decisions", "The newest 100 matching decisions. Select a row to open the decision.")
    low, high = limits
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        plugin, action = decision_filter(actions)
    cell = st.session_state.get(CELL_KEY)
    if cell:
        low, high = max(low, cell[0]), min(high, cell[1])
        right.button(
            f"Iterations {low:,} to {high:,}: show the whole range",
            key="uncell",
            on_click=lambda: st.session_state.pop(CELL_KEY, None),
            width="stretch",
        )
    recent = query_or_error(
        run_page_query, "recent_decisions", run=run_id, low=low, high=high, plugin=plugin, action=action
    )
    if recent is None:
        return
    # Without decisions in shadow mode the column `shadow` has no information.
    has_shadow = any(recent.table["shadow"].to_pylist())
    selected = query_table(
        recent,
        f"recent-{low}-{high}-{plugin}-{action}",
        columns=tuple(name for name in COLUMNS if name != "shadow" or has_shadow),
        selectable=True,
        height=320,
        alt="Decisions, the newest first.",
    )
    if selected:
        parameters = {"run": str(run_id), "decision": selected["decision_id"]}
        st.switch_page("screens/decision.py", query_params=parameters)


def draw() -> None:
    """Show the page."""
    result = query_or_error(run_sql, "select * from run_summary where run_id = $run", run=run_id)
    row = next(iter(result.rows()), {}) if result is not None else {}
    page_header(QUESTION, answer(row))
    if row.get("batches"):
        metric_cards(str(run_id), row)
    limits = iteration_range(str(run_id))
    if limits is None:
        return
    # The key contains the range of the URL, because the end of a live run changes and its charts must stay.
    key = f"{st.query_params.get('from')}-{st.query_params.get('to')}"
    actions = loss_and_plugin_charts(limits, key)
    served_loss_section(limits)
    people_section(str(run_id))
    if actions is not None:
        decisions_section(limits, actions.table)


auto_refresh(draw, run_id)
