"""Table of the page Runs, and the choice of runs in it. The address contains the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.header import log_label
from dashboard.tables import column_formats, round_rates
from dashboard.verifier import run_verifier
from dashboard.words import state_name

COLUMNS = (
    "run_id",
    "log",
    "state",
    "policy",
    "attention",
    "tags",
    "data",
    "batches",
    "update_rate",
    "val_loss",
    "best_val_loss",
    "accept_rate",
    "evaluations",
    "last_note",
    "name",
    "created",
)
# Columns that are shown only if a run has a value.
OPTIONAL_COLUMNS = ("attention", "tags", "last_note", "name")
NEWEST = (4, 10)
PARAMETER = "chosen"
ALL = "all"
STATE_KEY = "workbench-state"


def choose_runs(table: pa.Table) -> list[str]:
    """Show the runs with links and check boxes, and return the IDs of the chosen ones.

    Args:
        table: Runs that match the filter, with labels, the newest first.

    """
    names = [str(name) for name in table["run_id"].to_pylist()]
    chosen = parse_choice(st.query_params.get(PARAMETER, ""), names)
    key, rows = _widget(names, chosen)
    visible = visible_table(table)
    formats = column_formats(visible)
    formats["run_id"] = st.column_config.LinkColumn("run", display_text=r"run=(.*)$", pinned=True)
    st.dataframe(
        visible,
        hide_index=True,
        key=key,
        column_config=formats,
        placeholder="-",
        on_select=lambda: _store_selection(key, names),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": rows}},
        alt=f"{len(names)} runs, the newest first. Each name is a link.",
    )
    _choice_buttons(names, len(chosen))
    return chosen


def parse_choice(text: str, names: Sequence[str]) -> list[str]:
    """Return the chosen runs that match the filter, in the order of the table.

    Args:
        text: Value in the address: `all`, or run IDs separated by commas.
        names: Runs that match the filter.

    """
    requested = set(text.split(","))
    return [name for name in names if text == ALL or name in requested]


def format_choice(chosen: Sequence[str], names: Sequence[str]) -> str:
    """Return the value in the address. All runs have a short one."""
    return ALL if len(chosen) > max(NEWEST) and len(chosen) == len(names) else ",".join(chosen)


def visible_table(table: pa.Table) -> pa.Table:
    """Return the columns that the page shows, with the result of the last verification."""
    names = [str(name) for name in table["run_id"].to_pylist()]
    states = run_verifier().states(names)
    columns: dict[str, Any] = {
        "run_id": pa.array([f"run?run={name}" for name in names], pa.string()),
        "log": pa.array([log_label(states[name]) for name in names], pa.string()),
        "state": pa.array([state_name(state) for state in table["state"].to_pylist()], pa.string()),
        "attention": pa.array(["; ".join(found) for found in table["attention"].to_pylist()], pa.string()),
    }
    shown = {name: columns[name] if name in columns else table[name] for name in COLUMNS}
    for name in OPTIONAL_COLUMNS:
        if not any(shown[name].to_pylist()):
            del shown[name]
    return round_rates(pa.table(shown))


def _widget(names: list[str], chosen: list[str]) -> tuple[str, list[int]]:
    """Return key and initial rows of the table. Another filter or address makes a new table."""
    state = st.session_state.setdefault(STATE_KEY, {"number": 0, "seen": None, "rows": []})
    if state["seen"] != (names, chosen):
        rows = [i for i, name in enumerate(names) if name in set(chosen)]
        state |= {"number": state["number"] + 1, "seen": (names, chosen), "rows": rows}
    return f"workbench-{state['number']}", state["rows"]


def _store_selection(key: str, names: list[str]) -> None:
    chosen = [names[i] for i in sorted(st.session_state[key].selection.rows)]
    st.session_state[STATE_KEY]["seen"] = (names, chosen)
    _store_choice(chosen, names)


def _store_choice(chosen: list[str], names: list[str]) -> None:
    st.query_params[PARAMETER] = format_choice(chosen, names)


def _choice_buttons(names: list[str], chosen: int) -> None:
    """Show buttons that choose runs of the table."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{chosen:,} chosen", width="content")
        parts = [(f"Newest {count}", count) for count in NEWEST if count < len(names)]
        for label, count in [*parts, (f"All {len(names):,}", len(names)), ("None", 0)]:
            st.button(
                label,
                key=f"choose-{label.split()[0]}-{count}",
                on_click=_store_choice,
                args=(names[:count], names),
            )
