"""Visible iterations of a run. They are in the URL only, so that a reload, Back and a link restore them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import parse_number


class IterationView(NamedTuple):
    """Iterations of a run, and the visible part of them.

    Attributes:
        first: First iteration of the run.
        last: Last iteration of the run.
        low: First visible iteration.
        high: Last visible iteration.

    """

    first: int
    last: int
    low: int
    high: int

    @property
    def zoom(self) -> tuple[int, int] | None:
        """The visible part, or None if the whole run is visible."""
        return None if (self.low, self.high) == (self.first, self.last) else (self.low, self.high)

    @property
    def bin_width(self) -> int:
        """Iterations of one bin in the page queries with 500 bins."""
        return max(1, -(-(self.high - self.low + 1) // 500))


def read_view(run_id: str) -> IterationView | None:
    """Return the iterations of the URL. Shows a note and returns None if the run has no batches."""
    result = query_or_error(run_page_query, "iteration_range", run=run_id)
    limits = result.rows()[0] if result is not None else {"batches": 0}
    low, high = (st.query_params.get(name, "") for name in ("from", "to"))
    view = visible_iterations(limits, low, high)
    if view is None:
        st.info("This run has no batches yet.")
    return view


def visible_iterations(limits: Mapping[str, Any], low: str, high: str) -> IterationView | None:
    """Return the visible iterations, or None if the run has no batches.

    Args:
        limits: Row of `iteration_range`.
        low: First visible iteration as in the URL. Text that is not a number is the first of the run.
        high: Last visible iteration as in the URL.

    """
    if not limits["batches"]:
        return None
    first, last = int(limits["first"]), int(limits["last"])
    numbers = parse_number(low), parse_number(high)
    start = first if numbers[0] is None else min(max(numbers[0], first), last)
    end = last if numbers[1] is None else min(max(numbers[1], first), last)
    return IterationView(first, last, min(start, end), max(start, end))


def set_view(view: tuple[float, float] | None) -> None:
    """Write the visible iterations into the URL. None is the whole run."""
    for name, value in zip(("from", "to"), view or (None, None), strict=True):
        if value is None:
            st.query_params.pop(name, None)
        else:
            st.query_params[name] = str(int(value))


def view_inputs(run_id: str, view: IterationView) -> None:
    """Show inputs for the exact range in a popover."""
    keys = (f"view-low-{run_id}", f"view-high-{run_id}")
    # The inputs show the URL, whatever changed it.
    for key, value in zip(keys, view.zoom or (None, None), strict=True):
        st.session_state[key] = value

    def apply_inputs() -> None:
        low, high = (st.session_state[key] for key in keys)
        if low is None and high is None:
            set_view(None)
        else:
            set_view((view.first if low is None else low, view.last if high is None else high))

    with st.popover("Range"):
        for label, key, limit in zip(("From", "To"), keys, (view.first, view.last), strict=True):
            st.number_input(
                f"{label} iteration",
                view.first,
                view.last,
                value=None,
                placeholder=str(limit),
                key=key,
                on_change=apply_inputs,
            )
        st.button("Whole run", key="view-whole", on_click=set_view, args=(None,), width="stretch")
