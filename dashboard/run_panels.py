"""Panels of the Run and Control pages, from the tables of page queries."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from dashboard.components.timeseries import Line, LinePanel, Row, RowPanel
from dashboard.style import ATTACK, CLAMP, NEUTRAL, RELEASE, SKIP, UPDATE
from dashboard.words import action_name, reason_name

PLUGIN_COLOURS = {
    "finite": SKIP,
    "gate": UPDATE,
    "spike": CLAMP,
    "compressor": ATTACK,
    "limiter": CLAMP,
    "watchdog": SKIP,
    "eq": RELEASE,
    "saturation": CLAMP,
    "anchor": NEUTRAL,
    "memory": RELEASE,
}
# Kind of event in timeline_events.sql -> colour.
EVENT_COLOURS = {
    "accepted": RELEASE,
    "anchor moved": NEUTRAL,
    "rollback": SKIP,
    "data skipped": SKIP,
    "person": ATTACK,
    "resumed": ATTACK,
    "adapter enabled": UPDATE,
    "revert failed": SKIP,
    "ranks differ": SKIP,
    "not finite": CLAMP,
}
OVERSHOOT_COLOURS = (CLAMP, ATTACK, UPDATE, SKIP)
DASHED = (5, 3)
SHADOW_SUFFIX = " shadow"


def loss_panel(bins: pa.Table) -> LinePanel:
    """Return the panel of loss, its range and the gate threshold, from `run_bins`."""
    xs = _values(bins, "iter")
    lines = [
        Line(
            "loss",
            xs,
            _values(bins, "loss"),
            low=_values(bins, "loss_low"),
            high=_values(bins, "loss_high"),
            smooth=True,
        )
    ]
    threshold = _values(bins, "threshold")
    if any(value is not None for value in threshold):
        lines.append(Line("gate threshold", xs, threshold, colour=SKIP, dash=DASHED, step=True))
    return LinePanel("loss", "Loss", lines, unit="nats/token", height=220)


def rate_panel(bins: pa.Table, height: int = 110) -> LinePanel:
    """Return the panel of the scheduled learning rate, and of the one that the updates used."""
    xs = _values(bins, "iter")
    lines = [
        Line("scheduled", xs, _values(bins, "scheduled_rate"), colour=NEUTRAL, dash=DASHED, step=True),
        Line(
            "used by updates",
            xs,
            _values(bins, "learning_rate"),
            step=True,
            low=_values(bins, "learning_rate_low"),
            high=_values(bins, "learning_rate_high"),
        ),
    ]
    return LinePanel("rate", "Learning rate", lines, height=height)


def lambda_panel(bins: pa.Table) -> LinePanel:
    """Return the panel of lambda before the chain, and of the one that the updates used."""
    xs = _values(bins, "iter")
    lines = [
        Line("before the chain", xs, _values(bins, "given_lambda"), colour=NEUTRAL, dash=DASHED, step=True),
        Line("used by updates", xs, _values(bins, "lambda"), colour=ATTACK, step=True),
    ]
    return LinePanel("lambda", "Lambda", lines, height=90)


def drift_panel(bins: pa.Table) -> LinePanel:
    """Return the panel of the drift from the anchor."""
    return LinePanel("drift", "Drift from the anchor", _median_and_highest(bins, "drift"), height=110)


def norm_panel(bins: pa.Table) -> LinePanel:
    """Return the panel of the gradient norm before clipping."""
    lines = _median_and_highest(bins, "grad_norm")
    return LinePanel("norm", "Gradient norm before clipping", lines, height=110, log=True)


def _median_and_highest(bins: pa.Table, name: str) -> list[Line]:
    xs = _values(bins, "iter")
    lines = [Line("median of the bin", xs, _values(bins, name), smooth=True)]
    highest = _values(bins, f"{name}_high")
    if highest != _values(bins, name):
        lines.insert(0, Line("highest of the bin", xs, highest, colour=SKIP))
    return lines


def served_panel(bins: pa.Table) -> LinePanel | None:
    """Return the mean losses of served batches, from `served_bins`, or None if no batch was served."""
    if not bins.num_rows:
        return None
    xs = _values(bins, "iter")
    lines = [
        Line("all", xs, _values(bins, "served_loss"), colour=NEUTRAL, dash=DASHED),
        Line("new text", xs, _values(bins, "served_new_loss"), colour=SKIP),
        Line("familiar text", xs, _values(bins, "served_familiar_loss")),
    ]
    return LinePanel("served", "Mean loss of served batches so far", lines, unit="nats/token", height=120)


def event_panel(events: pa.Table) -> RowPanel | None:
    """Return one row per kind of event, from `timeline_events`, or None without events."""
    rows = []
    for kind, colour in EVENT_COLOURS.items():
        chosen = [row for row in events.to_pylist() if row["what"] == kind]
        if chosen:
            xs = [row["iter"] for row in chosen]
            rows.append(Row(kind, kind, xs, counts=[row["times"] for row in chosen], colour=colour))
    return RowPanel("events", "Events", rows) if rows else None


def plugin_panel(actions: pa.Table, title: str = "Plugin actions") -> RowPanel | None:
    """Return one row per plugin and action in the order of the chain, or None without decisions.

    Decisions in shadow changed nothing. They have rows of their own, with hollow marks.

    Args:
        actions: Table of `plugin_bins`.
        title: Title of the panel.

    """
    groups: dict[DecisionKind, list[dict[str, Any]]] = {}
    for row in actions.to_pylist():
        groups.setdefault(DecisionKind(row["plugin"], row["action"], row["shadow"]), []).append(row)
    known = list(PLUGIN_COLOURS)
    order = sorted(groups, key=lambda kind: (known.index(kind[0]) if kind[0] in known else len(known), kind))
    rows = [
        Row(
            kind.key,
            kind.label,
            [row["iter"] for row in groups[kind]],
            width=groups[kind][0]["width"],
            counts=[row["decisions"] for row in groups[kind]],
            full=groups[kind][0]["width"],
            colour=PLUGIN_COLOURS.get(kind.plugin, NEUTRAL),
            hollow=kind.shadow,
        )
        for kind in order
    ]
    unit = "the height of a mark is its share of the iterations"
    if any(kind.shadow for kind in groups):
        unit += "; a hollow mark is in shadow and changed nothing"
    return RowPanel("plugins", title, rows, unit=unit) if rows else None


class DecisionKind(NamedTuple):
    """Decisions of one plugin with one action, either in shadow or not."""

    plugin: str
    action: str
    shadow: bool

    @property
    def key(self) -> str:
        """Name of the row in the chart and in the URL, such as "gate SKIP" or "gate SKIP shadow"."""
        suffix = SHADOW_SUFFIX if self.shadow else ""
        return f"{self.plugin} {self.action}{suffix}"

    @property
    def label(self) -> str:
        """Plain name, such as "gate: skip" or "gate: skip (in shadow)"."""
        suffix = " (in shadow)" if self.shadow else ""
        return f"{self.plugin}: {action_name(self.action)}{suffix}"


def parse_kind(key: str) -> DecisionKind:
    """Return the kind with the key *key*. An action has no lower-case letters, so the suffix is unique."""
    plugin, action = key.removesuffix(SHADOW_SUFFIX).rsplit(" ", 1)
    return DecisionKind(plugin, action, key.endswith(SHADOW_SUFFIX))


def overshoot_panel(overshoot: pa.Table) -> LinePanel | None:
    """Return how far values exceeded the caps of the limiter, from `overshoot`, or None without data."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in overshoot.to_pylist():
        groups.setdefault(row["reason_code"], []).append(row)
    lines = [
        Line(
            reason_name(reason),
            [row["iter"] for row in rows],
            [row["worst"] for row in rows],
            colour=OVERSHOOT_COLOURS[i % len(OVERSHOOT_COLOURS)],
            points=True,
        )
        for i, (reason, rows) in enumerate(groups.items())
    ]
    if not lines:
        return None
    return LinePanel(
        "overshoot", "Highest excess over the limiter's caps", lines, format="percent", height=110
    )


def _values(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table.column(name).to_pylist()
    return values
