"""All figures of `ockham roi` about one run, each measured, derived or assumed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_sql, runs_folder, store
from dashboard.layout import csv_bytes, section
from dashboard.metric_cards import savings_clause
from dashboard.run_savings import SavingsInputs
from dashboard.tables import data_table
from ockham.errors import OckhamError
from ockham.study.roi import Prices, RoiRow, roi
from ockham.study.run_data import load_run_data

# Larger runs are read on request, because reading them takes seconds.
MAX_EVENTS_ON_OPEN = 300_000
EVENTS_PER_SECOND = 100_000
ANSWERS = {
    "GROSS": "Open: no quality floor is set",
    "FLOOR_REACHED": "Yes: the floor was reached, so the savings count",
    "NOTHING_SAVED": "NO: the floor was never reached, so nothing was saved",
    "SAVED": "Yes: it needed less compute than the other run to reach the floor",
    "LOST": "Yes, but it needed MORE compute than the other run to reach the floor",
}
# Figures that are savings only if the quality floor was reached.
SAVINGS = (
    "flops_saved",
    "compute_saved",
    "compute_saved_low",
    "compute_saved_high",
    "seconds_saved",
    "device_hours_saved",
    "bytes_saved",
    "storage_saved",
    "compute_money_saved",
)
KINDS = {
    "measured": "Counted or timed in this run.",
    "derived": "Computed from measured values, with the formula in the table.",
    "assumed": "Based on inputs above, or on a hypothetical run.",
}


class RoiInputs(NamedTuple):
    """Inputs of `ockham roi`: baseline run, quality floor and prices."""

    rival: str | None
    floor: float | None
    price_per_hour: float | None
    price_per_gb: float | None


@st.cache_data(max_entries=50, show_spinner="Computing savings")
def cached_roi(runs: str, run: str, inputs: RoiInputs, version: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the rows of `ockham roi`. Another *version* invalidates the cache."""
    rival = load_run_data(Path(runs), inputs.rival) if inputs.rival else None
    prices = Prices(inputs.price_per_hour, inputs.price_per_gb)
    rows = roi(load_run_data(Path(runs), run), prices, inputs.floor, rival)
    return shown_rows([row._asdict() for row in rows])


def roi_command(run_id: str, inputs: RoiInputs) -> str:
    """Return the command that computes the same figures."""
    options = {
        "--against": inputs.rival,
        "--floor": inputs.floor,
        "--price-per-hour": inputs.price_per_hour,
        "--price-per-gb": inputs.price_per_gb,
    }
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["ockham", "roi", run_id, *words])


def figures_tables(rows: list[dict[str, Any]], run_id: str, command: str) -> None:
    """Show all figures, grouped by how they were obtained, with a CSV download."""
    for kind, meaning in KINDS.items():
        group = [row for row in rows if row["kind"] == kind]
        if not group:
            continue
        st.subheader(kind.capitalize(), anchor=False)
        st.caption(meaning)
        columns = {
            "figure": [row["figure"].replace("_", " ") for row in group],
            "value": [format_value(row["value"]) for row in group],
            "unit": ["" if row["unit"] == "1" else row["unit"] for row in group],
            "derivation": [row["derivation"] for row in group],
        }
        data_table(pa.table(columns), f"rows-{kind}", height="content")
    table = pa.table({name: [format_value(row[name]) for row in rows] for name in RoiRow._fields})
    result = TimedResult(table, command, {}, 0.0)
    st.download_button(
        "CSV",
        lambda: csv_bytes(result),
        f"value-{run_id}.csv",
        "text/csv",
        key="csv-value",
        on_click="ignore",
    )
    st.code(command, language="bash", wrap_lines=True)


def format_value(value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def figures_section(chosen: Sequence[str], inputs: SavingsInputs) -> None:
    """Show all figures of one of the chosen runs.

    Args:
        chosen: IDs of the chosen runs.
        inputs: Baseline run, quality floor and price.

    """
    section("Figures of one run", "The figures of `ockham roi`. Savings count only if the floor is reached.")
    left, right = st.columns([3, 2])
    run_id = left.selectbox("Run", chosen, key="figures-run")
    per_gb = right.number_input(
        "Price per GB stored", min_value=0.0, value=None, key="gigabyte", bind="query-params"
    )
    if run_id is None or not _is_requested(run_id):
        return
    baseline = inputs.baseline if inputs.baseline != run_id else ""
    roi_inputs = RoiInputs(baseline or None, inputs.quality_floor, inputs.price, per_gb)
    try:
        rows = cached_roi(str(runs_folder()), run_id, roi_inputs, store().version)
    except OckhamError as error:
        st.error("The figures of this run cannot be computed.", icon=":material/error:")
        st.code(str(error), language=None)
        return
    st.text(summary_sentence({row["figure"]: row["value"] for row in rows}))
    figures_tables(rows, run_id, roi_command(run_id, roi_inputs))


def summary_sentence(values: dict[str, Any]) -> str:
    """Return the answer: first the quality, then what was skipped. *values*: figure -> value."""
    skipped, batches = values.get("skipped_batches", 0), values.get("batches", 0)
    verdict = values.get("verdict", "")
    text = f"Good enough? {ANSWERS.get(verdict, 'Unknown')}. {skipped:,} of {batches:,} batches were skipped"
    # Savings of a run that misses the floor are not shown as savings.
    counts = verdict in ("SAVED", "FLOOR_REACHED") or values.get("compute_saved") is None
    clause = savings_clause(values) if counts else ""
    return f"{text}{clause}."


def shown_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures, with a note at the savings of a run that misses the quality floor."""
    if not any(row["figure"] == "verdict" and row["value"] == "NOTHING_SAVED" for row in rows):
        return rows
    return [
        {**row, "derivation": f"DOES NOT COUNT, the floor was not reached: {row['derivation']}"}
        if row["figure"] in SAVINGS
        else row
        for row in rows
    ]


def _is_requested(run_id: str) -> bool:
    """Return True if the run is small, or the reader wants to wait for it."""
    count = query_or_error(run_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    events = count.rows()[0]["n"] if count is not None else 0
    start_key = f"count-{run_id}"
    if events <= MAX_EVENTS_ON_OPEN or st.session_state.get(start_key):
        return True
    st.text(f"Not computed yet: {events:,} events, about {events / EVENTS_PER_SECOND:.0f} seconds.")
    st.button(
        "Compute savings",
        key="ask",
        type="primary",
        on_click=lambda: st.session_state.update({start_key: True}),
    )
    return False
