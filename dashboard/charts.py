"""Charts without an iteration axis: functions from a table to an Altair chart."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.style import (
    ATTACK,
    CHART_HEIGHT,
    CLAMP,
    NEUTRAL,
    POINT_LEGEND,
    RELEASE,
    SKIP,
    UPDATE,
    themed,
    tooltips,
)
from dashboard.words import action_name, outcome_name

# Name of the outcome of a candidate -> colour and shape.
OUTCOMES = {
    outcome_name("accepted"): (UPDATE, "circle"),
    outcome_name("efficiency"): (SKIP, "cross"),
    outcome_name("complexity"): (CLAMP, "square"),
    outcome_name("quality"): (ATTACK, "triangle-up"),
    outcome_name("finite"): (NEUTRAL, "diamond"),
    outcome_name("baseline"): (RELEASE, "triangle-down"),
}
# Position of a rate -> colour and shape. A rate without a band or with too few batches is not compared.
BAND_POSITIONS = {
    "inside": (RELEASE, "circle"),
    "outside": (SKIP, "cross"),
    "not compared": (NEUTRAL, "diamond"),
}


def rate_vs_band(table: pa.Table, name: str) -> alt.LayerChart:
    """Return a chart of the rate of each run and the band of its policy.

    Args:
        table: Rows of the saved question `bands`.
        name: `update` or `accept`.

    """
    table = table.filter(pc.is_valid(table[f"{name}_rate"]))
    base = alt.Chart(table).transform_calculate(
        position=(
            f"!isValid(datum.{name}_in_band) ? 'not compared' : datum.{name}_in_band ? 'inside' : 'outside'"
        )
    )
    y = alt.Y("run_id:N", title=None, sort=None, axis=alt.Axis(labelLimit=170))
    low = alt.X(f"{name}_low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%"))
    band = base.mark_bar(height=12, opacity=0.3, color=RELEASE).encode(y=y, x=low, x2=f"{name}_high:Q")
    values = {None if value is None else bool(value) for value in table.column(f"{name}_in_band").to_pylist()}
    positions = [
        position
        for position, value in zip(BAND_POSITIONS, (True, False, None), strict=True)
        if value in values
    ]
    formats = {f"{name}_rate": ".1%", f"{name}_low": ".0%", f"{name}_high": ".0%"}
    dot = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y,
        x=f"{name}_rate:Q",
        tooltip=tooltips(run_id="", policy="", **formats),
        **_colour_and_shape("position", positions, BAND_POSITIONS),
    )
    return themed(band + dot, alt.Step(24))


def margin_histogram(table: pa.Table) -> alt.LayerChart:
    """Return a histogram of loss minus threshold. Bars right of zero are updates."""
    verdict_scale = alt.Scale(domain=["update", "skip"], range=[UPDATE, SKIP])
    bars = (
        alt.Chart(table)
        .mark_rect(opacity=0.85)
        .transform_calculate(
            end="datum.margin + datum.width", verdict="datum.updated ? 'update' : 'skip'", floor="0"
        )
        .encode(
            x=alt.X("margin:Q", title="loss - threshold, nats/token"),
            x2="end:Q",
            y=alt.Y("batches:Q", title="batches"),
            y2="floor:Q",
            color=alt.Color("verdict:N", legend=POINT_LEGEND, scale=verdict_scale),
            tooltip=tooltips(verdict="", batches=",d", lowest=".4f", highest=".4f"),
        )
    )
    zero = alt.Chart(pa.table({"x": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 2]).encode(x="x:Q")
    return themed(bars + zero, CHART_HEIGHT)


def threshold_curve(table: pa.Table) -> alt.Chart:
    """Return a chart of the update rate that other fixed thresholds give on the logged losses."""
    line = (
        alt.Chart(table)
        .mark_line(point=True, color=UPDATE)
        .encode(
            x=alt.X(
                "threshold:Q",
                title="fixed threshold, nats/token",
                scale=alt.Scale(zero=False, nice=False),
            ),
            y=alt.Y(
                "update_rate:Q",
                title="update rate",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%"),
            ),
            tooltip=tooltips(threshold=".4f", update_rate=".1%", compute_saved=".1%", batches=",d"),
        )
    )
    return themed(line, CHART_HEIGHT)


def funnel(table: pa.Table) -> alt.LayerChart:
    """Return a chart of the number of candidates that pass each gate of the memory."""
    first = max(1, *table.column("candidates").to_pylist())
    label = f"format(datum.candidates, ',d') + '  (' + format(datum.candidates / {first}, '.0%') + ')'"
    base = (
        alt.Chart(table)
        .transform_calculate(label=label)
        .encode(y=alt.Y("gate:N", sort=alt.SortField("step"), title=None))
    )
    # The wider domain leaves space for the label of the longest bar.
    x = alt.X("candidates:Q", title=None, axis=None, scale=alt.Scale(domain=[0, first * 1.35]))
    bars = base.mark_bar(color=UPDATE, height=20).encode(x=x, tooltip=tooltips(gate="", candidates=",d"))
    labels = base.mark_text(align="left", dx=6, color=NEUTRAL, fontSize=12).encode(x=x, text="label:N")
    return themed(bars + labels, alt.Step(34))


def oq_trend(table: pa.Table) -> alt.LayerChart:
    """Return a chart of the OQ of each candidate, relative to the first accepted one."""
    table = _name_outcomes(table)
    base = (
        alt.Chart(table)
        .transform_filter("isValid(datum.gain)")
        .encode(
            x=_iteration_axis(),
            y=alt.Y("gain:Q", title="OQ relative to the first accepted", axis=alt.Axis(format="+.2~%")),
        )
    )
    accepted = base.transform_filter("datum.accepted").mark_line(
        interpolate="step-after", color=UPDATE, strokeWidth=1.25
    )
    formats = {"gain": "+.2%", "loss": ".4f", "drift": ".4f", "oq_improvement": "+.2%", "oq_limit": ".2%"}
    points = base.mark_point(filled=True, size=60, opacity=0.85).encode(
        **_outcome_encodings(table), tooltip=tooltips(iter=",d", outcome="", **formats)
    )
    selectable = points.add_params(alt.selection_point(name="candidate", fields=["decision_id"]))
    return themed(accepted + selectable, 300)


def pareto(table: pa.Table) -> alt.LayerChart:
    """Return a chart of validation loss against drift, with the Pareto frontier as a line."""
    table = _name_outcomes(table)
    base = (
        alt.Chart(table)
        .transform_filter("isValid(datum.drift) && isValid(datum.loss)")
        .encode(
            x=alt.X("drift:Q", title="relative drift from the anchor", axis=alt.Axis(format="~g")),
            y=_loss_axis("loss:Q"),
        )
    )
    frontier = (
        base.transform_filter("datum.frontier")
        .mark_line(interpolate="step-after", color=RELEASE, strokeDash=[5, 3])
        .encode(order="drift:Q")
    )
    points = base.mark_point(filled=True, size=60, opacity=0.85).encode(
        **_outcome_encodings(table), tooltip=tooltips(iter=",d", outcome="", loss=".4f", drift=".4f")
    )
    return themed(frontier + points, 280)


def bullet(observed: float, threshold: float) -> alt.LayerChart:
    """Return a chart of the distance between the observed value and its threshold."""
    padding = abs(observed - threshold) * 0.6 or abs(threshold) * 0.1 or 1.0
    domain = [min(observed, threshold) - padding, max(observed, threshold) + padding]
    scale = alt.Scale(domain=domain, nice=False)
    limit = _labelled_value("threshold", threshold, scale)
    value = _labelled_value("observed", observed, scale)
    distance = alt.Chart(pa.table({"value": [threshold], "to": [observed]})).mark_rule(
        strokeWidth=5, opacity=0.35, color=UPDATE
    )
    return themed(
        alt.layer(
            distance.encode(x=alt.X("value:Q", scale=scale), x2="to:Q"),
            limit.mark_tick(size=34, thickness=4, color=SKIP),
            value.mark_point(filled=True, size=220, opacity=1, color=UPDATE),
            limit.mark_text(dy=-26, fontSize=12, color=SKIP).encode(text="label:N"),
            value.mark_text(dy=24, fontSize=12, color=UPDATE).encode(text="label:N"),
        ),
        120,
    )


def waterfall(table: pa.Table) -> alt.LayerChart:
    """Return a chart of one knob of one batch, before the chain and after each plugin."""
    names = pa.array([_change_name(who) for who in table["who"].to_pylist()], pa.string())
    table = table.set_column(table.column_names.index("who"), "who", names)
    rows = table.select(["before", "after"]).to_pylist()
    values = [value for row in rows for value in row.values() if value is not None]
    low, high = min(values), max(values)
    padding = (high - low) * 0.25 or abs(high) * 0.1 or 1.0
    scale = alt.Scale(domain=[low - padding * 0.2, high + padding], nice=False)
    base = (
        alt.Chart(table)
        .transform_calculate(
            label=(
                "format(datum.after, '.4~g') + (datum.after == datum.before || datum.before == 0 ? ''"
                " : '  (' + format(datum.after / datum.before - 1, '+.1%') + ')')"
            ),
            # The label is next to the bar, not on it.
            label_x="isValid(datum.before) ? max(datum.before, datum.after) : datum.after",
            change=(
                "datum.after > datum.before ? 'raised' : datum.after < datum.before ? 'lowered' : 'initial'"
            ),
        )
        .encode(y=alt.Y("who:N", sort=alt.SortField("step"), title=None, axis=alt.Axis(labelLimit=260)))
    )
    colours = alt.Scale(domain=["initial", "raised", "lowered"], range=[NEUTRAL, UPDATE, SKIP])
    change = alt.Color("change:N", legend=POINT_LEGEND, scale=colours)
    tooltip = tooltips(who="", before=".6g", after=".6g")
    bar = base.mark_bar(height=12, opacity=0.6).encode(
        x=alt.X("before:Q", title=None, scale=scale, axis=alt.Axis(format="~g")),
        x2="after:Q",
        color=change,
        tooltip=tooltip,
    )
    point = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("after:Q", scale=scale), color=change, tooltip=tooltip
    )
    text = base.mark_text(align="left", dx=10, color=NEUTRAL, fontSize=12).encode(
        x=alt.X("label_x:Q", scale=scale), text="label:N"
    )
    return themed(bar + point + text, alt.Step(34))


def _change_name(who: str) -> str:
    """Return plugin and plain action of a change, or the text before the chain."""
    plugin, _, action = who.rpartition(" ")
    return f"{plugin}: {action_name(action)}" if action.isupper() else who


def _iteration_axis() -> alt.X:
    scale = alt.Scale(nice=False, zero=False)
    return alt.X("iter:Q", title="iteration", scale=scale, axis=alt.Axis(format=",d"))


def _loss_axis(field: str) -> alt.Y:
    return alt.Y(field, title="validation loss, nats/token", scale=alt.Scale(zero=False))


def _name_outcomes(table: pa.Table) -> pa.Table:
    names = pa.array([outcome_name(outcome) for outcome in table["outcome"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("outcome"), "outcome", names)


def _outcome_encodings(table: pa.Table) -> dict[str, Any]:
    outcomes = set(table.column("outcome").to_pylist())
    return _colour_and_shape("outcome", [name for name in OUTCOMES if name in outcomes], OUTCOMES)


def _colour_and_shape(field: str, names: list[str], styles: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return colour and shape encodings of a field, with one legend. *styles*: name -> (colour, shape)."""
    colours, shapes = zip(*(styles[name] for name in names), strict=True)
    colour_scale = alt.Scale(domain=names, range=list(colours))
    shape_scale = alt.Scale(domain=names, range=list(shapes))
    return {
        "color": alt.Color(f"{field}:N", legend=POINT_LEGEND, scale=colour_scale),
        "shape": alt.Shape(f"{field}:N", legend=POINT_LEGEND, scale=shape_scale),
    }


def _labelled_value(name: str, value: float, scale: alt.Scale) -> alt.Chart:
    table = pa.table({"value": [value], "label": [f"{name} {value:.5g}"]})
    x = alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(format="~g"))
    return alt.Chart(table).encode(x=x, tooltip=tooltips(label=""))
