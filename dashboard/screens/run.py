"""What happened in this run?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import timeline_charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_sql
from dashboard.layout import (
    auto_refresh,
    chart,
    iteration_range,
    page_header,
    section,
    select_run,
    set_iteration_range,
)
from dashboard.metric_cards import first_row, metric_cards
from dashboard.style import ATTACK, NEUTRAL, SKIP, UPDATE
from dashboard.tables import query_table

LISTED = (
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
ALL = "all decisions"
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None
LANE, CELL = f"lane-{run_id}", f"cell-{run_id}"


def answer(row: dict[str, Any]) -> str:
    """One sentence."""
    rate, loss = row.get("update_rate"), row.get("val_loss")
    told = f"{run_id}: {row.get('state')}"
    if rate is not None:
        told += f"; {row['batches']:,} batches, {rate:.1%} of them updated, {row['accepted']:,} {'checkpoint' if row['accepted'] == 1 else 'checkpoints'} kept"
    told += f", validation loss {loss:.4f}." if loss is not None else "."
    ranks = first_row("run_ranks", str(run_id))
    if ranks.get("ranks", 1) > 1:
        alike = "they decided differently" if ranks["diverged"] else "each decides alike"
        told += f" {ranks['ranks']} ranks wrote a log; rank 0 is shown, {alike}."
    return told


def on_brush(key: str) -> None:
    """The reader dragged over the loss: look at these iterations."""
    found = st.session_state[key]["selection"].get("brush", {}).get("iter")
    if found:
        st.session_state.pop(CELL, None)
        set_iteration_range(str(run_id), round(found[0]), round(found[1]))


def on_cell_click(key: str) -> None:
    """The reader chose a cell of the strips: list its decisions below."""
    found = next(iter(st.session_state[key]["selection"].get("cell", [])), None)
    if found:
        st.session_state[LANE] = f"{found['plugin']} {found['action']}"
        st.session_state[CELL] = int(found["iter"]), int(found["iter"] + found["width"]) - 1


def loss_and_plugin_charts(low: int, high: int, key: str) -> TimedResult | None:
    """Loss and who acted, on one axis; the decisions of each plugin by bin."""
    where = {"run": run_id, "low": low, "high": high}
    bins, marks, acted = (
        query_or_error(run_page_query, name, **where) for name in ("run_bins", "timeline_events", "plugin_bins")
    )
    if bins is not None and marks is not None:
        section(
            "Loss and the gate's threshold, nats/token",
            "Drag over the chart to look closer; or type the range above.",
        )
        chart(
            lambda: timeline_charts.loss_lane(bins.table, marks.table, (low, high)), bins, "loss",
            f"Median loss (line) and range (grey) of {bins.table.num_rows} bins; dashed orange is the loss from which a "
            f"batch is worth an update; {marks.table.num_rows} upright rules mark what happened once.",
            key=f"chart-loss-{key}", on_select=lambda: on_brush(f"chart-loss-{key}"), selection_mode="brush",
        )  # fmt: skip
    if acted is not None:
        section(
            "Who acted when",
            "One strip for each plugin and action; the fuller the colour, the larger the share of batches. A click lists the decisions of a cell.",
        )
        chart(
            lambda: timeline_charts.plugin_lane(acted.table, (low, high)), acted, "plugins",
            "Decisions of each plugin and action over the iterations.",
            key=f"chart-plugins-{key}", on_select=lambda: on_cell_click(f"chart-plugins-{key}"), selection_mode="cell",
        )  # fmt: skip
    if bins is not None:
        knobs(bins, (low, high))
    return acted


def knobs(bins: TimedResult, limits: tuple[int, int]) -> None:
    """Learning rate and lambda before and after the chain, on the same axis."""
    section(
        "Learning rate and lambda",
        "Dashed: as the schedule gave it. Solid: as the chain left it; grey: lowest to highest of each bin.",
    )
    fields = {
        "scheduled_rate": ("scheduled rate", NEUTRAL, [4, 2]),
        "learning_rate": ("learning rate", UPDATE, [1, 0]),
    }
    chart(
        lambda: timeline_charts.line_chart(bins.table, fields, limits, band=("learning_rate_low", "learning_rate_high"), named=False), bins, "rate",
        "Scheduled learning rate (dashed) and as the chain left it.",
    )  # fmt: skip
    pull = {"given_lambda": ("given lambda", NEUTRAL, [4, 2]), "lambda": ("lambda", ATTACK, [1, 0])}
    chart(
        lambda: timeline_charts.line_chart(bins.table, pull, limits, height=120), bins, "lambda",
        "Pull towards the anchor as it was given (dashed), and as the chain left it.",
    )  # fmt: skip


def served_loss_section(limits: tuple[int, int]) -> None:
    """What a run that learned while it was served cost its readers; nothing for any other run."""
    found = query_or_error(run_page_query, "served_bins", run=run_id, low=limits[0], high=limits[1])
    if found is None or not found.table.num_rows:
        return
    section(
        "Served before learned, nats/token",
        "Mean losses so far; each batch was scored before it could update anything.",
    )
    fields = {
        "served_loss": ("all", NEUTRAL, [4, 2]), "served_new_loss": ("new", SKIP, [1, 0]), "served_familiar_loss": ("familiar", UPDATE, [1, 0]),
    }  # fmt: skip
    chart(
        lambda: timeline_charts.line_chart(found.table, fields, limits), found, "served",
        "Mean loss of all batches served so far, of those of new text, and of those of familiar text.",
    )  # fmt: skip
    adapter = first_row("adapter_status", str(run_id))
    if adapter:
        whole = (
            "each time the weights were those from before, to the bit"
            if not adapter["traces"]
            else f"{adapter['traces']:,} times the weights were NOT those from before"
        )
        st.text(
            f"An adapter of {adapter['added_params']:,} parameters ({adapter['added_params'] / adapter['model_params']:.1%} of the model) on "
            f"{adapter['layers']} layers; taken off {adapter['reverts']:,} times"
            + (f" in {adapter['seconds'] * 1000:.2g} ms: {whole}." if adapter["reverts"] else ".")
        )


def chosen_lane(acted: pa.Table) -> tuple[str, str]:
    """Plugin and action whose decisions are listed; also by the keyboard, and in the address."""
    found = {(row["plugin"], row["action"]) for row in acted.select(["plugin", "action"]).to_pylist()}
    pairs = {f"{plugin} {action}": (plugin, action) for plugin, action in sorted(found)}
    st.session_state.setdefault(LANE, st.query_params.get("of", ALL))
    if st.session_state[LANE] not in pairs:
        st.session_state[LANE] = ALL
    said = st.selectbox("Of", [ALL, *pairs], key=LANE)
    if said == ALL:
        st.query_params.pop("of", None)
        return "", ""
    st.query_params["of"] = said
    return pairs[said]


def decisions(low: int, high: int, acted: pa.Table) -> None:
    """The decisions of the range, newest first; a row opens one."""
    section("Decisions", "The newest 100 of what is chosen. Choose a row to open it.")
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        plugin, action = chosen_lane(acted)
    cell = st.session_state.get(CELL)
    if cell:
        low, high = max(low, cell[0]), min(high, cell[1])
        right.button(
            f"Iterations {low:,} to {high:,} only: show the whole range", key="uncell",
            on_click=lambda: st.session_state.pop(CELL, None), width="stretch",
        )  # fmt: skip
    recent = query_or_error(
        run_page_query, "recent_decisions", run=run_id, low=low, high=high, plugin=plugin, action=action
    )
    if recent is None:
        return
    key = f"recent-{low}-{high}-{plugin}-{action}"
    # Where nothing stands in shadow the column says nothing.
    listed = LISTED if any(recent.table["shadow"].to_pylist()) else tuple(c for c in LISTED if c != "shadow")
    chosen = query_table(
        recent, key, columns=listed, selectable=True, height=320, alt="Decisions, the newest first."
    )
    if chosen:
        st.switch_page(
            "screens/decision.py", query_params={"run": str(run_id), "decision": chosen["decision_id"]}
        )


def draw() -> None:
    """The page."""
    found = query_or_error(run_sql, "select * from run_summary where run_id = $run", run=run_id)
    row = next(iter(found.rows()), {}) if found is not None else {}
    page_header("What happened in this run?", answer(row))
    if row.get("batches"):
        metric_cards(str(run_id), row)
    limits = iteration_range(str(run_id))
    if limits is None:
        return
    # By the range that was asked for, not by that which it comes to: a live run's end moves, and its charts must stay.
    acted = loss_and_plugin_charts(*limits, key=f"{st.query_params.get('from')}-{st.query_params.get('to')}")
    served_loss_section(limits)
    if acted is not None:
        decisions(*limits, acted.table)


auto_refresh(draw, run_id)
