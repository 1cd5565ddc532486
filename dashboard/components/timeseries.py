"""Time-series chart: panels on one axis, drawn by a light script on canvas.

    from dashboard.components.timeseries import Axis, Line, LinePanel, timeseries

    loss = Line("night-1", [0, 1, 2], [2.5, None, 2.1], colour=UPDATE)
    panel = LinePanel("loss", "Loss", [loss], unit="nats/token")
    timeseries([panel], Axis(0, 2), key="loss", description="Loss of night-1.")

All panels share one axis and one crosshair, and their legends show the values at the crosshair. Drag, the
wheel (after a click, or with Ctrl), buttons and keys zoom and pan. `Back` takes back each step. Legends hide
lines, `log` switches an axis, and a slider smooths the lines with `smooth`. Several runs are lines of one
panel. Each has its own x values, and `group` hides the lines of a run in all panels. A `RowPanel` shows
events as marks.

Names are drawn as text, never as markup. New data under the same key replace the old ones in place. Zoom,
legend and smoothing stay.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from dashboard.components.scripts import make_component
from dashboard.style import ATTACK, CLAMP, NEUTRAL, RELEASE, SKIP, UPDATE

# Colour and dash pattern of up to 24 lines that differ only by their name.
LINE_COLOURS = (UPDATE, SKIP, RELEASE, ATTACK, CLAMP, NEUTRAL)
LINE_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3))
SIGNIFICANT_DIGITS = 6
# Shorter sequences are sent as they are.
MIN_COMPACT_VALUES = 4
Format = Literal["number", "integer", "percent", "duration"]
Values = Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """The common axis.

    Args:
        low: First value of the whole range.
        high: Last value of the whole range.
        title: Title below the axis.
        format: Format of the numbers. `integer` also limits the zoom to whole numbers.
        width: Width of one bin, in units of the axis. A click on a line selects one bin.

    """

    low: float
    high: float
    title: str = "iteration"
    format: Format = "integer"
    width: float = 1


@dataclass(frozen=True)
class Line:
    """A line of a panel. None and values that are not finite are gaps.

    Args:
        name: Name in the legend.
        x: Positions, ascending.
        y: One value for each position.
        colour: Colour of the line.
        dash: Lengths of dashes and gaps in pixels. Empty draws a solid line.
        step: True keeps a value until the next position.
        points: True draws a point for each value, without a line between them.
        smooth: True if the slider smooths this line.
        low: Lowest value of each bin. With *high*, it is drawn as an area.
        high: Highest value of each bin.
        range_name: Name of the area in the legend.
        group: Lines of one group are hidden together, in all panels.

    """

    name: str
    x: Sequence[float]
    y: Values
    colour: str = UPDATE
    dash: Sequence[int] = ()
    step: bool = False
    points: bool = False
    smooth: bool = False
    low: Values | None = None
    high: Values | None = None
    range_name: str = "lowest to highest"
    group: str | None = None


@dataclass(frozen=True)
class Band:
    """A horizontal band of a panel, such as the target of a policy."""

    low: float
    high: float
    colour: str = RELEASE


@dataclass(frozen=True)
class LinePanel:
    """A panel with lines.

    Args:
        key: Name that the browser uses to keep the state of the panel.
        title: Title of the panel.
        lines: Lines of the panel.
        unit: Unit of the values, shown after the title.
        format: Format of the values.
        height: Height in pixels, without the legend.
        log: True starts with a logarithmic axis.
        domain: Fixed range of the values. None uses the visible values.
        bands: Horizontal bands.

    """

    key: str
    title: str
    lines: Sequence[Line]
    unit: str = ""
    format: Format = "number"
    height: int = 180
    log: bool = False
    domain: tuple[float, float] | None = None
    bands: Sequence[Band] = ()


@dataclass(frozen=True)
class Row:
    """A row of marks. Their height shows their count, so a rare event is as dark as a frequent one.

    Args:
        key: Name of the row in a pick.
        name: Name at the left of the row.
        x: First position of each mark, ascending.
        width: Width of each mark. 0 draws a line at the position.
        counts: Number of events of each mark. None counts one event for each mark.
        full: Count of a mark with the full height. None draws all marks at full height.
        colour: Colour of the marks.
        hollow: True draws outlines only.

    """

    key: str
    name: str
    x: Sequence[float]
    width: float = 0
    counts: Sequence[int] | None = None
    full: float | None = None
    colour: str = UPDATE
    hollow: bool = False


@dataclass(frozen=True)
class RowPanel:
    """A panel with rows of marks."""

    key: str
    title: str
    rows: Sequence[Row]
    unit: str = ""


@dataclass(frozen=True)
class Pick:
    """A mark or a position that was clicked. Without a row, *panel* and *row* are empty."""

    panel: str
    row: str
    low: float
    high: float


@dataclass(frozen=True)
class Selection:
    """Visible range and click of the reader.

    Args:
        view: First and last value of the visible range. None is the whole range.
        pick: The mark or position that was clicked, only in the run after the click.

    """

    view: tuple[float, float] | None
    pick: Pick | None


def timeseries(
    panels: Sequence[LinePanel | RowPanel],
    axis: Axis,
    *,
    key: str,
    description: str,
    view: tuple[float, float] | None = None,
    smoothing: float = 0,
    on_view: Callable[[tuple[float, float] | None], None] | None = None,
    on_pick: Callable[[Pick], None] | None = None,
) -> Selection:
    """Show the chart, and return the selection in it.

    Args:
        panels: Panels from top to bottom.
        axis: The common axis.
        key: Key of the widget. It must not depend on the data.
        description: Description of the chart for screen readers.
        view: Visible range that the page sets. The browser follows when it changes. None is the whole range.
        smoothing: Initial weight of the smoothing, from 0 to 0.99.
        on_view: Called with the new range after a zoom or a pan.
        on_pick: Called with the mark or position after a click.

    """

    def call_on_view() -> None:
        if on_view is not None:
            on_view(_parse_view(st.session_state[key].get("view")))

    def call_on_pick() -> None:
        pick = _parse_pick(st.session_state[key].get("pick"))
        if on_pick is not None and pick is not None:
            on_pick(pick)

    result = _component()(
        key=key,
        data=message(panels, axis, description=description, view=view, smoothing=smoothing),
        on_view_change=call_on_view,
        on_pick_change=call_on_pick,
    )
    return Selection(_parse_view(result.get("view")), _parse_pick(result.get("pick")))


def line_style(index: int) -> dict[str, Any]:
    """Return colour and dash pattern of line *index*, as arguments of `Line`."""
    count = len(LINE_COLOURS)
    return {"colour": LINE_COLOURS[index % count], "dash": LINE_DASHES[index // count % len(LINE_DASHES)]}


def message(
    panels: Sequence[LinePanel | RowPanel],
    axis: Axis,
    *,
    description: str,
    view: tuple[float, float] | None = None,
    smoothing: float = 0,
) -> dict[str, Any]:
    """Return the data of the browser. Equal x values are sent once, and numbers have six digits."""
    positions: dict[tuple[float, ...], int] = {}
    return {
        "panels": [
            _line_panel(panel, positions) if isinstance(panel, LinePanel) else _row_panel(panel, positions)
            for panel in panels
        ],
        "xs": [_compact(list(xs)) for xs in positions],
        "axis": {
            "low": axis.low,
            "high": axis.high if axis.high > axis.low else axis.low + 1,
            "title": axis.title,
            "format": axis.format,
            "width": axis.width,
        },
        "description": description,
        "view": None if view is None else list(view),
        "smoothing": smoothing,
    }


def _line_panel(panel: LinePanel, positions: dict[tuple[float, ...], int]) -> dict[str, Any]:
    return {
        "key": panel.key,
        "title": panel.title,
        "unit": panel.unit,
        "format": panel.format,
        "height": panel.height,
        "log": panel.log,
        "domain": panel.domain and list(panel.domain),
        "bands": [{"low": band.low, "high": band.high, "colour": band.colour} for band in panel.bands],
        "lines": [_line(line, positions) for line in panel.lines],
    }


def _line(line: Line, positions: dict[tuple[float, ...], int]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": line.name,
        "x": positions.setdefault(tuple(line.x), len(positions)),
        "y": _rounded(line.y),
        "colour": line.colour,
        "dash": list(line.dash),
        "step": line.step,
        "points": line.points,
        "smooth": line.smooth,
        "group": line.group,
    }
    # Without a difference the area is not visible.
    if line.low is not None and line.high is not None and list(line.low) != list(line.high):
        area = {"low": _rounded(line.low), "high": _rounded(line.high)}
        data |= {**area, "rangeName": line.range_name, "rangeColour": NEUTRAL}
    return data


def _row_panel(panel: RowPanel, positions: dict[tuple[float, ...], int]) -> dict[str, Any]:
    rows = [
        {
            "key": row.key,
            "name": row.name,
            "x": positions.setdefault(tuple(row.x), len(positions)),
            "width": row.width,
            "n": None if row.counts is None else _compact(list(row.counts)),
            "full": row.full,
            "colour": row.colour,
            "hollow": row.hollow,
        }
        for row in panel.rows
    ]
    return {"key": panel.key, "title": panel.title, "unit": panel.unit, "rows": rows}


def _rounded(values: Values) -> Any:
    return _compact(
        [
            None if value is None or not math.isfinite(value) else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
            for value in values
        ]
    )


def _compact(values: list[Any]) -> Any:
    """Return equal or equidistant numbers as start, step and count. Most positions are equidistant."""
    if len(values) < MIN_COMPACT_VALUES or any(value is None for value in values):
        return values
    step = values[1] - values[0]
    if any(values[i] != values[0] + i * step for i in range(len(values))):
        return values
    return {"start": values[0], "step": step, "count": len(values)}


def _parse_view(value: Any) -> tuple[float, float] | None:
    return None if value is None else (value["low"], value["high"])


def _parse_pick(value: Any) -> Pick | None:
    return None if value is None else Pick(value["panel"], value["row"], value["low"], value["high"])


@functools.cache
def _component() -> Callable[..., Any]:
    return make_component("timeseries")
