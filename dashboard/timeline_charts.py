"""Charts over iterations. Their axes are aligned, whatever the width of their labels is."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa

from dashboard.style import (
    ATTACK,
    CHART_HEIGHT,
    CLAMP,
    LINE_LEGEND,
    NEUTRAL,
    POINT_LEGEND,
    RELEASE,
    SKIP,
    UPDATE,
    themed,
    tooltips,
)

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
# Kind of event in timeline_events.sql -> colour and dash pattern.
EVENT_STYLES = {
    "accepted": (RELEASE, [1, 0]),
    "anchor moved": (NEUTRAL, [4, 3]),
    "rollback": (SKIP, [2, 2]),
    "data skipped": (SKIP, [4, 4]),
    "resumed": (ATTACK, [6, 2]),
    "adapter enabled": (UPDATE, [8, 3]),
    "revert failed": (UPDATE, [2, 3]),
    "ranks differ": (SKIP, [8, 2]),
    "person": (ATTACK, [1, 0]),
    "not finite": (CLAMP, [1, 2]),
}
# Space for the labels of every chart, so that an iteration is at the same position in all of them.
LABEL_PIXELS = 118
Range = tuple[int, int]


def loss_chart(bins: pa.Table, events: pa.Table, limits: Range) -> alt.LayerChart:
    """Return a chart of loss (median and range), gate threshold and single events.

    The name of its interval selection is `brush`.
    """
    kinds = set(events.column("what").to_pylist())
    kinds_shown = [kind for kind in EVENT_STYLES if kind in kinds]
    has_threshold = any(value is not None for value in bins.column("threshold").to_pylist())
    styles = {"loss": (UPDATE, [1, 0])}
    if has_threshold:
        styles["threshold"] = (SKIP, [5, 3])
    encodings = _shared_legend({**styles, **{kind: EVENT_STYLES[kind] for kind in kinds_shown}})
    base = alt.Chart(bins).encode(x=_x_axis(limits, titled=False))
    band = base.mark_area(opacity=0.28, color=NEUTRAL).encode(y=_y_axis("loss_low:Q"), y2="loss_high:Q")
    losses = {"loss_low": ".4f", "loss": ".4f", "loss_high": ".4f", "threshold": ".4f"}
    tooltip = tooltips(iter=",d", **losses, update_rate=".1%", batches=",d", nonfinite=",d")
    line = (
        _with_kind(base, "loss")
        .mark_line(clip=True, strokeWidth=1.75)
        .encode(y="loss:Q", tooltip=tooltip, **encodings)
    )
    layers = [band, line.add_params(alt.selection_interval(name="brush", encodings=["x"]))]
    if has_threshold:
        limit = _with_kind(base, "threshold").mark_line(interpolate="step-after", strokeWidth=1.5)
        layers.append(limit.encode(y="threshold:Q", **encodings))
    if kinds_shown:
        rules = alt.Chart(events).mark_rule(strokeWidth=1.25, opacity=0.65)
        # Below the lines, because a long run has many events.
        layers.insert(
            0,
            rules.encode(
                x=_x_axis(limits, titled=False), tooltip=tooltips(iter=",d", what="", which=""), **encodings
            ),
        )
    return themed(alt.layer(*layers), 320)


def plugin_chart(table: pa.Table, limits: Range) -> alt.Chart:
    """Return a chart of the actions of each plugin, in the order of the chain.

    The name of its point selection is `cell`.
    """
    pairs = {(row["plugin"], row["action"]) for row in table.select(["plugin", "action"]).to_pylist()}
    known = list(PLUGIN_COLOURS)
    # A cell without a colour would not be drawn.
    others = sorted({plugin for plugin, _ in pairs} - set(known))
    names = [*known, *others]
    order = sorted(pairs, key=lambda pair: (names.index(pair[0]), pair))
    axis = alt.Axis(
        minExtent=LABEL_PIXELS,
        maxExtent=LABEL_PIXELS,
        labelLimit=LABEL_PIXELS - 4,
        ticks=False,
        grid=False,
    )
    colours = alt.Scale(domain=names, range=[*PLUGIN_COLOURS.values(), *([NEUTRAL] * len(others))])
    cells = (
        alt.Chart(table)
        .mark_rect()
        .transform_calculate(
            share="min(1, datum.decisions / datum.width)",
            end="datum.iter + datum.width",
            pair="datum.plugin + ' ' + datum.action",
        )
        .encode(
            x=_x_axis(limits, titled=False),
            x2="end:Q",
            y=alt.Y("pair:N", title=None, sort=[f"{plugin} {action}" for plugin, action in order], axis=axis),
            opacity=alt.Opacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.25, 1])),
            color=alt.Color("plugin:N", legend=None, scale=colours),
            tooltip=tooltips(iter=",d", plugin="", action="", decisions=",d", share=".0%"),
        )
        .add_params(alt.selection_point(name="cell", fields=["iter", "width", "plugin", "action"]))
    )
    return themed(cells, alt.Step(22))


def line_chart(
    table: pa.Table,
    fields: dict[str, tuple[str, str, list[int]]],
    limits: Range | None = None,
    *,
    band: tuple[str, str] | None = None,
    log: bool = False,
    titled: bool = True,
    height: int = 150,
) -> alt.LayerChart:
    """Return a chart of several columns on one axis. Columns identical to an earlier one are omitted.

    Args:
        table: Bins.
        fields: Column -> (name, colour, dash pattern).
        limits: First and last iteration of the axis. None uses the range of the data.
        band: Columns with the lowest and highest value of each bin, drawn as a grey area.
        log: Use a logarithmic axis.
        titled: Show the title of the iteration axis.
        height: Height in pixels.

    """
    columns = list(fields)
    distinct = [
        name
        for i, name in enumerate(columns)
        if not any(table[name].equals(table[earlier]) for earlier in columns[:i])
    ]
    encodings = _shared_legend({fields[name][0]: fields[name][1:] for name in distinct})
    what = "".join(f"datum.column == '{name}' ? '{fields[name][0]}' : " for name in distinct) + "''"
    condition = "isValid(datum.value) && isFinite(datum.value)" + (" && datum.value > 0" if log else "")
    y = _y_axis("value:Q", type="log") if log else _y_axis("value:Q")
    line = (
        alt.Chart(table)
        .transform_fold(distinct, as_=["column", "value"])
        .transform_filter(condition)
        .transform_calculate(what=what)
        .mark_line(interpolate="step-after", strokeWidth=1.5, clip=True)
        .encode(
            x=_x_axis(limits, titled=titled),
            y=y,
            tooltip=tooltips(iter=",d", what="", value=".5g"),
            **encodings,
        )
    )
    layers = [line]
    if band is not None and not table[band[0]].equals(table[band[1]]):
        area = alt.Chart(table).mark_area(opacity=0.28, color=NEUTRAL, interpolate="step-after")
        x = _x_axis(limits, titled=titled)
        layers.insert(0, area.encode(x=x, y=_y_axis(f"{band[0]}:Q"), y2=f"{band[1]}:Q"))
    return themed(alt.layer(*layers), height)


def learning_rate_chart(table: pa.Table, limits: Range, *, height: int = 150) -> alt.LayerChart:
    """Return a chart of the scheduled learning rate, and of the learning rate after the chain."""
    fields = {
        "scheduled_rate": ("scheduled rate", NEUTRAL, [4, 2]),
        "learning_rate": ("learning rate", UPDATE, [1, 0]),
    }
    band = ("learning_rate_low", "learning_rate_high")
    return line_chart(table, fields, limits, band=band, titled=False, height=height)


def rate_band(table: pa.Table, low: float | None, high: float | None) -> alt.LayerChart:
    """Return a chart of the update rate with its 95 % interval (Wilson) and the band of the policy."""
    base = alt.Chart(table).encode(x=_x_axis(None), x2="to_iter:Q")
    axis = alt.Axis(format=".0%", minExtent=44)
    interval = base.mark_rect(opacity=0.28, color=UPDATE).encode(
        y=alt.Y("low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=axis), y2="high:Q"
    )
    line = base.mark_rule(color=UPDATE, strokeWidth=2.5).encode(
        y="rate:Q", tooltip=tooltips(iter=",d", to_iter=",d", rate=".1%", low=".1%", high=".1%", n=",d")
    )
    layers = [interval, line]
    if low is not None and high is not None:
        band = alt.Chart(pa.table({"low": [low], "high": [high]}))
        edge = band.mark_rule(color=RELEASE, strokeDash=[4, 3], strokeWidth=1.25)
        layers = [
            band.mark_rect(opacity=0.12, color=RELEASE).encode(y="low:Q", y2="high:Q"),
            *layers,
            edge.encode(y="low:Q"),
            edge.encode(y="high:Q"),
        ]
    return themed(alt.layer(*layers), CHART_HEIGHT)


def overshoot_chart(table: pa.Table, limits: Range) -> alt.Chart:
    """Return a chart of how far values exceeded the caps of the limiter, by bin and reason."""
    # Reason codes are long, so one column fits on a phone.
    legend = POINT_LEGEND.copy()
    legend.columns = 1
    axis = alt.Axis(format="+%", minExtent=LABEL_PIXELS, maxExtent=LABEL_PIXELS)
    colours = alt.Scale(range=[CLAMP, ATTACK, UPDATE, SKIP])
    points = (
        alt.Chart(table)
        .mark_point(filled=True, opacity=0.75)
        .encode(
            x=_x_axis(limits),
            y=_y_axis("worst:Q").axis(axis),
            size=alt.Size("hits:Q", legend=None, scale=alt.Scale(range=[20, 220])),
            color=alt.Color("reason_code:N", legend=legend, scale=colours),
            shape=alt.Shape("reason_code:N", legend=legend),
            tooltip=tooltips(iter=",d", reason_code="", hits=",d", typical=".1%", worst=".1%"),
        )
    )
    return themed(points, 200)


def _x_axis(limits: Range | None, *, titled: bool = True) -> alt.X:
    domain = {} if limits is None else {"domain": list(limits)}
    return alt.X(
        "iter:Q",
        title="iteration" if titled else None,
        scale=alt.Scale(nice=False, zero=False, **domain),
        axis=alt.Axis(format=",d", tickMinStep=1, labelFlush=True),
    )


def _y_axis(field: str, **scale: Any) -> alt.Y:
    axis = alt.Axis(minExtent=LABEL_PIXELS, maxExtent=LABEL_PIXELS, format="~g")
    return alt.Y(field, title=None, scale=alt.Scale(**{"zero": False, **scale}), axis=axis)


def _with_kind(base: alt.Chart, name: str) -> alt.Chart:
    """Return *base* with the column `what`, which selects the legend entry."""
    return base.transform_calculate(what=f'"{name}"')


def _shared_legend(styles: dict[str, tuple[str, list[int]]]) -> dict[str, Any]:
    """Return colour and dash encodings with one legend. *styles*: name -> (colour, dash pattern)."""
    names = list(styles)
    # Two columns fit on a phone.
    legend = LINE_LEGEND.copy()
    legend.columns = 2
    colours = alt.Scale(domain=names, range=[colour for colour, _ in styles.values()])
    dashes = alt.Scale(domain=names, range=[dash for _, dash in styles.values()])
    return {
        "color": alt.Color("what:N", legend=legend, scale=colours),
        "strokeDash": alt.StrokeDash("what:N", legend=legend, scale=dashes),
    }
