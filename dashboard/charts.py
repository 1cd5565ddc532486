"""Charts that stand alone: pure functions from a table to an Altair chart."""

from __future__ import annotations

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

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

OUTCOMES = {
    "accepted": (UPDATE, "circle"),
    "efficiency": (SKIP, "cross"),
    "complexity": (CLAMP, "square"),
    "quality": (ATTACK, "triangle-up"),
    "finite": (NEUTRAL, "diamond"),
    "baseline": (RELEASE, "triangle-down"),
}


def rate_vs_band(table: pa.Table, name: str) -> alt.LayerChart:
    """A rate of each run beside what its policy promises; `name` is update or accept."""
    table = table.filter(pc.is_valid(table[f"{name}_rate"]))
    base = alt.Chart(table).transform_calculate(
        where=f"!isValid(datum.{name}_in_band) ? 'not judged' : datum.{name}_in_band ? 'inside' : 'outside'"
    )
    y = alt.Y("run_id:N", title=None, sort=None, axis=alt.Axis(labelLimit=170))
    band = base.mark_bar(height=12, opacity=0.3, color=RELEASE).encode(
        y=y, x=alt.X(f"{name}_low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")), x2=f"{name}_high:Q"
    )  # fmt: skip
    where = {
        "inside": (RELEASE, "circle"),
        "outside": (SKIP, "cross"),
        "not judged": (NEUTRAL, "diamond"),  # nothing was promised, or the batches are too few
    }
    found = {None if v is None else bool(v) for v in table.column(f"{name}_in_band").to_pylist()}
    names = [n for n, v in zip(where, (True, False, None), strict=True) if v in found]
    colours, shapes = zip(*(where[n] for n in names), strict=True)
    dot = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y, x=f"{name}_rate:Q",
        color=alt.Color("where:N", legend=POINTS, scale=alt.Scale(domain=names, range=list(colours))),
        shape=alt.Shape("where:N", legend=POINTS, scale=alt.Scale(domain=names, range=list(shapes))),
        tooltip=tooltips(run_id="", policy="", **{f"{name}_rate": ".1%", f"{name}_low": ".0%", f"{name}_high": ".0%"}),
    )  # fmt: skip
    return themed(band + dot, alt.Step(24))


def margin_histogram(table: pa.Table) -> alt.LayerChart:
    """Loss minus threshold; right of zero updates."""
    bars = alt.Chart(table).mark_rect(opacity=0.85).encode(
        x=alt.X("margin:Q", title="loss - threshold, nats/token"), x2="end:Q", y=alt.Y("batches:Q", title="batches"), y2="floor:Q",
        color=alt.Color("verdict:N", legend=POINTS, scale=alt.Scale(domain=["update", "skip"], range=[UPDATE, SKIP])),
        tooltip=tooltips(verdict="", batches=",d", lowest=".4f", highest=".4f"),
    ).transform_calculate(end="datum.margin + datum.width", verdict="datum.updated ? 'update' : 'skip'", floor="0")  # fmt: skip
    zero = alt.Chart(pa.table({"x": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 2]).encode(x="x:Q")
    return themed(bars + zero, HEIGHT)


def threshold_curve(table: pa.Table) -> alt.Chart:
    """Update rate that other fixed thresholds would have given on the logged losses."""
    drawn = alt.Chart(table).mark_line(point=True, color=UPDATE).encode(
        x=alt.X("threshold:Q", title="fixed threshold, nats/token", scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y("update_rate:Q", title="update rate", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
        tooltip=tooltips(threshold=".4f", update_rate=".1%", compute_saved=".1%", batches=",d"),
    )  # fmt: skip
    return themed(drawn, HEIGHT)


def funnel(table: pa.Table) -> alt.LayerChart:
    """How many candidates pass each gate."""
    first = max(1, *table.column("candidates").to_pylist())
    base = (
        alt.Chart(table)
        .transform_calculate(
            said=f"format(datum.candidates, ',d') + '  (' + format(datum.candidates / {first}, '.0%') + ')'"
        )
        .encode(y=alt.Y("gate:N", sort=alt.SortField("step"), title=None))
    )
    # Room at the right for the number of the longest bar.
    x = alt.X("candidates:Q", title=None, axis=None, scale=alt.Scale(domain=[0, first * 1.35]))
    bars = base.mark_bar(color=UPDATE, height=20).encode(x=x, tooltip=tooltips(gate="", candidates=",d"))
    said = base.mark_text(align="left", dx=6, color=NEUTRAL, fontSize=12).encode(x=x, text="said:N")
    return themed(bars + said, alt.Step(34))


def _outcomes(table: pa.Table) -> dict[str, alt.Color | alt.Shape]:
    there = set(table.column("outcome").to_pylist())
    names = [name for name in OUTCOMES if name in there]
    colours, shapes = zip(*(OUTCOMES[name] for name in names), strict=True)
    return {
        "color": alt.Color("outcome:N", legend=POINTS, scale=alt.Scale(domain=names, range=list(colours))),
        "shape": alt.Shape("outcome:N", legend=POINTS, scale=alt.Scale(domain=names, range=list(shapes))),
    }


def oq_trend(table: pa.Table) -> alt.LayerChart:
    """OQ relative to the first accepted candidate: what became of each, and the step of those that were kept."""
    base = alt.Chart(table).transform_filter("isValid(datum.gain)").encode(
        x=alt.X("iter:Q", title="iteration", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(format=",d")),
        y=alt.Y("gain:Q", title="OQ against the first accepted", axis=alt.Axis(format="+.2~%")),
    )  # fmt: skip
    kept = base.transform_filter("datum.accepted").mark_line(
        interpolate="step-after", color=UPDATE, strokeWidth=1.25
    )
    points = base.mark_point(filled=True, size=60, opacity=0.85).encode(
        **_outcomes(table),
        tooltip=tooltips(iter=",d", outcome="", gain="+.2%", loss=".4f", drift=".4f", oq_improvement="+.2%", oq_limit=".2%"),
    )  # fmt: skip
    picked = points.add_params(alt.selection_point(name="candidate", fields=["decision_id"]))
    return themed(kept + picked, 300)


def pareto(table: pa.Table) -> alt.LayerChart:
    """Validation loss against drift; a line joins the candidates that no other beats in both."""
    base = alt.Chart(table).transform_filter("isValid(datum.drift) && isValid(datum.loss)").encode(
        x=alt.X("drift:Q", title="relative drift from the anchor", axis=alt.Axis(format="~g")),
        y=alt.Y("loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
    )  # fmt: skip
    front = (
        base.transform_filter("datum.frontier")
        .mark_line(interpolate="step-after", color=RELEASE, strokeDash=[5, 3])
        .encode(order="drift:Q")
    )
    points = base.mark_point(filled=True, size=60, opacity=0.85).encode(
        **_outcomes(table), tooltip=tooltips(iter=",d", outcome="", loss=".4f", drift=".4f")
    )
    return themed(front + points, 280)


def loss_comparison(table: pa.Table, names: list[str]) -> alt.Chart:
    """Validation losses of two runs, the first of `names` in blue."""
    drawn = alt.Chart(table).mark_line(point=True).encode(
        x=alt.X("iter:Q", title="iteration", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(format=",d")),
        y=alt.Y("val_loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
        color=alt.Color("run_id:N", legend=TOP, scale=alt.Scale(domain=names, range=[UPDATE, SKIP])),
        strokeDash=alt.StrokeDash("run_id:N", legend=TOP, scale=alt.Scale(domain=names, range=[[1, 0], [5, 3]])),
        tooltip=tooltips(run_id="", iter=",d", val_loss=".4f"),
    )  # fmt: skip
    return themed(drawn, 300)


def bullet(observed: float, threshold: float) -> alt.LayerChart:
    """How far the observed value lies from its threshold, each with its number."""
    room = abs(observed - threshold) * 0.6 or abs(threshold) * 0.1 or 1.0
    ends = [min(observed, threshold) - room, max(observed, threshold) + room]
    x = alt.Scale(domain=ends, nice=False)

    def at(what: str, value: float) -> alt.Chart:
        text = f"{what} {value:.5g}"
        return alt.Chart(pa.table({"value": [value], "said": [text]})).encode(
            x=alt.X("value:Q", title=None, scale=x, axis=alt.Axis(format="~g")), tooltip=tooltips(said="")
        )

    between = alt.Chart(pa.table({"value": [threshold], "to": [observed]})).mark_rule(
        strokeWidth=5, opacity=0.35, color=UPDATE
    )
    limit, value = at("threshold", threshold), at("observed", observed)
    return themed(
        alt.layer(
            between.encode(x=alt.X("value:Q", scale=x), x2="to:Q"),
            limit.mark_tick(size=34, thickness=4, color=SKIP),
            value.mark_point(filled=True, size=220, opacity=1, color=UPDATE),
            limit.mark_text(dy=-26, fontSize=12, color=SKIP).encode(text="said:N"),
            value.mark_text(dy=24, fontSize=12, color=UPDATE).encode(text="said:N"),
        ),
        120,
    )


def waterfall(table: pa.Table) -> alt.LayerChart:
    """One knob of one batch through the chain: what each plugin made of it."""
    values = [
        v for row in table.select(["before", "after"]).to_pylist() for v in row.values() if v is not None
    ]
    low, high = min(values), max(values)
    room = (high - low) * 0.25 or abs(high) * 0.1 or 1.0
    x = alt.Scale(domain=[low - room * 0.2, high + room], nice=False)
    base = alt.Chart(table).transform_calculate(
        said="format(datum.after, '.4~g') + (datum.after == datum.before || datum.before == 0 ? '' : '  (' + format(datum.after / datum.before - 1, '+.1%') + ')')",
        right="isValid(datum.before) ? max(datum.before, datum.after) : datum.after",  # behind the bar, not on it
        way="datum.after > datum.before ? 'raised' : datum.after < datum.before ? 'lowered' : 'given'",
    ).encode(y=alt.Y("who:N", sort=alt.SortField("step"), title=None, axis=alt.Axis(labelLimit=260)))  # fmt: skip
    way = alt.Color(
        "way:N",
        legend=POINTS,
        scale=alt.Scale(domain=["given", "raised", "lowered"], range=[NEUTRAL, UPDATE, SKIP]),
    )
    tip = tooltips(who="", before=".6g", after=".6g")
    bar = base.mark_bar(height=12, opacity=0.6).encode(
        x=alt.X("before:Q", title=None, scale=x, axis=alt.Axis(format="~g")),
        x2="after:Q",
        color=way,
        tooltip=tip,
    )
    point = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("after:Q", scale=x), color=way, tooltip=tip
    )
    text = base.mark_text(align="left", dx=10, color=NEUTRAL, fontSize=12).encode(
        x=alt.X("right:Q", scale=x), text="said:N"
    )
    return themed(bar + point + text, alt.Step(34))
