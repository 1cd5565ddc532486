"""Curves of several runs in one chart, on a common axis, as lines of runs or as means of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.components.timeseries import Axis, Line, LinePanel, line_style, timeseries
from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import query_details, section
from ockham.study.student_t import mean_interval

# Series -> column and unit. Validation losses are measured at evaluations, all others in each batch.
SERIES = {
    "validation loss": ("val_loss", "nats/token"),
    "loss": ("loss", "nats/token"),
    "update rate": ("update_rate", ""),
    "learning rate": ("learning_rate", ""),
    "lambda": ("lambda", ""),
}
# Axis -> column and title.
AXES = {
    "iterations": ("iter", "iteration"),
    "tokens": ("tokens", "tokens"),
    "seconds": ("seconds", "seconds of training, without pauses between attempts"),
    "compute": ("compute", "compute, in forward passes"),
}
# This number of lines differs in colour and dash pattern.
MAX_LINES = 24
RUNS, GROUPS = "runs", "mean of groups"
Points = tuple[list[float], list[float | None]]


def overlay_section(chosen: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Show any series of the chosen runs in one chart.

    Args:
        chosen: IDs of the runs.
        groups: Group -> IDs of its runs.

    """
    section("Curves", "Click a name to hide its line. The slider smooths, and `log` switches an axis.")
    left, middle, right = st.columns([4, 5, 4])
    names = left.multiselect(
        "Series", list(SERIES), default=["loss", "validation loss"], key="series", bind="query-params"
    )
    axis = middle.segmented_control(
        "Axis", list(AXES), default="iterations", key="axis", required=True, bind="query-params"
    )
    lines = right.segmented_control(
        "Lines", [RUNS, GROUPS], default=RUNS, key="lines", required=True, bind="query-params"
    )
    axis, lines = axis or "iterations", lines or RUNS
    if lines == GROUPS and axis != "iterations":
        st.caption("Means of groups have the axis of iterations, on which all runs have the same places.")
        axis = "iterations"
    shown = list(chosen) if lines == GROUPS else list(chosen[:MAX_LINES])
    if len(shown) < len(chosen):
        st.caption(
            f"The chart shows the first {MAX_LINES} of {len(chosen):,} chosen runs. "
            "All of them are in the means of groups and in the other views."
        )
    result = query_or_error(run_page_query, "workbench_curves", runs=tuple(shown))
    if result is None:
        return
    make = group_lines if lines == GROUPS else run_lines
    members = dict(list(groups.items())[:MAX_LINES]) if lines == GROUPS else {run: [run] for run in shown}
    panels = build_panels(result.table, members, names, AXES[axis][0], make)
    xs = [x for panel in panels for line in panel.lines for x in line.x]
    if xs:
        span = Axis(min(xs), max(xs), AXES[axis][1], "number" if axis == "seconds" else "integer")
        timeseries(panels, span, key="overlay", description=f"{', '.join(names)} of {len(shown)} runs.")
    else:
        st.caption("No values on this axis.")
    query_details(result, "workbench-curves")


def build_panels(
    table: pa.Table, members: Mapping[str, Sequence[str]], series: Sequence[str], position: str, make: Any
) -> list[LinePanel]:
    """Return one panel for each series.

    Args:
        table: Rows of `workbench_curves`.
        members: Name of a line -> IDs of its runs.
        series: Names of series.
        position: Column of the axis.
        make: `run_lines` or `group_lines`.

    """
    panels = []
    for name in series:
        column, unit = SERIES[name]
        of_evaluations = pc.equal(table["is_evaluation"], column == "val_loss")
        points = _read_points(table.filter(of_evaluations), position, column)
        panels.append(LinePanel(column, name.capitalize(), make(points, members), unit=unit))
    return panels


def run_lines(points: Mapping[str, Points], members: Mapping[str, Sequence[str]]) -> list[Line]:
    """Return one line for each run. A run has the same colour in all panels."""
    return [
        Line(run_id, *points[run_id], smooth=True, group=run_id, **line_style(i))
        for i, run_id in enumerate(members)
        if run_id in points
    ]


def group_lines(points: Mapping[str, Points], members: Mapping[str, Sequence[str]]) -> list[Line]:
    """Return the mean of each group at each place, with the 95 % interval of the mean as an area."""
    lines = []
    for i, (name, runs) in enumerate(members.items()):
        values: dict[float, list[float]] = {}
        for run_id in runs:
            for x, y in zip(*points.get(run_id, ([], [])), strict=True):
                if y is not None:
                    values.setdefault(x, []).append(y)
        xs = sorted(values)
        means = [mean_interval(values[x]) for x in xs]
        middle = [found.mean for found in means]
        low, high = (
            [None if found.half_width is None else found.mean + sign * found.half_width for found in means]
            for sign in (-1, 1)
        )
        if xs:
            style = {"low": low, "high": high, "range_name": "95 % interval", **line_style(i)}
            lines.append(Line(f"{name} (n = {len(runs)})", xs, middle, smooth=True, group=name, **style))
    return lines


def _read_points(table: pa.Table, position: str, column: str) -> dict[str, Points]:
    """Return run -> positions and values. Rows without a position are left out."""
    points: dict[str, Points] = {}
    columns = (table[name].to_pylist() for name in ("run_id", position, column))
    for run_id, x, y in zip(*columns, strict=True):
        if x is not None:
            xs, ys = points.setdefault(run_id, ([], []))
            xs.append(x)
            ys.append(y)
    return points
