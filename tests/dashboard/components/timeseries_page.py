"""Page with one time-series chart, for the browser tests of the component."""

from __future__ import annotations

import streamlit as st

from dashboard.components.timeseries import Axis, Line, LinePanel, Row, RowPanel, timeseries

POINTS = 500
WIDTH = 10
XS = list(range(0, POINTS * WIDTH, WIDTH))
# A parabola above zero, with one gap.
LOSSES = [None if i == 250 else 1 + (i / 100) ** 2 for i in range(POINTS)]
UNTRUSTED = "<img src=x onerror=alert(1)> **bold** $x$"


def record(name, value):
    """Keep the arguments of the callbacks in the order of their calls."""
    st.session_state.setdefault("calls", []).append((name, value))
    if name == "view":
        st.session_state["page-view"] = value


def main():
    """Show the page."""
    st.title("Chart")
    end = st.number_input("End", 0, POINTS * WIDTH, POINTS * WIDTH - 1)
    whole = st.button("Reset")
    view = None if whole else st.session_state.get("page-view")
    low, high = view or (0, end)
    # As on the Run page, a zoomed message has no values outside of the range.
    shown = [i for i, x in enumerate(XS) if low <= x <= min(high, end)]
    xs = [XS[i] for i in shown]
    selection = timeseries(
        [
            LinePanel(
                "loss",
                "Loss",
                [
                    Line("loss", xs, [LOSSES[i] for i in shown], smooth=True),
                    Line(UNTRUSTED, xs, [3.0 for _ in shown], colour="#D55E00", step=True),
                ],
                unit="nats/token",
            ),
            RowPanel(
                "events",
                "Events",
                [
                    Row("rare", "rare", [1_000, 4_000], colour="#009E73"),
                    Row("quiet", "quiet", [2_000], width=500, colour="#A8558A", hollow=True),
                ],
            ),
            LinePanel("rate", "Rate", [Line("rate", xs, [i / POINTS for i in shown])], format="percent"),
        ],
        Axis(0, end, width=WIDTH),
        key="chart",
        description="Loss of a test run.",
        view=view,
        on_view=lambda view: record("view", view),
        on_pick=lambda pick: record("pick", pick),
    )
    st.text(f"view {selection.view}")
    st.text(f"calls {st.session_state.get('calls')}")


if __name__ == "__main__":
    main()
