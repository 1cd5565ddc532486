"""Runs page: find runs, compare them after the same length, and see what groups of them saved."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_page_query, run_sql
from dashboard.header import log_label
from dashboard.layout import (
    chart,
    csv_bytes,
    no_runs_hint,
    page_header,
    parquet_bytes,
    query_details,
    section,
)
from dashboard.run_groups import COUNTS, group_savings
from dashboard.run_overlay import AXES, SERIES, overlay
from dashboard.runs_report import report_html
from dashboard.style import UPDATE, themed
from dashboard.tables import column_formats, data_table, query_table, round_rates
from dashboard.verifier import run_verifier
from dashboard.words import state_name

QUESTION = "Which runs are better, and what did they save?"
MAX_CHOSEN_RUNS = 24
QUALITY_MARGIN = 0.01
GROUPS = ("policy", "data")


def show_filter() -> dict[str, Any]:
    """Show the filter, and return the parameters of the query `workbench`."""
    result = query_or_error(run_sql, "select distinct policy, state, data from runs")
    rows = result.rows() if result is not None else []
    values = {name: sorted({row[name] for row in rows if row[name]}) for name in ("policy", "state", "data")}
    first, second, third, fourth = st.columns(4)
    return {
        "text": first.text_input("Name contains", key="filter-text", max_chars=64),
        "policies": second.multiselect("Policy", values["policy"], key="filter-policy"),
        "states": third.multiselect("State", values["state"], key="filter-state", format_func=state_name),
        "datasets": fourth.multiselect("Data", values["data"], key="filter-data"),
    }


def runs_table(result: TimedResult) -> list[str]:
    """Show the runs with links, and return the IDs of the chosen runs. The address contains them."""
    names = [str(row["run_id"]) for row in result.rows()]
    states = run_verifier().states(names)
    logs = pa.array([log_label(states[name]) for name in names], pa.string())
    table = round_rates(result.table.add_column(1, "log", logs))
    links = pa.array([f"run?run={name}" for name in names], pa.string())
    formats = column_formats(table)
    formats["run_id"] = st.column_config.LinkColumn("run", display_text=r"run=(.*)$", pinned=True)
    st.dataframe(
        table.set_column(0, "run_id", links),
        hide_index=True,
        key="workbench",
        column_config=formats,
        placeholder="-",
        on_select=lambda: _set_chosen(names),
        selection_mode="multi-row",
        alt=f"{len(names)} runs, the newest first. Each name is a link.",
    )
    query_details(result, "workbench")
    requested = st.query_params.get("chosen", "").split(",")
    return [name for name in names if name in requested][:MAX_CHOSEN_RUNS]


def _set_chosen(names: list[str]) -> None:
    rows = st.session_state["workbench"].selection.rows
    st.query_params["chosen"] = ",".join(names[i] for i in rows)


def overlay_section(chosen: list[str]) -> None:
    """Show any series of the chosen runs in one chart."""
    section("Curves", "Click a name to hide its line. Compute is counted in forward passes.")
    left, right = st.columns([3, 2])
    series = left.multiselect("Series", list(SERIES), default=["validation loss", "loss"], key="series")
    axis = right.segmented_control("Axis", list(AXES), default="iterations", key="axis") or "iterations"
    results = [
        query_or_error(run_page_query, name, runs=chosen) for name in ("workbench_losses", "workbench_bins")
    ]
    found = [result for result in results if result is not None]
    if not overlay(chosen, series, axis, [result.table for result in found]):
        st.caption("No values on this axis.")
    for name, result in zip(("losses", "bins"), found, strict=False):
        query_details(result, f"workbench-{name}")


def comparison_sentence(rows: list[dict[str, Any]], basis: str) -> str:
    """Return which run is best after the same length, and the length."""
    measured = [row for row in rows if row["equal_loss"] is not None]
    if not measured:
        return "The chosen runs have no validation loss yet."
    best = measured[0]
    unit = "tokens" if basis == "tokens" else "iterations"
    length = best["equal_length"] + (0 if basis == "tokens" else 1)
    equally_good = sum(row["equal_loss"] == best["equal_loss"] for row in measured)
    best_text = f"{best['run_id']} has the lowest validation loss: {best['equal_loss']:.4f}"
    if equally_good > 1:
        best_text = f"{equally_good:,} runs have the same lowest validation loss: {best['equal_loss']:.4f}"
    text = f"After {length:,} {unit} each, {best_text}."
    if len({row["last_iter"] for row in rows}) > 1:
        text += " The runs have different lengths. Later evaluations are not compared."
    if any(row["data_sha256"] is None for row in rows):
        text += " A run has no data digest, so the losses may not be comparable."
    elif len({row["data_sha256"] for row in rows}) > 1:
        text += " The runs use DIFFERENT data, so their losses are not comparable."
    return text


def countable_savings(table: pa.Table) -> pa.Table:
    """Return the table without the savings of runs that do not reach the quality floor."""
    counts = [value in (COUNTS, "baseline") for value in table["savings"].to_pylist()]
    for name in ("compute_saved", "compute_saved_low", "compute_saved_high"):
        values = [
            value if kept else None for value, kept in zip(table[name].to_pylist(), counts, strict=True)
        ]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64()))
    return table


def cost_chart(table: pa.Table) -> alt.Chart:
    """Return the chart of cost and quality at equal length."""
    points = alt.Chart(table).mark_point(filled=True, size=80, color=UPDATE)
    scale = alt.Scale(zero=False)
    encoded = points.encode(
        x=alt.X("forward_passes:Q", title="compute, in forward passes", scale=scale),
        y=alt.Y("equal_loss:Q", title="validation loss, nats/token", scale=scale),
        shape=alt.Shape("policy:N", title="policy"),
        tooltip=["run_id:N", "policy:N", "forward_passes:Q", "equal_loss:Q", "savings:N"],
    )
    themed_chart: alt.Chart = themed(encoded)
    return themed_chart


def comparison_section(chosen: list[str]) -> None:
    """Compare the chosen runs at equal length: losses, cost, and savings per group."""
    section("After the same length")
    left, middle, right = st.columns(3)
    basis = left.segmented_control("Equal", ["iterations", "tokens"], default="iterations", key="basis")
    baseline = middle.selectbox(
        "Baseline run",
        chosen,
        index=None,
        key="baseline",
        placeholder="none",
        help="Savings count only if the loss is at most that of this run + 0.01.",
    )
    group_by = right.selectbox("Group by", GROUPS, key="group")
    parameters = {"runs": chosen, "baseline": baseline or "", "margin": QUALITY_MARGIN}
    result = query_or_error(run_page_query, "workbench_equal", basis=basis or "iterations", **parameters)
    if result is None:
        return
    sentence = comparison_sentence(result.rows(), basis or "iterations")
    st.text(sentence)
    shown = result._replace(table=countable_savings(result.table))
    query_table(shown, "equal", alt="Chosen runs after the same length.")
    section("Cost and quality", "Lower left is better.")
    measured = shown._replace(table=shown.table.filter(pc.is_valid(shown.table["forward_passes"])))
    chart(
        lambda: cost_chart(measured.table),
        measured,
        "cost",
        "Compute and validation loss of each chosen run.",
    )
    section("Savings per group", "Mean of the runs that count, over their whole length, with 95 % intervals.")
    groups = group_savings(result.rows(), group_by)
    if baseline is None:
        st.text("Choose a baseline run. Without a quality floor no saving counts.")
    else:
        data_table(groups, "groups", height="content", alt="Mean saving of each group.")
    downloads(sentence, shown, groups)


def downloads(sentence: str, result: TimedResult, groups: pa.Table) -> None:
    """Show the downloads of the chosen runs."""
    tables = [("After the same length", result.table), ("Savings per group", groups)]
    files = (
        ("HTML report", "runs.html", "text/html", lambda: report_html([sentence], tables)),
        ("CSV", "runs.csv", "text/csv", lambda: csv_bytes(result)),
        ("Parquet", "runs.parquet", None, lambda: parquet_bytes(result)),
    )
    with st.container(horizontal=True):
        for label, name, mime, make_bytes in files:
            st.download_button(label, make_bytes, name, mime, key=f"save-{name}", on_click="ignore")


def page() -> None:
    """Show the page."""
    output = st.container()
    parameters = show_filter()
    result = query_or_error(run_page_query, "workbench", **parameters)
    count = result.table.num_rows if result is not None else 0
    with output:
        page_header(QUESTION, f"{count:,} {'run matches' if count == 1 else 'runs match'} the filter.")
    if result is None:
        return
    if not count:
        if not any(parameters.values()):
            no_runs_hint()
        return
    chosen = runs_table(result)
    if not chosen:
        st.text("Select runs at the left of the table to compare them.")
        return
    overlay_section(chosen)
    comparison_section(chosen)


page()
