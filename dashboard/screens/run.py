"""Run page: what happened in this run?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import run_panels
from dashboard.chart_kinds import CHART_KINDS
from dashboard.components.decision_list import decision_list
from dashboard.components.timeseries import Pick, RowPanel
from dashboard.data_source import query_or_error, run_page_query, run_sql
from dashboard.iteration_view import IterationView, read_view, set_view
from dashboard.layout import auto_refresh, page_header, query_details, section, select_run
from dashboard.metric_cards import first_row, metric_cards
from dashboard.people import people_section
from dashboard.run_chart import run_chart
from dashboard.words import glossary_line, state_name

KIND = CHART_KINDS["run"]
ALL_DECISIONS = "all decisions"
LIST_HEIGHT = 560
TERMS = ("iteration", "update, skip", "lambda", "anchor weights", "shadow")
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None
FILTER_KEY = f"filter-{run_id}"
PICK_KEY = f"pick-{run_id}"


def answer(row: dict[str, Any]) -> str:
    """Return the answer of the page from a row of `run_summary`."""
    rate = row.get("update_rate")
    loss = row.get("val_loss")
    text = f"{run_id}: {state_name(str(row.get('state')))}"
    if rate is not None:
        unit = "checkpoint" if row["accepted"] == 1 else "checkpoints"
        text += f"; {row['batches']:,} batches, {rate:.1%} updated, {row['accepted']:,} accepted {unit}"
    text += f", validation loss {loss:.4f}." if loss is not None else "."
    ranks = first_row("run_ranks", str(run_id))
    if ranks.get("ranks", 1) > 1:
        agreement = "They made different decisions" if ranks["diverged"] else "All made the same decisions"
        text += f" {ranks['ranks']} ranks wrote a log. {agreement}. This page shows rank 0."
    return text


def on_view(view: tuple[float, float] | None) -> None:
    """Write the visible iterations of the chart into the URL."""
    st.session_state.pop(PICK_KEY, None)
    set_view(view)


def on_pick(pick: Pick) -> None:
    """Show the decisions of the mark or position that was clicked in the chart."""
    st.session_state[PICK_KEY] = int(pick.low), int(pick.high)
    if pick.panel == "plugins":
        st.session_state[FILTER_KEY] = pick.row
    else:
        st.session_state[FILTER_KEY] = ALL_DECISIONS


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


def decision_filter(keys: list[str]) -> dict[str, str]:
    """Show the filter of the list, and return it as parameters of `recent_decisions`."""
    st.session_state.setdefault(FILTER_KEY, st.query_params.get("of", ALL_DECISIONS))
    if st.session_state[FILTER_KEY] not in keys:
        st.session_state[FILTER_KEY] = ALL_DECISIONS
    selected = st.selectbox("Show", [ALL_DECISIONS, *keys], format_func=filter_label, key=FILTER_KEY)
    if selected == ALL_DECISIONS:
        st.query_params.pop("of", None)
        return {"plugin": "", "action": "", "shadow": ""}
    st.query_params["of"] = selected
    kind = run_panels.parse_kind(selected)
    return {"plugin": kind.plugin, "action": kind.action, "shadow": str(kind.shadow).lower()}


def filter_label(key: str) -> str:
    """Return the name of an entry of the filter."""
    return key if key == ALL_DECISIONS else run_panels.parse_kind(key).label


def decisions_panel(view: IterationView, keys: list[str]) -> None:
    """Show the newest decisions of the visible or clicked iterations, next to the chart."""
    section("Decisions")
    chosen = decision_filter(keys)
    low, high = view.low, view.high
    picked = st.session_state.get(PICK_KEY)
    if picked:
        low, high = max(low, picked[0]), min(high, picked[1])
        st.button(
            f"{iterations_label(low, high)}: show all visible",
            key="unpick",
            on_click=lambda: st.session_state.pop(PICK_KEY, None),
            width="stretch",
        )
    else:
        st.caption("The newest 100. Click a mark or a curve to see its decisions.")
    recent = query_or_error(run_page_query, "recent_decisions", run=run_id, low=low, high=high, **chosen)
    if recent is None:
        return
    description = f"Decisions of {iterations_label(low, high).lower()}, the newest first."
    opened = decision_list(
        recent.rows(), str(run_id), key="decisions", height=LIST_HEIGHT, description=description
    )
    query_details(recent, "recent")
    if opened:
        st.switch_page("screens/decision.py", query_params={"run": str(run_id), "decision": opened})


def iterations_label(low: int, high: int) -> str:
    """Return one iteration or a range as text."""
    return f"Iteration {low:,}" if low >= high else f"Iterations {low:,} to {high:,}"


@st.fragment
def explore() -> None:
    """Show the chart, and the decisions at its side. A zoom or a click draws only this part again."""
    view = read_view(str(run_id))
    if view is None:
        return
    left, right = st.columns([2.4, 1], gap="medium")
    with left:
        panels = run_chart(
            str(run_id),
            view,
            KIND,
            key=f"chart-{run_id}",
            on_view=on_view,
            on_pick=on_pick,
        )
    with right:
        keys = [
            row.key
            for panel in panels
            if isinstance(panel, RowPanel)
            for row in panel.rows
            if panel.key == "plugins"
        ]
        decisions_panel(view, keys)


def draw() -> None:
    """Show the page."""
    result = query_or_error(run_sql, "select * from run_summary where run_id = $run", run=run_id)
    row = next(iter(result.rows()), {}) if result is not None else {}
    with st.container(key="run-heading"):
        page_header(KIND.title, answer(row))
    if row.get("batches"):
        with st.container(key="run-metrics"):
            metric_cards(str(run_id), row)
    explore()
    adapter = first_row("adapter_status", str(run_id))
    if adapter:
        st.text(adapter_sentence(adapter))
    glossary_line(*TERMS)
    people_section(str(run_id))


auto_refresh(draw, run_id)
