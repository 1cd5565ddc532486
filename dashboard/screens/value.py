"""Value page: what did this run save, and is the model good enough?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_sql, runs_folder, store
from dashboard.layout import csv_bytes, page_header, section, select_run
from dashboard.metric_cards import percent, savings_clause, savings_note
from dashboard.tables import data_table
from ockham.errors import OckhamError
from ockham.study.roi import Prices, RoiRow, roi
from ockham.study.run_data import load_run_data

QUESTION = "What did this run save, and is the model good enough?"
# Larger runs are read on request, because reading them takes seconds.
MAX_EVENTS_ON_OPEN = 300_000
EVENTS_PER_SECOND = 100_000
VERDICTS = {
    "GROSS": "Open: no quality floor is set",
    "FLOOR_REACHED": "Yes: the floor was reached, so the savings count",
    "NOTHING_SAVED": "NO: the floor was never reached, so nothing was saved",
    "SAVED": "Yes: it needed less compute than the other run to reach the floor",
    "LOST": "Yes, but it needed MORE compute than the other run to reach the floor",
}
KINDS = {
    "measured": "Counted or timed in this run.",
    "derived": "Computed from measured values, with the formula in the table.",
    "assumed": "Based on inputs above, or on a hypothetical run.",
}
CARD_WIDTH = 168
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


class RoiInputs(NamedTuple):
    """Inputs of the page: quality floor and prices."""

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
    return [row._asdict() for row in rows]


def number_input(column: Any, label: str, name: str, **options: Any) -> float | None:
    """Show a number input and return its value. The URL contains the value too."""
    key = f"value-{name}"
    if key not in st.session_state:
        try:
            st.session_state[key] = max(0.0, float(st.query_params.get(name, "")))
        except ValueError:
            st.session_state[key] = None
    value: float | None = column.number_input(label, min_value=0.0, value=None, key=key, **options)
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = f"{value:g}"
    return value


def show_inputs() -> RoiInputs:
    """Show the inputs of the page and return their values."""
    others = query_or_error(
        run_sql, "select run_id from runs where run_id <> $run order by created desc", run=run_id
    )
    names = [row["run_id"] for row in others.rows()] if others is not None else []
    requested = st.query_params.get("against")
    first, second, third, fourth = st.columns(4)
    rival = first.selectbox(
        "Baseline run",
        names,
        index=names.index(requested) if requested in names else None,
        key=f"against-{run_id}",
        placeholder="none",
        help="A run that updates on every batch. Its best loss + 0.01 is the quality floor.",
    )
    if rival:
        st.query_params["against"] = rival
    else:
        st.query_params.pop("against", None)
    floor = number_input(second, "Quality floor (loss)", "floor", format="%.4f", placeholder="nats/token")
    per_hour = number_input(third, "Price per device hour", "hour", placeholder="any currency")
    per_gb = number_input(fourth, "Price per GB stored", "gigabyte", placeholder="any currency")
    return RoiInputs(rival, floor, per_hour, per_gb)


def summary_sentence(values: dict[str, Any]) -> str:
    """Return the answer of the page. *values*: figure -> value."""
    skipped, batches = values.get("skipped_batches", 0), values.get("batches", 0)
    text = f"{skipped:,} of {batches:,} batches were skipped{savings_clause(values)}"
    verdict = VERDICTS.get(values.get("verdict", ""), "Unknown")
    return f"{text}. Good enough? {verdict}."


def savings_cards(values: dict[str, Any], rival: str | None) -> None:
    """Show the most important figures. A dash has its reason below it.

    Args:
        values: Figure -> value.
        rival: ID of the baseline run, if one is selected.

    """
    best, floor = values.get("best_val_loss"), values.get("quality_floor")
    quality = "no floor set"
    if best is not None and floor is not None:
        quality = "below the floor" if best <= floor else "ABOVE the floor"
    money = [
        values[name] for name in ("compute_money_saved", "storage_saved") if values.get(name) is not None
    ]
    seconds = values.get("seconds_saved")
    device_time = ("Device time saved", "-", savings_note(values))
    if seconds is not None:
        device_time = ("Device time saved", f"{seconds:,.1f} s", "one device")
    cards = (
        ("Best val. loss", "-" if best is None else f"{best:.3f}", quality),
        ("Compute saved", percent(values.get("compute_saved")), savings_note(values)),
        ("Cost of the chain", percent(values.get("chain_share")), chain_note(values)),
        ("Saved to the floor", percent(values.get("compute_saved_to_floor")), floor_note(values, rival)),
        device_time,
        ("Money saved", f"{sum(money):,.4g}" if money else "-", "at the prices above"),
    )
    st.caption("Compute saved: an estimate with its 95 % interval.")
    with st.container(horizontal=True):
        for label, value, note in cards:
            colour = "red" if note.startswith("ABOVE") else "off"
            st.metric(
                label, value, note, delta_color=colour, delta_arrow="off", border=True, width=CARD_WIDTH
            )


def chain_note(values: dict[str, Any]) -> str:
    """Return the note of the cost of the chain, or why it is unknown. *values*: figure -> value."""
    if values.get("chain_share") is not None:
        return "not subtracted"
    return "no stage times" if values.get("backward_over_forward") is None else "includes waiting for ranks"


def floor_note(values: dict[str, Any], rival: str | None) -> str:
    """Return the note of the compute saved up to the floor, or why it is unknown."""
    if values.get("compute_saved_to_floor") is not None:
        return "vs. the baseline run"
    if rival is None:
        return "no baseline run"
    return "floor not reached" if values.get("reached_at") is None else "floor or times missing"


def roi_command(inputs: RoiInputs) -> str:
    """Return the command that computes the same figures."""
    options = {
        "--against": inputs.rival,
        "--floor": inputs.floor,
        "--price-per-hour": inputs.price_per_hour,
        "--price-per-gb": inputs.price_per_gb,
    }
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["ockham", "roi", str(run_id), *words])


def figures_section(rows: list[dict[str, Any]], command: str) -> None:
    """Show all figures, grouped by how they were obtained, with a CSV download."""
    for kind, meaning in KINDS.items():
        group = [row for row in rows if row["kind"] == kind]
        if not group:
            continue
        section(kind.capitalize(), meaning)
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


def page() -> None:
    """Show the page."""
    count = query_or_error(run_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    events = count.rows()[0]["n"] if count is not None else 0
    start_key = f"count-{run_id}"
    if events > MAX_EVENTS_ON_OPEN and not st.session_state.get(start_key):
        seconds = events / EVENTS_PER_SECOND
        page_header(QUESTION, f"Not computed yet: {events:,} events, about {seconds:.0f} seconds.")
        st.button(
            "Compute savings",
            key="ask",
            type="primary",
            on_click=lambda: st.session_state.update({start_key: True}),
        )
        return
    output = st.container()
    inputs = show_inputs()
    try:
        rows = cached_roi(str(runs_folder()), str(run_id), inputs, store().version)
    except OckhamError as error:
        with output:
            page_header(QUESTION, "The savings of this run cannot be computed.")
        st.code(str(error), language=None)
        return
    values = {row["figure"]: row["value"] for row in rows}
    with output:
        page_header(QUESTION, summary_sentence(values))
    savings_cards(values, inputs.rival)
    figures_section(rows, roi_command(inputs))


page()
