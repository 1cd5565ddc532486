"""Charts of the Run and Control pages: their queries and panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dashboard import run_panels
from dashboard.components.timeseries import LinePanel, RowPanel

Panels = list[LinePanel | RowPanel]
Tables = Mapping[str, pa.Table]
# Plugins of the Control page.
CONTROL_PLUGINS = ("compressor", "limiter")
# Page query -> name of its rows below the chart.
QUERY_LABELS = {
    "run_bins": "Curves",
    "timeline_events": "Events",
    "plugin_bins": "Actions",
    "served_bins": "Served batches",
    "overshoot": "Excess",
}


class ChartKind(NamedTuple):
    """A chart over the iterations of a run.

    Attributes:
        title: Heading of the page.
        queries: Page query -> description of its rows. All have the parameters run, low and high.
        make_panels: Creates the panels from the tables of the queries that did not fail. None is left out.
        description: Description of the chart for screen readers. The run ID is added.

    """

    title: str
    queries: Mapping[str, str]
    make_panels: Callable[[Tables], list[LinePanel | RowPanel | None]]
    description: str


def make_run_panels(tables: Tables) -> list[LinePanel | RowPanel | None]:
    """Return the panels of the Run page."""
    panels: list[LinePanel | RowPanel | None] = []
    if "run_bins" in tables:
        panels.append(run_panels.loss_panel(tables["run_bins"]))
    if "timeline_events" in tables:
        panels.append(run_panels.event_panel(tables["timeline_events"]))
    if "plugin_bins" in tables:
        panels.append(run_panels.plugin_panel(tables["plugin_bins"]))
    if "run_bins" in tables:
        panels += [run_panels.rate_panel(tables["run_bins"]), run_panels.lambda_panel(tables["run_bins"])]
    if "served_bins" in tables:
        panels.append(run_panels.served_panel(tables["served_bins"]))
    return panels


def make_control_panels(tables: Tables) -> list[LinePanel | RowPanel | None]:
    """Return the panels of the Control page."""
    panels: list[LinePanel | RowPanel | None] = []
    if "run_bins" in tables:
        panels.append(run_panels.rate_panel(tables["run_bins"], height=190))
    if "plugin_bins" in tables:
        actions = tables["plugin_bins"]
        chosen = actions.filter(pc.is_in(actions["plugin"], pa.array(CONTROL_PLUGINS)))
        panels.append(run_panels.plugin_panel(chosen, "Compressor and limiter"))
    if "run_bins" in tables:
        bins = tables["run_bins"]
        panels += [
            run_panels.lambda_panel(bins),
            run_panels.drift_panel(bins),
            run_panels.norm_panel(bins),
        ]
    if "overshoot" in tables:
        panels.append(run_panels.overshoot_panel(tables["overshoot"]))
    return panels


# Page with a chart of this kind, by the name of its file in screens/.
CHART_KINDS = {
    "run": ChartKind(
        "What happened in this run?",
        {
            "run_bins": "Loss, learning rate and lambda of each bin.",
            "timeline_events": "Single events.",
            "plugin_bins": "Decisions of each plugin and action.",
            "served_bins": "Mean losses of served batches so far.",
        },
        make_run_panels,
        "Loss, events, plugin actions, learning rate and lambda",
    ),
    "control": ChartKind(
        "What did the compressor and the limiter change?",
        {
            "run_bins": "Learning rate, lambda, drift and gradient norm of each bin.",
            "plugin_bins": "Decisions of each plugin and action.",
            "overshoot": "Excess over the caps of the limiter.",
        },
        make_control_panels,
        "Learning rate, compressor, limiter, drift and gradient norm",
    ),
}
