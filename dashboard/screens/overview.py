"""Overview page: which runs exist, and which need attention?"""

from __future__ import annotations

import functools
from collections import Counter

import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_saved_question, store
from dashboard.layout import chart, no_runs_hint, page_header, section
from dashboard.metric_cards import metric_cards
from dashboard.tables import query_table
from dashboard.verifier import run_verifier
from ockham.savings import SAVINGS_REASONS

QUESTION = "Which runs exist, and which need attention?"
COLUMNS = (
    "run_id",
    "created",
    "state",
    "policy",
    "batches",
    "update_rate",
    "evaluations",
    "accept_rate",
    "val_loss",
    "best_val_loss",
    "compute_saved",
)
# With more runs the charts of the bands are too high. The table contains all runs.
MAX_BAND_RUNS = 25


def attention_section(attention: TimedResult | None) -> None:
    """Show the runs that need attention, and the runs that cannot be read."""
    section("Needs attention")
    for run_id, error in sorted(store().broken.items()):
        st.error("This run cannot be read. All pages omit it:", icon=":material/error:")
        st.code(f"{run_id}: {error}"[:600], language=None, wrap_lines=True)
    if attention is not None and attention.table.num_rows:
        selected = query_table(
            attention, "attention", selectable=True, alt="Runs that need attention, with the reason."
        )
        if selected:
            st.switch_page(f"screens/{selected['page']}.py", query_params={"run": selected["run_id"]})
    elif not store().broken:
        st.text(
            "Nothing in the figures. All runs are finished and have finite losses. "
            "The rates of all runs with enough data are inside the bands of their policies."
        )


def runs_section(summary: TimedResult) -> None:
    """Show the table of all runs. Selecting a row opens the run."""
    section("All runs", "Select a row to open the run.")
    alt = f"{summary.table.num_rows} runs, the newest first."
    selected = query_table(summary, "runs", columns=COLUMNS, selectable=True, alt=alt)
    reasons = Counter(row["compute_saved_reason"] for row in summary.rows())
    for reason, meaning in SAVINGS_REASONS.items():
        if reasons[reason]:
            st.caption(
                f"compute_saved is unknown for {reasons[reason]:,} of {reasons.total():,} runs: {meaning}."
            )
    if selected:
        st.switch_page("screens/run.py", query_params={"run": selected["run_id"]})


def bands_section(bands: TimedResult) -> None:
    """Show the rates of all runs with the bands of their policies."""
    section(
        "Rates and bands",
        "The bar is the band of the policy. The mark is the rate of the run. "
        "With few evaluations an accept rate is not meaningful.",
    )
    left, right = st.columns(2)
    for column, name, label in ((left, "update", "Update rate"), (right, "accept", "Accept rate")):
        with column:
            st.caption(label)
            chart(
                functools.partial(charts.rate_vs_band, bands.table, name),
                bands,
                f"band-{name}",
                f"{label} of {bands.table.num_rows} runs, each with the band of its policy.",
            )


def summary_sentence(runs: int, unfinished: int, unreadable: int, attention: int) -> str:
    """Return the answer of the page."""
    parts = ["1 run" if runs == 1 else f"{runs:,} runs"]
    if unfinished:
        parts.append(f"{unfinished:,} unfinished")
    if unreadable:
        parts.append(f"{unreadable:,} unreadable")
    need = f"{attention:,} need" if attention else "none need"
    if attention == 1:
        need = "1 needs"
    return f"{', '.join(parts)}; {need} attention."


def page() -> None:
    """Show the page."""
    summary = query_or_error(run_page_query, "runs")
    attention = query_or_error(run_page_query, "attention")
    if summary is None:
        page_header(QUESTION, "The runs cannot be read.")
        return
    rows = summary.rows()
    broken = store().broken
    if not rows:
        page_header(QUESTION, "No run can be read." if broken else "No runs yet.")
        if broken:
            attention_section(None)
        else:
            no_runs_hint()
        return
    flagged = {row["run_id"] for row in attention.rows()} if attention is not None else set()
    flagged |= {*broken, *run_verifier().broken()}
    unfinished = sum(row["state"] == "UNFINISHED" for row in rows)
    page_header(QUESTION, summary_sentence(len(rows), unfinished, len(broken), len(flagged)))
    newest = rows[0]
    section("Newest run")
    st.text(
        f"{newest['run_id']}: {newest['state']}, policy {newest['policy']}, {newest['batches']:,} batches"
    )
    metric_cards(newest["run_id"], newest)
    attention_section(attention)
    runs_section(summary)
    bands = query_or_error(run_saved_question, "bands") if len(rows) <= MAX_BAND_RUNS else None
    if bands is not None and bands.table.num_rows:
        bands_section(bands)


page()
