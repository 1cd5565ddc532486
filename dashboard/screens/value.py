"""What did this run save, and is the model still good enough?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.frame import choose_run, csv_bytes, head, section
from dashboard.source import Answer, ask_sql, or_error, runs_folder, store
from ockham.errors import OckhamError
from ockham.study.roi import Prices, Row, roi
from ockham.study.seen import see

ASK_FIRST = 300_000  # events; reading more takes seconds, and is done when somebody asks for it
QUESTION = "What did this run save, and is the model good enough?"
run_id = choose_run()
if run_id is None:
    st.stop()
assert run_id is not None


@st.cache_data(max_entries=50, show_spinner="Counting")
def counted(
    runs: str,
    run: str,
    rival: str | None,
    floor: float | None,
    hour: float | None,
    gigabyte: float | None,
    version: tuple[int, int],
) -> list[dict[str, Any]]:
    """The rows of `ockham roi`."""
    other = see(Path(runs), rival) if rival else None
    return [row._asdict() for row in roi(see(Path(runs), run), Prices(hour, gigabyte), floor, other)]


def inputs() -> tuple[str | None, float | None, float | None, float | None]:
    """What people assume: prices, and the floor of quality."""
    with st.sidebar:
        others = or_error(
            ask_sql, "select run_id from runs where run_id <> $run order by created desc", run=run_id
        )
        names = [row["run_id"] for row in others.rows()] if others is not None else []
        rival = st.selectbox(
            "Run that always updated",
            names,
            index=None,
            key="rival",
            help="Its best loss + 0.01 is the floor of quality.",
        )
        floor = st.number_input(
            "Or: highest loss that is good enough", 0.0, value=None, key="floor", format="%.4f"
        )
        hour = st.number_input("Price of a device hour", 0.0, value=None, key="hour")
        gigabyte = st.number_input("Price of a GB kept", 0.0, value=None, key="gigabyte")
    return rival, floor, hour, gigabyte


def told(rows: list[dict[str, Any]], judged: bool) -> str:
    """One sentence."""
    by = {row["figure"]: row["value"] for row in rows}
    skipped = by.get("batches", 0) - by.get("updates", 0)
    saved = by.get("net_saved_share", by.get("compute_saved"))
    text = f"{skipped:,} of {by.get('batches', 0):,} batches were skipped"
    if isinstance(saved, float):
        text += f", which saved {saved:.1%} of the compute"
    return text + (
        "."
        if judged
        else "; whether the model is good enough is open until a floor of quality is given at the left."
    )


def page() -> None:
    """The page."""
    size = or_error(ask_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    events = size.rows()[0]["n"] if size is not None else 0
    rival, floor, hour, gigabyte = inputs()
    if events > ASK_FIRST and not st.session_state.get(f"count-{run_id}"):
        head(QUESTION, f"{events:,} events have to be read for this.")
        st.button("Read them", key=f"count-{run_id}", type="primary")
        return
    try:
        rows = counted(str(runs_folder()), str(run_id), rival, floor, hour, gigabyte, store().version)
    except OckhamError as error:
        head(QUESTION, "This run says too little to count by.")
        st.code(str(error), language=None)
        return
    head(QUESTION, told(rows, floor is not None or rival is not None))
    for kind, meaning in (
        ("measured", "Counted or timed in this run."), ("derived", "Follows from what was measured, by the formula beside it."),
        ("assumed", "Rests on what you entered."),
    ):  # fmt: skip
        own = [row for row in rows if row["kind"] == kind]
        if own:
            section(kind.capitalize(), meaning)
            st.dataframe(
                {"figure": [r["figure"].replace("_", " ") for r in own], "value": [shown(r["value"]) for r in own],
                 "unit": [r["unit"] for r in own], "how": [r["how"] for r in own]}, hide_index=True, key=f"rows-{kind}",
            )  # fmt: skip
    table = pa.table({name: [shown(row[name]) for row in rows] for name in Row._fields})
    answer = Answer(table, f"ockham roi {run_id}", {}, 0.0)
    st.download_button(
        "CSV",
        lambda: csv_bytes(answer),
        f"value-{run_id}.csv",
        "text/csv",
        key="csv-value",
        on_click="ignore",
    )
    st.code(f"ockham roi {run_id}", language="bash")


def shown(value: Any) -> str:
    """A figure as text."""
    return (
        "unknown"
        if value is None
        else f"{value:,.6g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


page()
