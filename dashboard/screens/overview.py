"""Which runs are there, and which need a look?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_saved_question, store
from dashboard.layout import chart, no_runs_hint, page_header, section
from dashboard.metric_cards import metric_cards
from dashboard.tables import query_table

SHOWN = ("run_id", "created", "state", "policy", "batches", "update_rate", "evaluations", "accept_rate", "val_loss", "best_val_loss", "compute_saved")  # fmt: skip
BANDS = 25  # runs whose rates stand beside their bands: more are a wall, and the table has them all


def attention_section(attention: TimedResult | None) -> None:
    """What needs a look, runs that cannot be read among it."""
    section("Needs a look")
    for run_id, why in sorted(store().broken.items()):
        st.error("A run cannot be read, and is left out of every page:", icon=":material/error:")
        st.code(f"{run_id}: {why}"[:600], language=None, wrap_lines=True)
    if attention is not None and attention.table.num_rows:
        chosen = query_table(attention, "attention", selectable=True, alt="What needs a look, run by run.")
        if chosen:
            st.switch_page(f"screens/{chosen['page']}.py", query_params={"run": chosen["run_id"]})
    elif not store().broken:
        st.text(
            "Nothing: every run has ended and is finite, and each that is long enough to be judged keeps the rates that its policy promises."
        )


def all_runs(summary: TimedResult) -> None:
    """The table; a row opens its run."""
    section("All runs", "Choose a row to open it.")
    chosen = query_table(
        summary,
        "runs",
        columns=SHOWN,
        selectable=True,
        alt=f"{summary.table.num_rows} runs, the newest first.",
    )
    if chosen:
        st.switch_page("screens/run.py", query_params={"run": chosen["run_id"]})


def bands_section(bands: TimedResult) -> None:
    """Rates beside the bands that policies promise."""
    section(
        "Promised and kept",
        "The bar is what the policy promises, the mark what the run came to. An accept rate of few evaluations says little.",
    )
    left, right = st.columns(2)
    for place, name, said in ((left, "update", "Update rate"), (right, "accept", "Accept rate")):
        with place:
            st.caption(said)
            chart(
                lambda name=name: charts.rate_vs_band(bands.table, name), bands, f"promised-{name}",
                f"{said} of {bands.table.num_rows} runs, each beside the band that its policy promises.",
            )  # fmt: skip


def page() -> None:
    """The page."""
    question = "Which runs are there, and which need a look?"
    summary, attention = query_or_error(run_page_query, "runs"), query_or_error(run_page_query, "attention")
    if summary is None:
        page_header(question, "The runs could not be read.")
        return
    rows = summary.rows()
    need = (
        len({row["run_id"] for row in attention.rows()} | set(store().broken)) if attention is not None else 0
    )
    if not rows:
        page_header(question, "No run yet." if not store().broken else "No run that can be read.")
        if store().broken:
            attention_section(None)
        else:
            no_runs_hint()
        return
    going = sum(row["state"] == "UNFINISHED" for row in rows)
    page_header(
        question,
        f"{len(rows):,} {'run' if len(rows) == 1 else 'runs'}{f', {going:,} without an end in the log' if going else ''}"
        f"{f', {len(store().broken):,} more that cannot be read' if store().broken else ''}; "
        f"{f'{need:,}' if need else 'none'} {'needs' if need == 1 else 'need'} a look.",
    )
    section("The newest run")
    st.text(
        f"{rows[0]['run_id']}: {rows[0]['state']}, policy {rows[0]['policy']}, {rows[0]['batches']:,} batches"
    )
    metric_cards(rows[0]["run_id"], rows[0])
    attention_section(attention)
    all_runs(summary)
    bands = query_or_error(run_saved_question, "bands") if len(rows) <= BANDS else None
    if bands is not None and bands.table.num_rows:
        bands_section(bands)


page()
