"""What did this run save, and is the model still good enough?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_sql, runs_folder, store
from dashboard.layout import csv_bytes, page_header, section, select_run
from dashboard.metric_cards import percent
from dashboard.tables import data_table
from ockham.errors import OckhamError
from ockham.study.roi import Prices, RoiRow, roi
from ockham.study.run_data import load_run_data

ASK_FIRST = 300_000  # events; reading more takes seconds, and is done when somebody asks for it
QUESTION = "What did this run save, and is the model good enough?"
VERDICTS = {
    "GROSS": "open: nobody said yet how good the model must be",
    "FLOOR_REACHED": "yes: the floor was reached, so what was saved counts",
    "NOTHING_SAVED": "NO: the floor was never reached, and savings of a model that is not good enough are none",
    "SAVED": "yes: it took less compute than the other run to be as good",
    "LOST": "yes, but it took MORE compute than the other run to be as good",
}
KINDS = {
    "measured": "Counted or timed in this run.",
    "derived": "Follows from what was measured, by the formula beside it.",
    "assumed": "Rests on what somebody entered, or on what would have been.",
}
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None


@st.cache_data(max_entries=50, show_spinner="Counting")
def cached_roi(
    runs: str,
    run: str,
    rival: str | None,
    floor: float | None,
    hour: float | None,
    gigabyte: float | None,
    version: tuple[int, int],
) -> list[dict[str, Any]]:
    """The rows of `ockham roi`."""
    other = load_run_data(Path(runs), rival) if rival else None
    return [
        row._asdict() for row in roi(load_run_data(Path(runs), run), Prices(hour, gigabyte), floor, other)
    ]


def number_input(place: Any, label: str, name: str, **options: Any) -> float | None:
    """A number that stands in the address too."""
    if f"value-{name}" not in st.session_state:
        try:
            st.session_state[f"value-{name}"] = max(0.0, float(st.query_params.get(name, "")))
        except ValueError:
            st.session_state[f"value-{name}"] = None
    found = place.number_input(label, min_value=0.0, value=None, key=f"value-{name}", **options)
    if found is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = f"{found:g}"
    return found


def inputs() -> tuple[str | None, float | None, float | None, float | None]:
    """What people assume: what is good enough, and prices."""
    others = query_or_error(
        run_sql, "select run_id from runs where run_id <> $run order by created desc", run=run_id
    )
    names = [row["run_id"] for row in others.rows()] if others is not None else []
    asked = st.query_params.get("against")
    first, second, third, fourth = st.columns(4)
    rival = first.selectbox(
        "As good as this run", names, index=names.index(asked) if asked in names else None, key=f"against-{run_id}",
        placeholder="none", help="One that always updated; its best loss + 0.01 is the floor of quality.",
    )  # fmt: skip
    if rival:
        st.query_params["against"] = rival
    else:
        st.query_params.pop("against", None)
    floor = number_input(
        second, "Or: highest loss that will do", "floor", format="%.4f", placeholder="nats/token"
    )
    hour = number_input(third, "Price of a device hour", "hour", placeholder="any currency")
    return (
        rival,
        floor,
        hour,
        number_input(fourth, "Price of a GB kept", "gigabyte", placeholder="any currency"),
    )


def summary_sentence(by: dict[str, Any]) -> str:
    """One sentence."""
    skipped = by.get("batches", 0) - by.get("updates", 0)
    text = f"{skipped:,} of {by.get('batches', 0):,} batches were skipped"
    if isinstance(by.get("compute_saved"), float):
        saved = by["compute_saved"]
        text += (
            f", which saved {saved:.1%} of the compute"
            if saved > 0
            else f", and the chain cost {-saved:.1%} of the compute"
        )
    return f"{text}. Good enough? {VERDICTS.get(by.get('verdict', ''), 'unknown')[0].upper()}{VERDICTS.get(by.get('verdict', ''), 'unknown')[1:]}."


def savings_cards(by: dict[str, Any]) -> None:
    """The figures that a decision rests on."""
    best, floor = by.get("best_val_loss"), by.get("quality_floor")
    enough = (
        None if floor is None or best is None else "below the floor" if best <= floor else "ABOVE the floor"
    )
    money = [by[name] for name in ("compute_money_saved", "storage_saved") if by.get(name) is not None]
    with st.container(horizontal=True):
        for label, value, said in (
            ("Best val. loss", "-" if best is None else f"{best:.3f}", enough or "no floor given"),
            ("Compute saved", percent(by.get("compute_saved")), "net of the chain"),
            ("Saved to the floor", percent(by.get("compute_saved_to_floor")), "beside the other run"),
            (
                "Device time saved",
                "-" if by.get("seconds_saved") is None else f"{by['seconds_saved']:,.1f} s",
                "one device",
            ),
            ("Money saved", f"{sum(money):,.4g}" if money else "-", "at the prices above"),
        ):
            st.metric(
                label,
                value,
                said,
                delta_color="red" if said.startswith("ABOVE") else "off",
                delta_arrow="off",
                border=True,
                width=168,
            )


def command(rival: str | None, floor: float | None, hour: float | None, gigabyte: float | None) -> str:
    """What to type for the same figures."""
    given = {"--against": rival, "--floor": floor, "--price-per-hour": hour, "--price-per-gb": gigabyte}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return shlex.join(["ockham", "roi", str(run_id), *options])


def rows_shown(rows: list[dict[str, Any]], typed: str) -> None:
    """Every figure by how far it can be trusted, and the file of all."""
    for kind, meaning in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if own:
            section(kind.capitalize(), meaning)
            named = {
                "figure": [r["figure"].replace("_", " ") for r in own],
                "value": [shown(r["value"]) for r in own],
            }
            data_table(
                pa.table(
                    {
                        **named,
                        "unit": ["" if r["unit"] == "1" else r["unit"] for r in own],
                        "derivation": [r["derivation"] for r in own],
                    }
                ),
                f"rows-{kind}",
                height="content",
            )
    table = pa.table({name: [shown(row[name]) for row in rows] for name in RoiRow._fields})
    answer = TimedResult(table, typed, {}, 0.0)
    st.download_button(
        "CSV",
        lambda: csv_bytes(answer),
        f"value-{run_id}.csv",
        "text/csv",
        key="csv-value",
        on_click="ignore",
    )
    st.code(typed, language="bash", wrap_lines=True)


def page() -> None:
    """The page."""
    size = query_or_error(run_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    events = size.rows()[0]["n"] if size is not None else 0
    if events > ASK_FIRST and not st.session_state.get(f"count-{run_id}"):
        page_header(
            QUESTION, f"{events:,} events have to be read for this, about {events / 100_000:.0f} seconds."
        )
        st.button(
            "Read them",
            key="ask",
            type="primary",
            on_click=lambda: st.session_state.update({f"count-{run_id}": True}),
        )
        return
    said = st.container()
    rival, floor, hour, gigabyte = inputs()
    try:
        rows = cached_roi(str(runs_folder()), str(run_id), rival, floor, hour, gigabyte, store().version)
    except OckhamError as error:
        with said:
            page_header(QUESTION, "This run says too little to count by.")
        st.code(str(error), language=None)
        return
    by = {row["figure"]: row["value"] for row in rows}
    with said:
        page_header(QUESTION, summary_sentence(by))
    savings_cards(by)
    rows_shown(rows, command(rival, floor, hour, gigabyte))


def shown(value: Any) -> str:
    """A figure as text."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


page()
