"""Overlay of several runs in one chart, on a common axis."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from dashboard.components.timeseries import Axis, Line, LinePanel, line_style, timeseries

# Series -> unit. Validation losses are measured at evaluations, all others in each batch.
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
    "compute": ("compute", "compute, in forward passes"),
}


def overlay(runs: Sequence[str], series: Sequence[str], axis_name: str, tables: Sequence[pa.Table]) -> bool:
    """Show the chart, and return False if there are no values on this axis.

    Args:
        runs: IDs of the runs.
        series: Names of series.
        axis_name: Name of the axis.
        tables: Rows of `workbench_losses` and `workbench_bins`.

    """
    position, title = AXES[axis_name]
    panels = []
    for name in series:
        column, unit = SERIES[name]
        table = next((table for table in tables if {column, position} <= set(table.column_names)), None)
        if table is None:
            continue
        lines = run_lines(table, runs, position, column)
        panels.append(LinePanel(column, name.capitalize(), lines, unit=unit))
    xs = [x for panel in panels for line in panel.lines for x in line.x]
    if not xs:
        return False
    axis = Axis(min(xs), max(xs), title=title, format="integer")
    timeseries(panels, axis, key="overlay", description=f"{', '.join(series)} of {len(runs)} runs.")
    return True


def run_lines(table: pa.Table, runs: Sequence[str], position: str, column: str) -> list[Line]:
    """Return one line for each run. A run has the same colour in all panels."""
    points: dict[str, tuple[list[float], list[float | None]]] = {run_id: ([], []) for run_id in runs}
    for row in table.select(["run_id", position, column]).to_pylist():
        if row[position] is not None:
            xs, ys = points[row["run_id"]]
            xs.append(row[position])
            ys.append(row[column])
    return [
        Line(run_id, *points[run_id], smooth=True, group=run_id, **line_style(i))
        for i, run_id in enumerate(runs)
        if points[run_id][0]
    ]
