"""Rates of the chosen runs and the bands of their policies."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_saved_question
from dashboard.layout import chart, section

# With more runs the charts are too high.
MAX_BAND_RUNS = 25


def bands_section(chosen: Sequence[str]) -> None:
    """Show the rates of the chosen runs with the bands of their policies."""
    section(
        "Rates and bands",
        "The bar is the band of the policy. The mark is the rate of the run. "
        "With few evaluations an accept rate is not meaningful.",
    )
    if len(chosen) > MAX_BAND_RUNS:
        st.caption(f"The first {MAX_BAND_RUNS} of {len(chosen):,} chosen runs.")
    result = query_or_error(run_saved_question, "bands")
    if result is None:
        return
    is_chosen = pc.is_in(result.table["run_id"], pa.array(chosen[:MAX_BAND_RUNS]))
    shown = TimedResult(result.table.filter(is_chosen), result.sql, result.parameters, result.seconds)
    left, right = st.columns(2)
    for column, name, label in ((left, "update", "Update rate"), (right, "accept", "Accept rate")):
        with column:
            st.caption(label)
            chart(
                functools.partial(charts.rate_vs_band, shown.table, name),
                shown,
                f"band-{name}",
                f"{label} of {shown.table.num_rows} runs, each with the band of its policy.",
            )
