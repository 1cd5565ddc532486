"""Charts: pure functions from a table to an Altair chart. Colours read on light and dark, and never stand alone."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

UPDATE, SKIP, CLAMP, ATTACK, RELEASE, NEUTRAL = (
    "#1C83CC",
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


SHAPES = dict(
    zip(OUTCOMES, ("circle", "cross", "square", "triangle-up", "diamond", "triangle-down"), strict=True)
)
TOP = alt.Legend(orient="top", title=None)


def _x(field: str = "iter") -> alt.X:
    return alt.X(f"{field}:Q", title="iteration", scale=alt.Scale(nice=False, zero=False))


def loss_lane(bins: pa.Table, marks: pa.Table) -> alt.LayerChart:
    """Loss per bin (median and range), the gate's threshold, and what happened once; the brush is named `brush`."""
    base = alt.Chart(bins).encode(x=_x())
    band = base.mark_area(opacity=0.3, color=NEUTRAL).encode(
        y=alt.Y("loss_low:Q", title="loss, nats/token", scale=alt.Scale(zero=False)), y2="loss_high:Q"
    )
    line = base.mark_line(color=UPDATE, clip=True, strokeWidth=1.5).encode(
        y="loss:Q",
        tooltip=["iter", "loss_low", "loss", "loss_high", "threshold", "update_rate", "batches", "nonfinite"],
    )
    limit = base.mark_line(color=SKIP, strokeDash=[5, 3], interpolate="step-after").encode(y="threshold:Q")
    kinds = {"accepted checkpoint": (RELEASE, [1, 0]), "anchor moved": (NEUTRAL, [4, 3]), "rollback": (SKIP, [2, 2]),
             "resumed": (ATTACK, [6, 2]), "not finite": (CLAMP, [1, 2])}  # fmt: skip
    there = [kind for kind in kinds if kind in set(marks.column("what").to_pylist())]
    rules = alt.Chart(marks).mark_rule(strokeWidth=1.5).encode(
        x="iter:Q", tooltip=["iter", "what", "which"],
        color=alt.Color("what:N", legend=TOP, scale=alt.Scale(domain=there, range=[kinds[k][0] for k in there])),
        strokeDash=alt.StrokeDash("what:N", legend=TOP, scale=alt.Scale(domain=there, range=[kinds[k][1] for k in there])),
    )  # fmt: skip
    brush = alt.selection_interval(name="brush", encodings=["x"])
    return alt.layer(band, *([rules] if there else []), limit, line.add_params(brush)).properties(
        height=HEIGHT + 60
    )


def plugin_lane(table: pa.Table) -> alt.Chart:
    """Which plugin acted when, and how."""
    return (
        alt.Chart(table).mark_rect().encode(
            x=alt.X("iter:Q", title="iteration", scale=alt.Scale(nice=False, zero=False)), x2="end:Q",
            y=alt.Y("lane:N", title=None, axis=alt.Axis(labelLimit=220)), opacity=alt.Opacity("share:Q", title="share of batches", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.3, 1])),
            color=alt.Color("plugin:N", title=None, legend=None, scale=alt.Scale(domain=list(PLUGINS), range=list(PLUGINS.values()))), tooltip=["iter", "plugin", "action", "decisions", alt.Tooltip("share:Q", format=".0%", title="share of batches")],
        ).transform_calculate(share="min(1, datum.decisions / datum.width)", end="datum.iter + datum.width", lane="datum.plugin + ' ' + datum.action")
    ).properties(height=alt.Step(20))  # fmt: skip


def lines(
    table: pa.Table, fields: dict[str, tuple[str, list[int]]], title: str, *, log: bool = False
) -> alt.LayerChart:
    """Several columns on one axis; name -> (colour, dash). A column that equals one before it would only hide that."""
    names = [n for i, n in enumerate(fields) if not any(table[n].equals(table[m]) for m in list(fields)[:i])]
    folded = (
        alt.Chart(table)
        .transform_fold(names, as_=["what", "value"])
        .transform_filter("isValid(datum.value) && isFinite(datum.value)")
    )
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    line = folded.mark_line(interpolate="step-after").encode(
        x=_x(), y=alt.Y("value:Q", title=title, scale=scale),
        color=alt.Color("what:N", legend=TOP, scale=alt.Scale(domain=names, range=[fields[n][0] for n in names])),
        strokeDash=alt.StrokeDash("what:N", legend=TOP, scale=alt.Scale(domain=names, range=[fields[n][1] for n in names])),
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
        color=alt.Color("verdict:N", legend=TOP, scale=alt.Scale(domain=["update", "skip"], range=[UPDATE, SKIP])),
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
    names = [name for name in OUTCOMES if name in set(table.column("outcome").to_pylist())]
    return alt.Chart(table).mark_point(filled=True, size=60, opacity=0.9).encode(
        x=_x(), y=alt.Y("gain:Q", title="OQ against the first accepted", axis=alt.Axis(format="+%")),
        color=alt.Color("outcome:N", legend=TOP, scale=alt.Scale(domain=names, range=[OUTCOMES[n] for n in names])),
        shape=alt.Shape("outcome:N", legend=TOP, scale=alt.Scale(domain=names, range=[SHAPES[n] for n in names])),
        tooltip=["iter", "loss", "drift", "gain", "oq_improvement", "oq_limit", "outcome"],
    ).properties(height=HEIGHT + 40)  # fmt: skip


def pareto(table: pa.Table) -> alt.Chart:
    """Validation loss against drift."""
    names = [name for name in OUTCOMES if name in set(table.column("outcome").to_pylist())]
    return alt.Chart(table).mark_point(filled=True, size=60, opacity=0.9).encode(
        x=alt.X("drift:Q", title="relative drift from the anchor"), y=alt.Y("loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
        color=alt.Color("outcome:N", legend=TOP, scale=alt.Scale(domain=names, range=[OUTCOMES[n] for n in names])),
        shape=alt.Shape("outcome:N", legend=TOP, scale=alt.Scale(domain=names, range=[SHAPES[n] for n in names])), tooltip=["iter", "loss", "drift", "outcome"],
    ).properties(height=HEIGHT)  # fmt: skip


def overlay(table: pa.Table) -> alt.Chart:
    """Validation losses of two runs."""
    return alt.Chart(table).mark_line(point=True).encode(
        x=_x(), y=alt.Y("val_loss:Q", title="validation loss, nats/token", scale=alt.Scale(zero=False)),
        color=alt.Color("run_id:N", legend=TOP, scale=alt.Scale(range=[UPDATE, SKIP])), strokeDash=alt.StrokeDash("run_id:N", legend=TOP),
        tooltip=["run_id", "iter", "val_loss"],
    ).properties(height=HEIGHT + 40)  # fmt: skip


def bullet(observed: float, threshold: float) -> alt.LayerChart:
    """The observed value against its threshold."""
    table = pa.table({"observed": [observed], "threshold": [threshold]})
    base = alt.Chart(table)
    x = alt.X("observed:Q", title="observed (bar) and threshold (line)", scale=alt.Scale(zero=True))
    bar = base.mark_bar(size=18, color=UPDATE).encode(x=x, tooltip=["observed", "threshold"])
    return (bar + base.mark_tick(size=32, thickness=4, color=SKIP).encode(x="threshold:Q")).properties(
        height=80
    )


def waterfall(table: pa.Table) -> alt.LayerChart:
    """One knob of one batch through the chain: what each plugin made of it."""
    base = alt.Chart(table).encode(
        y=alt.Y("who:N", sort=alt.SortField("step"), title=None, axis=alt.Axis(labelLimit=260))
    )
    tip = ["who", alt.Tooltip("before:Q", format=".6g"), alt.Tooltip("after:Q", format=".6g")]
    bar = base.mark_bar(color=ATTACK, height=12).encode(
        x=alt.X("before:Q", title="value", scale=alt.Scale(zero=False)), x2="after:Q", tooltip=tip
    )
    point = base.mark_point(filled=True, size=70, color=UPDATE).encode(x="after:Q", tooltip=tip)
    text = base.mark_text(align="left", dx=8, color=NEUTRAL).encode(
        x="after:Q", text=alt.Text("after:Q", format=".4g")
    )
    return (bar + point + text).properties(height=alt.Step(32))


def overshoot(table: pa.Table) -> alt.Chart:
    """How far values were above the limiter's caps, by bin: the highest, and how often."""
    return alt.Chart(table).mark_circle(opacity=0.8, color=CLAMP).encode(
        x=_x(), y=alt.Y("worst:Q", title="above the cap, at worst", axis=alt.Axis(format="+%")),
        size=alt.Size("hits:Q", legend=None), shape=alt.Shape("reason_code:N", legend=TOP),
        tooltip=["iter", "reason_code", "hits", alt.Tooltip("typical:Q", format=".1%"), alt.Tooltip("worst:Q", format=".1%")],
    ).properties(height=HEIGHT)  # fmt: skip
