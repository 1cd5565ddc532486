"""Does the gate keep its rate, and how close are its verdicts?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts, timeline_charts
from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import auto_refresh, chart, page_header, section, select_run
from dashboard.metric_cards import band_sentence, first_row
from dashboard.tables import query_table

run_id = select_run()
if run_id is None:
    st.stop()


def answer(row: dict[str, Any]) -> str:
    """One sentence."""
    rate, saved, beside = row.get("update_rate"), row.get("compute_saved"), band_sentence(row, "update")
    if rate is None:
        return "No batch has been judged yet."
    if row.get("shadow_rate") is not None:
        told = (
            f"The gate only watched, in shadow: it would have updated {row['shadow_rate']:.1%} of the batches"
        )
    elif beside is None:
        told = f"{rate:.1%} of the finite batches updated; the policy promises no rate"
    else:
        told = f"{rate:.1%} of the finite batches updated: {beside}"
    if saved is None:
        return f"{told}."
    return f"{told}; {f'the skips saved {saved:.1%}' if saved > 0 else f'the chain cost {-saved:.1%}'} of the compute, measured."


def margin_section() -> None:
    """Margins, and what other thresholds would have given."""
    left, right = st.columns(2)
    margins, curve = (
        query_or_error(run_page_query, "margin_histogram", run=run_id),
        query_or_error(run_page_query, "run_thresholds", run=run_id),
    )
    with left:
        if margins is not None:
            section(
                "How close the verdicts were",
                "Right of zero a batch is worth an update; warm-up updates left of it too.",
            )
            chart(
                lambda: charts.margin_histogram(margins.table), margins, "margins",
                "Loss minus threshold of every batch, by verdict; the outermost bars hold all that is farther out.",
            )  # fmt: skip
    with right:
        if curve is not None:
            section(
                "Other fixed thresholds",
                "A replay of the logged losses: another gate would train another model.",
            )
            chart(
                lambda: charts.threshold_curve(curve.table),
                curve,
                "thresholds",
                "Update rate at other fixed thresholds over the logged losses.",
            )
    dial = first_row("gate_sweep_setting", str(run_id)).get("dial")
    if dial is not None:
        st.caption("What another policy would have decided on the same batches, plugin by plugin:")
        st.code(f"ockham whatif {run_id} --set {dial}", language="bash", wrap_lines=True)


def draw() -> None:
    """Rate, margins, reasons, longest rows of skips."""
    row = first_row("run_bands", str(run_id))
    page_header("Does the gate keep its rate?", answer(row))
    found = query_or_error(run_page_query, "gate_bins", run=run_id)
    if found is not None:
        low, high = row.get("update_low"), row.get("update_high")
        promised = "" if low is None or high is None else f" Green: the promised {low:.0%} to {high:.0%}."
        section(
            "Update rate over the run", f"Blue: the rate of each stretch with its 95 % interval.{promised}"
        )
        chart(
            lambda: timeline_charts.rate_band(found.table, low, high), found, "rate",
            "Update rate in stretches of the run with its 95 % interval (Wilson); the green band is what the policy promises.",
        )  # fmt: skip
    margin_section()
    reasons, streaks = (
        query_or_error(run_page_query, "gate_reasons", run=run_id),
        query_or_error(run_page_query, "skip_streaks", run=run_id),
    )
    left, right = st.columns([3, 2])
    with left:
        if reasons is not None:
            section("Reasons")
            query_table(reasons, "reasons", alt="How often the gate gave each reason.")
    with right:
        if streaks is not None:
            section("Longest rows of skips")
            if streaks.table.num_rows:
                query_table(streaks, "streaks", height=248, alt="The ten longest rows of skips.")
            else:
                st.text("No batch was skipped.")


auto_refresh(draw, run_id)
