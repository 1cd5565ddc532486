"""Messages of the time-series component: what the browser gets."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from dashboard.components.timeseries import Axis, Line, LinePanel, Row, RowPanel, line_style, message


def expand(values):
    """Return the numbers that the browser draws."""
    if isinstance(values, list):
        return values
    return [values["start"] + i * values["step"] for i in range(values["count"])]


VALUES = st.lists(st.one_of(st.none(), st.floats()), max_size=30)


@given(VALUES)
def test_message_any_values_is_strict_json_with_six_digits(values):
    """Missing and not finite values are gaps. All others differ by less than a millionth of themselves."""
    line = Line("a", range(len(values)), values)
    data = message([LinePanel("p", "P", [line])], Axis(0, 10), description="d")
    sent = expand(json.loads(json.dumps(data, allow_nan=False))["panels"][0]["lines"][0]["y"])
    assert len(sent) == len(values)
    for value, received in zip(values, sent, strict=True):
        if value is None or not math.isfinite(value):
            assert received is None
        else:
            assert math.isclose(value, received, rel_tol=5.1e-6)


def test_message_equal_positions_are_sent_once():
    """Lines and rows of several panels share their x values."""
    xs = list(range(500))
    lines = [Line(name, list(xs), xs) for name in "ab"]
    panels = [LinePanel("p", "P", lines), RowPanel("r", "R", [Row("k", "K", xs, 1)])]
    data = message(panels, Axis(0, 499), description="d")
    assert data["xs"] == [{"start": 0, "step": 1, "count": 500}]
    assert [line["x"] for line in data["panels"][0]["lines"]] == [0, 0]
    assert data["panels"][1]["rows"][0]["x"] == 0


def test_message_of_500_bins_with_ten_columns_is_below_50_kb():
    """The first curve of a run needs one small message."""
    xs = [614 * i for i in range(500)]
    values = [2 + math.sin(i) / 7 for i in range(500)]
    lines = [Line(f"line {i}", xs, values, low=[v - 0.1 for v in values], high=values) for i in range(3)]
    panels = [LinePanel("p", "P", lines), LinePanel("q", "Q", [Line("rate", xs, values)])]
    data = message(panels, Axis(0, 306_800), description="d")
    assert len(json.dumps(data)) < 50_000


def test_message_equal_low_and_high_have_no_area():
    """An area without height would only add a legend entry."""
    line = Line("a", [0, 1], [1.0, 2.0], low=[1.0, 2.0], high=[1.0, 2.0])
    [panel] = message([LinePanel("p", "P", [line])], Axis(0, 1), description="d")["panels"]
    assert "low" not in panel["lines"][0]


def test_message_axis_without_length_is_widened():
    """A run with one batch has an axis that can be drawn."""
    axis = message([], Axis(7, 7), description="d")["axis"]
    assert (axis["low"], axis["high"]) == (7, 8)


def test_line_style_differs_for_24_lines():
    """Lines differ by colour or by dash pattern."""
    styles = [line_style(i) for i in range(24)]
    assert len({(style["colour"], tuple(style["dash"])) for style in styles}) == 24


def test_message_one_missing_bin_is_sent_as_it_is():
    """Only positions with equal distances are shortened, so every value is at its own position."""
    xs = [0, 10, 20, 40, 50]
    assert message([LinePanel("p", "P", [Line("a", xs, xs)])], Axis(0, 50), description="d")["xs"] == [xs]
