"""Charts over iterations: lanes that stand below each other on one axis, whatever their labels."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa

from dashboard.style import (
    ATTACK,
    CLAMP,
    HEIGHT,
    NEUTRAL,
    POINTS,
    RELEASE,
    SKIP,
    TOP,
    UPDATE,
    themed,
    tooltips,
)

PLUGINS = {
    "finite": SKIP,
    "gate": UPDATE,
    "compressor": ATTACK,
    "limiter": CLAMP,
    "watchdog": SKIP,
    "eq": RELEASE,
    "saturation": CLAMP,
    "anchor": NEUTRAL,
    "memory": RELEASE,
}
MARKS = {
    "accepted": (RELEASE, [1, 0]),
    "anchor moved": (NEUTRAL, [4, 3]),
    "rollback": (SKIP, [2, 2]),
    "resumed": (ATTACK, [6, 2]),
    "adapter on": (UPDATE, [8, 3]),
    "adapter left a trace": (UPDATE, [2, 3]),
    "ranks differ": (SKIP, [8, 2]),
    "not finite": (CLAMP, [1, 2]),
}
LABELS = 118  # pixels that every lane keeps for its labels, so that an iteration stands at one place in all of them
Span = tuple[int, int]


def _x(span: Span | None, *, named: bool = True) -> alt.X:
    domain = {} if span is None else {"domain": list(span)}
    title = "iteration" if named else None
    return alt.X(
        "iter:Q",
        title=title,
        scale=alt.Scale(nice=False, zero=False, **domain),
        axis=alt.Axis(format=",d", tickMinStep=1, labelFlush=True),
    )


def _y(field: str, title: str | None = None, **scale: Any) -> alt.Y:
    axis = alt.Axis(minExtent=LABELS, maxExtent=LABELS, format="~g")
    return alt.Y(field, title=title, scale=alt.Scale(**{"zero": False, **scale}), axis=axis)


def _shared_legend(everything: dict[str, tuple[str, list[int]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of colour and dash that stand in one legend; name -> (colour, dash)."""
    names, colours, dashes = (
        list(everything),
        *(list(part) for part in zip(*everything.values(), strict=True)),
    )
    legend = TOP.copy()
    legend.columns = 2  # as many as fit on a phone, `anchor moved` among them
    return (
        {"legend": legend, "scale": alt.Scale(domain=names, range=colours)},
        {"legend": legend, "scale": alt.Scale(domain=names, range=dashes)},
    )


def loss_lane(bins: pa.Table, marks: pa.Table, span: Span) -> alt.LayerChart:
    """Loss per bin (median and range), the gate's threshold, and what happened once; the brush is named `brush`."""
    happened = set(marks.column("what").to_pylist())
    there = [kind for kind in MARKS if kind in happened]
    judged = any(v is not None for v in bins.column("threshold").to_pylist())
    series = {"loss": (UPDATE, [1, 0]), **({"threshold": (SKIP, [5, 3])} if judged else {})}
    colour, dash = _shared_legend({**series, **{kind: MARKS[kind] for kind in there}})

    named = {"color": alt.Color("what:N", **colour), "strokeDash": alt.StrokeDash("what:N", **dash)}

    def of(name: str) -> alt.Chart:
        return base.transform_calculate(what=f'"{name}"')

    base = alt.Chart(bins).encode(x=_x(span, named=False))
    band = base.mark_area(opacity=0.28, color=NEUTRAL).encode(y=_y("loss_low:Q"), y2="loss_high:Q")
    line = of("loss").mark_line(clip=True, strokeWidth=1.75).encode(
        y="loss:Q", **named,
        tooltip=tooltips(iter=",d", loss_low=".4f", loss=".4f", loss_high=".4f", threshold=".4f", update_rate=".1%", batches=",d", nonfinite=",d"),
    )  # fmt: skip
    layers = [band, line.add_params(alt.selection_interval(name="brush", encodings=["x"]))]
    if judged:
        limit = of("threshold").mark_line(interpolate="step-after", strokeWidth=1.5)
        layers.append(limit.encode(y="threshold:Q", **named))
    if there:
        rules = alt.Chart(marks).mark_rule(strokeWidth=1.25, opacity=0.65).encode(
            x=_x(span, named=False), tooltip=tooltips(iter=",d", what="", which=""), **named
        )  # fmt: skip
        layers.insert(0, rules)  # behind the curves: on a long run there are many
    return themed(alt.layer(*layers), 320)


def plugin_lane(table: pa.Table, span: Span) -> alt.Chart:
    """Which plugin acted when, and how, in the order of the chain; a click on a cell is named `cell`."""
    lanes = {(row["plugin"], row["action"]) for row in table.select(["plugin", "action"]).to_pylist()}
    known = list(PLUGINS)
    others = sorted(
        {plugin for plugin, _ in lanes} - set(known)
    )  # without a colour a cell is not drawn at all
    colours = [*PLUGINS.values(), *([NEUTRAL] * len(others))]
    order = sorted(lanes, key=lambda lane: (known.index(lane[0]) if lane[0] in known else len(known), lane))
    drawn = alt.Chart(table).mark_rect().encode(
        x=_x(span, named=False), x2="end:Q",
        y=alt.Y("lane:N", title=None, sort=[f"{plugin} {action}" for plugin, action in order], axis=alt.Axis(minExtent=LABELS, maxExtent=LABELS, labelLimit=LABELS - 4, ticks=False, grid=False)),
        opacity=alt.Opacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.25, 1])),
        color=alt.Color("plugin:N", legend=None, scale=alt.Scale(domain=[*known, *others], range=colours)),
        tooltip=tooltips(iter=",d", plugin="", action="", decisions=",d", share=".0%"),
    ).transform_calculate(
        share="min(1, datum.decisions / datum.width)", end="datum.iter + datum.width", lane="datum.plugin + ' ' + datum.action"
    ).add_params(alt.selection_point(name="cell", fields=["iter", "width", "plugin", "action"]))  # fmt: skip
    return themed(drawn, alt.Step(22))


def line_chart(
    table: pa.Table,
    fields: dict[str, tuple[str, str, list[int]]],
    span: Span | None = None,
    *,
    band: tuple[str, str] | None = None,
    log: bool = False,
    named: bool = True,
    height: int = 150,
) -> alt.LayerChart:
    """Several columns on one axis; column -> (name, colour, dash). One that equals one before it would only hide that.

    `band`: two columns, lowest and highest of each bin, drawn grey behind the lines.
    """
    columns = list(fields)
    shown = [n for i, n in enumerate(columns) if not any(table[n].equals(table[m]) for m in columns[:i])]
    colour, dash = _shared_legend({fields[n][0]: fields[n][1:] for n in shown})
    said = "".join(f"datum.column == '{n}' ? '{fields[n][0]}' : " for n in shown) + "''"
    line = alt.Chart(table).transform_fold(shown, as_=["column", "value"]).transform_filter(
        "isValid(datum.value) && isFinite(datum.value)" + (" && datum.value > 0" if log else "")
    ).transform_calculate(what=said).mark_line(interpolate="step-after", strokeWidth=1.5, clip=True).encode(
        x=_x(span, named=named), y=_y("value:Q", **({"type": "log"} if log else {})),
        color=alt.Color("what:N", **colour), strokeDash=alt.StrokeDash("what:N", **dash),
        tooltip=tooltips(iter=",d", what="", value=".5g"),
    )  # fmt: skip
    layers = [line]
    if band is not None and not table[band[0]].equals(table[band[1]]):
        spread = alt.Chart(table).mark_area(opacity=0.28, color=NEUTRAL, interpolate="step-after")
        layers.insert(0, spread.encode(x=_x(span, named=named), y=_y(f"{band[0]}:Q"), y2=f"{band[1]}:Q"))
    return themed(alt.layer(*layers), height)


def rate_band(table: pa.Table, low: float | None, high: float | None) -> alt.LayerChart:
    """Update rate with its 95 % interval (Wilson), beside the promised band."""
    base = alt.Chart(table).encode(x=_x(None), x2="to_iter:Q")
    axis = alt.Axis(format=".0%", minExtent=44)
    spread = base.mark_rect(opacity=0.28, color=UPDATE).encode(
        y=alt.Y("low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=axis), y2="high:Q"
    )
    line = base.mark_rule(color=UPDATE, strokeWidth=2.5).encode(
        y="rate:Q", tooltip=tooltips(iter=",d", to_iter=",d", rate=".1%", low=".1%", high=".1%", n=",d")
    )
    layers = [spread, line]
    if low is not None and high is not None:
        promise = alt.Chart(pa.table({"low": [low], "high": [high]}))
        edge = promise.mark_rule(color=RELEASE, strokeDash=[4, 3], strokeWidth=1.25)
        layers = [
            promise.mark_rect(opacity=0.12, color=RELEASE).encode(y="low:Q", y2="high:Q"),
            *layers,
            edge.encode(y="low:Q"),
            edge.encode(y="high:Q"),
        ]
    return themed(alt.layer(*layers), HEIGHT)


def overshoot_chart(table: pa.Table, span: Span) -> alt.Chart:
    """How far values were above the limiter's caps, by bin and reason: at worst, and how often."""
    one_below_another = POINTS.copy()
    one_below_another.columns = 1  # reason codes are long, phones narrow
    drawn = alt.Chart(table).mark_point(filled=True, opacity=0.75).encode(
        x=_x(span), y=_y("worst:Q").axis(alt.Axis(format="+%", minExtent=LABELS, maxExtent=LABELS)),
        size=alt.Size("hits:Q", legend=None, scale=alt.Scale(range=[20, 220])),
        color=alt.Color("reason_code:N", legend=one_below_another, scale=alt.Scale(range=[CLAMP, ATTACK, UPDATE, SKIP])),
        shape=alt.Shape("reason_code:N", legend=one_below_another),
        tooltip=tooltips(iter=",d", reason_code="", hits=",d", typical=".1%", worst=".1%"),
    )  # fmt: skip
    return themed(drawn, 200)
