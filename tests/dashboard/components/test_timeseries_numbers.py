"""Numbers of the chart's script, for generated ranges in a browser."""

from __future__ import annotations

import random

import pytest

from dashboard.components.scripts import read_module
from tests.helpers.chromium import BROWSER_MARKS

pytestmark = BROWSER_MARKS
CASES = 2_000


@pytest.fixture(scope="module")
def ticks(chromium):
    """Function that returns the ticks of a list of ranges: low, high, number of ticks."""
    tab = chromium.new_page()
    tab.set_content("<p>empty</p>")
    source = read_module("timeseries").decode() + "export { linearTicks, logTicks };"
    script = """async ([source, name, cases]) => {
        const file = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
        return cases.map((values) => file[name](...values));
    }"""
    yield lambda name, cases: tab.evaluate(script, [source, name, cases])
    tab.close()


def test_axis_has_at_least_two_ticks_inside_its_range(ticks):
    """One tick shows no scale. The ticks are equidistant, and few."""
    draw = random.Random(5)
    cases = []
    for _ in range(CASES):
        low = draw.uniform(-1, 1) * 10 ** draw.randint(-8, 8)
        cases.append(
            (low, low + 10 ** draw.uniform(-3, 3) * max(abs(low), 1e-9), draw.choice([2, 2.05, 3, 5]))
        )
    for (low, high, count), found in zip(cases, ticks("linearTicks", cases), strict=True):
        margin = (high - low) * 1e-6
        assert 2 <= len(found) <= 2 * count + 2, (low, high, count)
        assert low - margin <= found[0] < found[-1] <= high + margin
        steps = [after - before for before, after in zip(found, found[1:], strict=False)]
        assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def test_logarithmic_axis_has_at_least_two_ticks_inside_its_range(ticks):
    """Also a range without a power of ten has a scale."""
    draw = random.Random(6)
    cases = [
        (low, low * 10 ** draw.uniform(0.01, 9)) for low in (10 ** draw.uniform(-9, 6) for _ in range(CASES))
    ]
    for (low, high), found in zip(cases, ticks("logTicks", cases), strict=True):
        assert len(found) >= 2, (low, high)
        assert low * 0.999 <= found[0] < found[-1] <= high * 1.001
