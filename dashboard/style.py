"""What all charts and pages share in looks: colours with one meaning each, room, number formats.

Colours have a contrast of at least 3:1 on white and on Streamlit's dark; shape, dash or a word always stands beside one.
"""

from __future__ import annotations

from typing import Any

import altair as alt

UPDATE, SKIP, CLAMP, ATTACK, RELEASE, NEUTRAL = (
    "#1C83CC",
    "#D55E00",
    "#B37700",
    "#A8558A",
    "#009E73",
    "#767676",
)
HEIGHT = 240
# Streamlit leaves 6rem above each page and 16 px beside each label: a third of a laptop's screen shows nothing.
CSS = """<style>
[data-testid=stMainBlockContainer] { padding-top: 3.25rem; padding-bottom: 4rem; padding-left: 2.5rem; padding-right: 2.5rem; max-width: 100rem; }
[data-testid=stMain] h1 { padding-bottom: .25rem; }
[class*=st-key-sql-] textarea { font-family: "Source Code Pro", monospace; font-size: .85rem; }
@media (max-width: 640px) { [data-testid=stMainBlockContainer] { padding-left: 1rem; padding-right: 1rem; } }
</style>"""
TOP = alt.Legend(
    orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, symbolSize=200, labelLimit=260
)
POINTS = alt.Legend(orient="top", title=None, labelLimit=260, columns=3)


def tooltips(**formats: str) -> list[alt.Tooltip]:
    """Tooltips: field -> number format; empty for words."""
    return [
        alt.Tooltip(
            f"{name}:{'Q' if form else 'N'}",
            title=name.replace("_", " "),
            **({"format": form} if form else {}),
        )
        for name, form in formats.items()
    ]


def themed(chart: Any, height: Any = HEIGHT) -> Any:
    """The chart in its height, without the room that Streamlit's theme leaves around labels."""
    return (
        chart.properties(height=height, padding={"left": 0, "right": 10, "top": 2, "bottom": 2})
        .configure_axis(labelPadding=6, titlePadding=8, tickCount=6)
        .configure_axisY(tickCount=5)
        .configure_legend(padding=0, offset=10, columnPadding=18, labelPadding=6)
    )
