"""HTML report of chosen runs: one file without scripts and without links to other hosts."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from dashboard.components.timeseries import LINE_COLOURS, LINE_DASHES
from dashboard.tables import RATE_COLUMNS
from dashboard.words import column_heading
from ockham.formatting import format_cell

STYLE = (
    ":root{color-scheme:light dark}body{font:16px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #888;padding:.3em .6em;text-align:left}"
    "svg{max-width:100%;height:auto}svg text{fill:currentColor;font-size:13px}"
    "li{display:inline-block;margin-right:1.5em}li span{display:inline-block;width:1.6em;height:.8em}"
)
WIDTH, HEIGHT, MARGIN = 820, 300, 60
Curve = tuple[Sequence[float], Sequence[float]]


class ReportChart(NamedTuple):
    """A chart of the report: one line per run, or points if *points* is set.

    Attributes:
        title: Heading.
        x_title: Title of the horizontal axis.
        y_title: Title of the vertical axis.
        curves: Name -> x values and y values.
        points: True draws points.

    """

    title: str
    x_title: str
    y_title: str
    curves: Mapping[str, Curve]
    points: bool = False


def report_html(
    title: str,
    sentences: Sequence[str],
    charts: Sequence[ReportChart],
    tables: Sequence[tuple[str, pa.Table]],
) -> bytes:
    """Return the report. All text is escaped.

    Args:
        title: Title of the report.
        sentences: Paragraphs before the charts.
        charts: Charts. Those without values are left out.
        tables: Title and rows of each table.

    """
    parts = [f"<p>{html.escape(text)}</p>" for text in sentences]
    parts += [_chart(chart) for chart in charts if any(xs for xs, _ in chart.curves.values())]
    parts += [f"<h2>{html.escape(name)}</h2>{_table(table)}" for name, table in tables]
    heading = html.escape(title)
    head = f'<meta charset="utf-8"><title>{heading}</title><style>{STYLE}</style>'
    body = f"<h1>{heading}</h1>{''.join(parts)}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'.encode()


def _table(table: pa.Table) -> str:
    heads = "".join(f"<th>{html.escape(column_heading(name))}</th>" for name in table.column_names)
    lines = [
        "".join(f"<td>{html.escape(_text(name, value))}</td>" for name, value in row.items())
        for row in table.to_pylist()
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><tr>{heads}</tr>{body}</table>"


def _text(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1%}" if name in RATE_COLUMNS else f"{value:.5g}"
    return format_cell(value)


def _chart(chart: ReportChart) -> str:
    xs, ys = (
        [value for curve in chart.curves.values() for value in curve[side] if math.isfinite(value)]
        for side in (0, 1)
    )
    x, y = _scale(xs, MARGIN, WIDTH - 10), _scale(ys, HEIGHT - 40, 10)
    marks, legend = [], []
    for i, (name, curve) in enumerate(chart.curves.items()):
        colour = LINE_COLOURS[i % len(LINE_COLOURS)]
        dash = " ".join(map(str, LINE_DASHES[i // len(LINE_COLOURS) % len(LINE_DASHES)]))
        places = [(x(a), y(b)) for a, b in zip(*curve, strict=True) if math.isfinite(a) and math.isfinite(b)]
        marks.append(_points(places, colour) if chart.points else _line(places, colour, dash))
        legend.append(f'<li><span style="background:{colour}"></span> {html.escape(name)}</li>')
    axes = _axis_texts(chart, xs, ys)
    label = html.escape(f"{chart.title}: {chart.y_title} against {chart.x_title}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{axes}{"".join(marks)}</svg>'
    return f"<h2>{html.escape(chart.title)}</h2>{svg}<ul>{''.join(legend)}</ul>"


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    span = high - low or 1.0
    return lambda value: start + (end - start) * (value - low) / span


def _line(places: Sequence[tuple[float, float]], colour: str, dash: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    style = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.75"{style}/>'


def _points(places: Sequence[tuple[float, float]], colour: str) -> str:
    return "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in places)


def _axis_texts(chart: ReportChart, xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return the frame, the titles of the axes, and their lowest and highest value."""
    bottom, right = HEIGHT - 40, WIDTH - 10
    texts = [
        (MARGIN, bottom + 16, "start", f"{min(xs):,.4g}"),
        (right, bottom + 16, "end", f"{max(xs):,.4g}"),
        ((MARGIN + right) / 2, bottom + 34, "middle", chart.x_title),
        (MARGIN - 4, bottom, "end", f"{min(ys):.4g}"),
        (MARGIN - 4, 20, "end", f"{max(ys):.4g}"),
        (MARGIN + 4, 20, "start", chart.y_title),
    ]
    frame = f'<path d="M{MARGIN},10 V{bottom} H{right}" fill="none" stroke="#888"/>'
    return frame + "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
        for x, y, anchor, text in texts
    )
