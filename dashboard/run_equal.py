"""Comparison of the chosen runs after the same length: losses and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.components.timeseries import LINE_COLOURS
from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.layout import chart, section
from dashboard.run_groups import run_groups
from dashboard.style import POINT_LEGEND, themed, tooltips
from dashboard.tables import query_table

BASES = ("iterations", "tokens", "compute")
# Basis -> unit in sentences.
UNITS = {"iterations": "iterations", "tokens": "tokens", "compute": "forward passes of compute"}
SHAPES = ("circle", "cross", "square", "triangle-up", "diamond", "triangle-down")


def equal_section(chosen: Sequence[str], group_by: str, tags: Mapping[str, Sequence[str]]) -> None:
    """Compare the chosen runs at equal length, which is the default for all comparisons.

    Args:
        chosen: IDs of the runs.
        group_by: Group that colours the points.
        tags: Run ID -> tags.

    """
    section("After the same length")
    basis = st.segmented_control(
        "Equal", BASES, default="iterations", key="basis", required=True, bind="query-params"
    )
    basis = basis or "iterations"
    result = query_or_error(run_page_query, "workbench_equal", runs=tuple(chosen), basis=basis)
    if result is None:
        return
    st.text(comparison_sentence(result.rows(), basis))
    columns = ("run_id", "policy", "data", "equal_loss", "iterations", "compute", "all_iterations")
    query_table(result, "equal", columns=columns, alt="Chosen runs after the same length.")
    section("Cost and quality", "After the same length. Lower left is better.")
    points = grouped_points(result.table, group_by, tags)
    chart(
        lambda: cost_chart(points),
        TimedResult(points, result.sql, result.parameters, result.seconds),
        "cost",
        "Compute and validation loss of each chosen run.",
    )


def comparison_sentence(rows: Sequence[Mapping[str, Any]], basis: str) -> str:
    """Return which run is best after the same length, and the length.

    Args:
        rows: Rows of the page query `workbench_equal`, the best first.
        basis: One of `BASES`.

    """
    measured = [row for row in rows if row["equal_loss"] is not None]
    if not measured:
        return f"The chosen runs have no validation loss with {UNITS[basis]} yet."
    best = measured[0]
    equally_good = sum(row["equal_loss"] == best["equal_loss"] for row in measured)
    best_text = f"{best['run_id']} has the lowest validation loss: {best['equal_loss']:.4f}"
    if equally_good > 1:
        best_text = f"{equally_good:,} runs have the same lowest validation loss: {best['equal_loss']:.4f}"
    text = f"After {best['equal_length']:,.0f} {UNITS[basis]} each, {best_text}."
    if len({row["all_iterations"] for row in rows}) > 1:
        text += f" {best['shortest_run']} is the shortest run. Later evaluations of the others do not count."
    if missing := len(rows) - len(measured):
        text += f" {missing:,} of {len(rows):,} runs have no evaluation up to there."
    if any(row["data_sha256"] is None for row in rows):
        text += " A run has no data digest, so the losses may not be comparable."
    elif len({row["data_sha256"] for row in rows}) > 1:
        text += " The runs use DIFFERENT data, so their losses are not comparable."
    return text


def grouped_points(table: pa.Table, group_by: str, tags: Mapping[str, Sequence[str]]) -> pa.Table:
    """Return the runs with cost and loss, and their group as text."""
    measured = table.filter(pc.and_(pc.is_valid(table["compute"]), pc.is_valid(table["equal_loss"])))
    groups = [", ".join(run_groups(row, group_by, tags)) for row in measured.to_pylist()]
    return measured.append_column("group", pa.array(groups, pa.string()))


def cost_chart(points: pa.Table) -> alt.Chart:
    """Return the chart of cost and quality at equal length."""
    names = sorted(set(points["group"].to_pylist()))
    ranges = [[values[i % len(values)] for i in range(len(names))] for values in (LINE_COLOURS, SHAPES)]
    colours, shapes = (alt.Scale(domain=names, range=values) for values in ranges)
    scale = alt.Scale(zero=False)
    encoded = (
        alt.Chart(points)
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            x=alt.X("compute:Q", title="compute, in forward passes", scale=scale),
            y=alt.Y("equal_loss:Q", title="validation loss, nats/token", scale=scale),
            color=alt.Color("group:N", scale=colours, legend=POINT_LEGEND),
            shape=alt.Shape("group:N", scale=shapes, legend=POINT_LEGEND),
            tooltip=tooltips(run_id="", group="", compute=",.0f", equal_loss=".4f"),
        )
    )
    themed_chart: alt.Chart = themed(encoded, 300)
    return themed_chart
