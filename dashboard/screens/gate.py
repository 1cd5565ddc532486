"""Gate page: is the update rate in its band, and how close are the verdicts?"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts, timeline_charts
from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import auto_refresh, chart_section, page_header, section, select_run
from dashboard.metric_cards import band_sentence, first_row
from dashboard.tables import query_table
from dashboard.words import glossary_line

QUESTION = "Is the update rate of the gate in its band?"
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


def answer(row: dict[str, Any]) -> str:
    """Return the answer of the page from a row of `run_bands`."""
    rate = row.get("update_rate")
    saved = row.get("compute_saved")
    band = band_sentence(row, "update")
    if rate is None:
        return "The gate has not evaluated a batch yet."
    if row.get("shadow_rate") is not None:
        text = f"The gate ran in shadow mode. It would have updated {row['shadow_rate']:.1%} of the batches"
    elif band is None:
        text = f"{rate:.1%} of the finite batches were updated; the policy has no target for the rate"
    else:
        text = f"{rate:.1%} of the finite batches were updated, {band}"
    if not saved:
        return f"{text}."
    return f"{text}; skipped batches saved {saved:.1%} of the compute (estimate)."


def margin_section() -> None:
    """Show the margins of the verdicts, and the update rates of other thresholds."""
    left, right = st.columns(2)
    with left:
        chart_section(
            query_or_error(run_page_query, "margin_histogram", run=run_id),
            "Margins of the verdicts",
            "Right of zero the loss is high enough for an update. Warm-up updates can be left of zero.",
            charts.margin_histogram,
            "margins",
            "Loss minus threshold of every batch, by verdict. The outer bars include all values beyond them.",
        )
    with right:
        chart_section(
            query_or_error(run_page_query, "run_thresholds", run=run_id),
            "Other fixed thresholds",
            "Computed from the logged losses. Another threshold would have trained a different model.",
            charts.threshold_curve,
            "thresholds",
            "Update rate at other fixed thresholds over the logged losses.",
        )
    setting = first_row("gate_sweep_setting", str(run_id)).get("dial")
    if setting is not None:
        st.caption("This command shows what another policy would have decided on the same batches:")
        st.code(f"ockham whatif {run_id} --set {setting}", language="bash", wrap_lines=True)


def rate_section(row: dict[str, Any]) -> None:
    """Show the update rate over the run, with the band of the policy."""
    low, high = row.get("update_low"), row.get("update_high")
    band = ""
    if low is not None and high is not None:
        band = f" Green: the policy's band of {low:.0%} to {high:.0%}."
    make_chart = functools.partial(_rate_chart, low, high)
    chart_section(
        query_or_error(run_page_query, "gate_bins", run=run_id),
        "Update rate over the run",
        f"Blue: the rate of each section of the run with its 95 % interval.{band}",
        make_chart,
        "rate",
        "Update rate in sections of the run with its 95 % interval (Wilson), and the band of the policy.",
    )


def _rate_chart(low: float | None, high: float | None, table: pa.Table) -> Any:
    return timeline_charts.rate_band(table, low, high)


def reasons_section() -> None:
    """Show the reasons of the gate, and the longest sequences of skipped batches."""
    reasons = query_or_error(run_page_query, "gate_reasons", run=run_id)
    streaks = query_or_error(run_page_query, "skip_streaks", run=run_id)
    left, right = st.columns([3, 2])
    with left:
        if reasons is not None:
            section("Reasons")
            query_table(reasons, "reasons", alt="Number of batches per reason of the gate.")
    with right:
        if streaks is not None:
            section("Longest sequences of skips")
            if streaks.table.num_rows:
                alt = "The ten longest sequences of skipped batches."
                query_table(streaks, "streaks", height=248, alt=alt)
            else:
                st.text("No batch was skipped.")


def draw() -> None:
    """Show the page."""
    row = first_row("run_bands", str(run_id))
    page_header(QUESTION, answer(row))
    rate_section(row)
    margin_section()
    reasons_section()
    glossary_line("update, skip", "update rate", "band", "shadow", "reason code")


auto_refresh(draw, run_id)
