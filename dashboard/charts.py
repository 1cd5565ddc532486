"""Charts: pure functions from a table to an Altair chart. Colours read on light and dark, and never stand alone."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

UPDATE, SKIP, CLAMP, ATTACK, RELEASE, NEUTRAL = (
    "#0072B2",
    "#D55E00",
    "#B37700",
    "#A8558A",
    "#009E73",
    "#767676",
)
HEIGHT = 220
PLUGINS = {
    "gate": UPDATE,
    "limiter": CLAMP,
    "compressor": ATTACK,
    "memory": RELEASE,
    "anchor": NEUTRAL,
    "finite": SKIP,
    "watchdog": SKIP,
}
OUTCOMES = {
    "accepted": UPDATE,
    "efficiency": SKIP,
    "complexity": CLAMP,
    "quality": ATTACK,
    "finite": NEUTRAL,
    "baseline": RELEASE,
}


def _x(field: str = "iter") -> alt.X:
    return alt.X(f"{field}:Q", title="iteration", scale=alt.Scale(nice=False, zero=False))


def loss_lane(bins: pa.Table, marks: pa.Table) -> alt.LayerChart:
    """Loss per bin (median and range), the gate's threshold, and what happened once."""
    base = alt.Chart(bins).encode(x=_x())
    band = base.mark_area(opacity=0.25, color=NEUTRAL).encode(
        y=alt.Y("loss_low:Q", title="loss, nats/token", scale=alt.Scale(zero=False)), y2="loss_high:Q"
    )
    line = base.mark_line(color=UPDATE, clip=True).encode(
        y="loss:Q", tooltip=["iter", "loss_low", "loss", "loss_high", "threshold", "update_rate", "batches"]
    )
    limit = base.mark_line(color=SKIP, strokeDash=[5, 3], interpolate="step-after").encode(y="threshold:Q")
    rules = alt.Chart(marks).mark_rule(opacity=0.7).encode(
        x="iter:Q", color=alt.Color("what:N", title=None, scale=alt.Scale(
            domain=["accepted checkpoint", "anchor moved", "rollback", "resumed"], range=[UPDATE, NEUTRAL, SKIP, ATTACK])),
        strokeDash=alt.StrokeDash("what:N", title=None), tooltip=["iter", "what", "which"],
    )  # fmt: skip
    return (band + rules + limit + line).properties(height=HEIGHT + 40)


def plugin_lane(table: pa.Table) -> alt.Chart:
    """Which plugin acted when, and how."""
    return (
        alt.Chart(table).mark_rect().encode(
            x=alt.X("iter:Q", title="iteration", scale=alt.Scale(nice=False, zero=False)), x2="end:Q",
            y=alt.Y("lane:N", title=None, axis=alt.Axis(labelLimit=220)), opacity=alt.Opacity("decisions:Q", title="decisions", scale=alt.Scale(range=[0.25, 1])),
            color=alt.Color("plugin:N", title=None, legend=None, scale=alt.Scale(domain=list(PLUGINS), range=list(PLUGINS.values()))), tooltip=["iter", "plugin", "action", "decisions"],
        ).transform_calculate(end="datum.iter + datum.width", lane="datum.plugin + ' ' + datum.action")
    ).properties(height=alt.Step(20))  # fmt: skip


def lines(
    table: pa.Table, fields: dict[str, tuple[str, list[int]]], title: str, *, log: bool = False
) -> alt.LayerChart:
    """Several columns on one axis; name -> (colour, dash)."""
    names = list(fields)
    folded = (
        alt.Chart(table)
        .transform_fold(names, as_=["what", "value"])
        .transform_filter("isValid(datum.value) && isFinite(datum.value)")
    )
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    line = folded.mark_line(interpolate="step-after").encode(
        x=_x(), y=alt.Y("value:Q", title=title, scale=scale),
        color=alt.Color("what:N", title=None, scale=alt.Scale(domain=names, range=[fields[n][0] for n in names])),
        strokeDash=alt.StrokeDash("what:N", title=None, scale=alt.Scale(domain=names, range=[fields[n][1] for n in names])),
        tooltip=["iter:Q", "what:N", alt.Tooltip("value:Q", format=".5g")],
    )  # fmt: skip
    return alt.layer(line).properties(height=HEIGHT)


def rate_band(table: pa.Table, low: float | None, high: float | None) -> alt.LayerChart:
    """Update rate with its 95 % interval (Wilson), beside the promised band."""
    base = alt.Chart(table).encode(x=_x())
    spread = base.mark_area(opacity=0.3, color=UPDATE, interpolate="step-after").encode(
        y=alt.Y("low:Q", title="update rate", scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    line = base.mark_line(color=UPDATE, interpolate="step-after", point=True).encode(
        y="rate:Q", tooltip=["iter", "to_iter", "rate", "low", "high", "n"]
    )
    layers = [spread, line]
    if low is not None and high is not None:
        promise = alt.Chart(pa.table({"low": [low], "high": [high]}))
        layers = [promise.mark_rect(opacity=0.12, color=RELEASE).encode(y="low:Q", y2="high:Q"), *layers]
    return alt.layer(*layers).properties(height=HEIGHT)


def margin_histogram(table: pa.Table) -> alt.LayerChart:
    """Loss minus threshold; right of zero updates."""
    bars = alt.Chart(table).mark_rect(opacity=0.8).encode(
        x=alt.X("margin:Q", title="loss - threshold, nats/token"), x2="end:Q", y=alt.Y("batches:Q", title="batches"), y2="floor:Q",
        color=alt.Color("verdict:N", title=None, scale=alt.Scale(domain=["update", "skip"], range=[UPDATE, SKIP])),
        tooltip=["margin", "verdict:N", "batches"],
    ).transform_calculate(end="datum.margin + datum.width", verdict="datum.updated ? 'update' : 'skip'", floor="0")  # fmt: skip
    zero = alt.Chart(pa.table({"x": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 2]).encode(x="x:Q")
    return (bars + zero).properties(height=HEIGHT)


def threshold_curve(table: pa.Table) -> alt.Chart:
    """Update rate that other fixed thresholds would have given on the logged losses."""
    return alt.Chart(table).mark_line(point=True, color=UPDATE).encode(
        x=alt.X("threshold:Q", title="fixed threshold, nats/token"), y=alt.Y("update_rate:Q", title="update rate", scale=alt.Scale(domain=[0, 1])),
        tooltip=["threshold", "update_rate", "batches"],
    ).properties(height=HEIGHT)  # fmt: skip


def funnel(table: pa.Table) -> alt.LayerChart:
    """How many candidates pass each gate."""
    base = alt.Chart(table).encode(y=alt.Y("gate:N", sort=alt.SortField("step"), title=None))
    bars = base.mark_bar(color=UPDATE).encode(
        x=alt.X("candidates:Q", title="candidates"), tooltip=["gate", "candidates"]
    )
    return (
        bars + base.mark_text(align="left", dx=4, color=NEUTRAL).encode(x="candidates:Q", text="candidates:Q")
    ).properties(height=180)


def oq_trend(table: pa.Table) -> alt.Chart:
    """OQ relative to the first accepted candidate; shape and colour say what became of each."""
    names = list(OUTCOMES)
    return alt.Chart(table).mark_point(filled=True, size=60).encode(
        x=_x(), y=alt.Y("gain:Q", title="OQ against the first accepted", axis=alt.Axis(format="+%")),
        color=alt.Color("outcome:N", title="outcome", scale=alt.Scale(domain=names, range=[OUTCOMES[n] for n in names])),
        shape=alt.Shape("outcome:N", title="outcome", scale=alt.Scale(domain=names, range=["circle", "cross", "square", "triangle-up", "diamond", "triangle-down"])),
        tooltip=["iter", "loss", "drift", "gain", "oq_improvement", "oq_limit", "outcome"],
    ).properties(height=HEIGHT + 40)  # fmt: skip


def pareto(table: pa.Table) -> alt.Chart:
    """Validation loss against drift."""
    names = list(OUTCOMES)
    return alt.Chart(table).mark_point(filled=True, size=60).encode(
        x=alt.X("drift:Q", title="relative drift from the anchor"), y=alt.Y("loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
        color=alt.Color("outcome:N", title="outcome", scale=alt.Scale(domain=names, range=[OUTCOMES[n] for n in names])),
        shape=alt.Shape("outcome:N", title="outcome"), tooltip=["iter", "loss", "drift", "outcome"],
    ).properties(height=HEIGHT)  # fmt: skip


def overlay(table: pa.Table) -> alt.Chart:
    """Validation losses of two runs."""
    return alt.Chart(table).mark_line(point=True).encode(
        x=_x(), y=alt.Y("val_loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
        color=alt.Color("run_id:N", title=None, scale=alt.Scale(range=[UPDATE, SKIP])), strokeDash="run_id:N",
        tooltip=["run_id", "iter", "val_loss"],
    ).properties(height=HEIGHT + 40)  # fmt: skip
