"""Which runs are there, and which need a look?"""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.figures import figures
from dashboard.frame import chart, empty, head, section
from dashboard.source import Answer, ask, ask_saved, or_error, store
from dashboard.tables import answered

SHOWN = ("run_id", "created", "state", "policy", "batches", "update_rate", "evaluations", "accept_rate", "val_loss", "best_val_loss", "compute_saved")  # fmt: skip
BANDS = 25  # runs whose rates stand beside their bands: more are a wall, and the table has them all


def attend(attention: Answer | None) -> None:
    """What needs a look, runs that cannot be read among it."""
    section("Needs a look")
    for run_id, why in sorted(store().broken.items()):
        st.error("A run cannot be read, and is left out of every page:", icon=":material/error:")
        st.code(f"{run_id}: {why}"[:600], language=None, wrap_lines=True)
    if attention is not None and attention.table.num_rows:
        chosen = answered(attention, "attention", pick=True, alt="What needs a look, run by run.")
        if chosen:
            st.switch_page(f"screens/{chosen['page']}.py", query_params={"run": chosen["run_id"]})
    elif not store().broken:
        st.text(
            "Nothing: every run has ended and is finite, and each that is long enough to be judged keeps the rates that its policy promises."
        )


def all_runs(summary: Answer) -> None:
    """The table; a row opens its run."""
    section("All runs", "Choose a row to open it.")
    chosen = answered(
        summary, "runs", columns=SHOWN, pick=True, alt=f"{summary.table.num_rows} runs, the newest first."
    )
    if chosen:
        st.switch_page("screens/run.py", query_params={"run": chosen["run_id"]})


def kept_promises(bands: Answer) -> None:
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
                lambda name=name: charts.promises(bands.table, name), bands, f"promised-{name}",
                f"{said} of {bands.table.num_rows} runs, each beside the band that its policy promises.",
            )  # fmt: skip


def page() -> None:
    """The page."""
    question = "Which runs are there, and which need a look?"
    summary, attention = or_error(ask, "runs"), or_error(ask, "attention")
    if summary is None:
        head(question, "The runs could not be read.")
        return
    rows = summary.rows()
    need = (
        len({row["run_id"] for row in attention.rows()} | set(store().broken)) if attention is not None else 0
    )
    if not rows:
        head(question, "No run yet." if not store().broken else "No run that can be read.")
        if store().broken:
            attend(None)
        else:
            empty()
        return
    going = sum(row["state"] == "UNFINISHED" for row in rows)
    head(
        question,
        f"{len(rows):,} {'run' if len(rows) == 1 else 'runs'}{f', {going:,} without an end in the log' if going else ''}"
        f"{f', {len(store().broken):,} more that cannot be read' if store().broken else ''}; "
        f"{f'{need:,}' if need else 'none'} {'needs' if need == 1 else 'need'} a look.",
    )
    section("The newest run")
    st.text(
        f"{rows[0]['run_id']}: {rows[0]['state']}, policy {rows[0]['policy']}, {rows[0]['batches']:,} batches"
    )
    figures(rows[0]["run_id"], rows[0])
    attend(attention)
    all_runs(summary)
    bands = or_error(ask_saved, "bands") if len(rows) <= BANDS else None
    if bands is not None and bands.table.num_rows:
        kept_promises(bands)


page()
