"""Charts over iterations that Altair draws."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

from dashboard.style import CHART_HEIGHT, RELEASE, UPDATE, themed, tooltips


def rate_band(table: pa.Table, low: float | None, high: float | None) -> alt.LayerChart:
    """Return a chart of the update rate with its 95 % interval (Wilson) and the band of the policy."""
    base = alt.Chart(table).encode(x=_iteration_axis(), x2="to_iter:Q")
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


def _iteration_axis() -> alt.X:
    return alt.X(
        "iter:Q",
        title="iteration",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(format=",d", tickMinStep=1, labelFlush=True),
    )
