"""Strip of metrics with small curves, drawn by a light script."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.components.scripts import make_component

SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Metric:
    """Content of one metric.

    Args:
        label: Name of the metric.
        value: Value, as text.
        note: Short text below the value.
        series: Course of the value. None or one value shows no curve.
        format: Format of the lowest and highest value of the series.
        warn: True shows the note in red.
        help: Explanation that appears on hover.

    """

    label: str
    value: str
    note: str | None = None
    series: Sequence[float] | None = None
    format: str = ".3g"
    warn: bool = False
    help: str = ""


def metric_strip(metrics: Sequence[Metric], *, key: str) -> None:
    """Show metrics in one strip, and in two columns on a phone."""
    _component()(key=key, data={"metrics": [_message(metric) for metric in metrics]})


def _message(metric: Metric) -> dict[str, Any]:
    data: dict[str, Any] = {
        "label": metric.label,
        "value": metric.value,
        "note": metric.note,
        "warn": metric.warn,
        "help": metric.help,
    }
    if metric.series:
        data["series"] = [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in metric.series]
        data["low"] = format(min(metric.series), metric.format)
        data["high"] = format(max(metric.series), metric.format)
    return data


@functools.cache
def _component() -> Callable[..., Any]:
    return make_component("metric_strip")
