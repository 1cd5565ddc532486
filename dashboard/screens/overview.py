"""Which runs are there, and which need a look?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.frame import empty, head, section, under
from dashboard.source import Answer, ask, ask_saved, or_error, store

SHOWN = ("run_id", "created", "state", "policy", "batches", "update_rate", "evaluations", "accept_rate", "best_val_loss", "compute_saved")  # fmt: skip
RATES = ("update_rate", "accept_rate", "compute_saved")


def percent(value: float | None) -> str:
    """A share, or a dash."""
    return "-" if value is None else f"{value:.1%}"


def figures(newest: dict[str, Any]) -> None:
    """What there is to say about the newest run, with the way that it went."""
    sparks = or_error(ask, "sparks", run=newest["run_id"])
    parts = sparks.rows() if sparks is not None else []
    curve = {
        name: [part[name] for part in parts if part[name] is not None]
        for name in ("update_rate", "loss", "drift")
    }
    oq = or_error(ask, "memory_points", run=newest["run_id"])
    points = [row for row in oq.rows() if row["gain"] is not None] if oq is not None else []
    told = or_error(ask, "oq_gain", run=newest["run_id"])
    gain = told.rows()[0]["gain"] if told is not None else None
    columns = st.columns(5)  # labels are short because a column is narrow; the caption below says the rest
    columns[0].metric(
        "Update rate",
        percent(newest["update_rate"]),
        chart_data=curve["update_rate"] or None,
        border=True,
        height="stretch",
    )
    columns[1].metric(
        "Training loss",
        f"{curve['loss'][-1]:.3f}" if curve["loss"] else "-",
        chart_data=curve["loss"] or None,
        border=True,
        height="stretch",
    )
    columns[2].metric(
        "Drift",
        f"{curve['drift'][-1]:.3f}" if curve["drift"] else "-",
        chart_data=curve["drift"] or None,
        border=True,
        height="stretch",
    )
    columns[3].metric(
        "OQ gain",
        "-" if gain is None else f"{gain:+.1%}",
        chart_data=[row["gain"] for row in points][-200:] or None,
        border=True,
        height="stretch",
    )
    columns[4].metric(
        "Compute saved", percent(newest["compute_saved"]), f"{newest['accepted']} of {newest['evaluations']} kept",
        delta_color="off", delta_arrow="off", border=True, height="stretch",
    )  # fmt: skip
    st.caption(
        "Loss in nats/token and drift from the anchor at the end; OQ of the last kept checkpoint against the first; compute as measured in the run."
    )


def attend(attention: Answer | None) -> None:
    """What needs a look, runs that cannot be read among it."""
    section("Needs a look")
    for run_id, why in sorted(store().broken.items()):
        st.error("A run cannot be read, and is left out of every page:", icon=":material/error:")
        st.code(f"{run_id}: {why}"[:600], language=None)
    if attention is not None and attention.table.num_rows:
        st.dataframe(attention.table, hide_index=True, key="attention")
        under(attention, "attention")
    elif not store().broken:
        st.text("Nothing: every run has ended, is finite, and keeps its band.")


def all_runs(summary: Answer) -> None:
    """The table; a row opens its run."""
    section("All runs", "Choose a row to open it.")
    picked = st.dataframe(
        summary.table.select(list(SHOWN)), hide_index=True, on_select="rerun", selection_mode="single-row", key="runs",
        column_config={name: st.column_config.NumberColumn(format="percent") for name in RATES},
    )  # fmt: skip
    under(summary, "runs")
    if picked.selection.rows:
        st.switch_page(
            "screens/run.py", query_params={"run": summary.rows()[picked.selection.rows[0]]["run_id"]}
        )


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
        f"{len(rows):,} {'run' if len(rows) == 1 else 'runs'}{f', {going} without an end in the log' if going else ''}; "
        f"{need or 'none'} {'needs' if need == 1 else 'need'} a look.",
    )
    section("The newest run")
    st.text(f"{rows[0]['run_id']}: {rows[0]['state']}, policy {rows[0]['policy']}")
    figures(rows[0])
    attend(attention)
    all_runs(summary)
    bands = or_error(ask_saved, "bands") if len(rows) <= 200 else None
    if bands is not None:
        section("Promised and kept", "Bands of update rate and accept rate that each policy promises.")
        st.dataframe(
            bands.table, hide_index=True, key="bands",
            column_config={n: st.column_config.NumberColumn(format="percent") for n in bands.table.column_names if n.startswith(("update_", "accept_")) and not n.endswith("band")},
        )  # fmt: skip
        under(bands, "bands")


page()
