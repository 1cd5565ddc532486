"""Time-series component in a browser: crosshair, zoom, history, legends, smoothing, touch and keys."""

from __future__ import annotations

import re

import pytest

from tests.dashboard.components.chart_tabs import open_chart, wait_until_idle
from tests.dashboard.components.timeseries_page import LOSSES, UNTRUSTED, WIDTH, XS
from tests.helpers.chromium import BROWSER_MARKS

pytestmark = BROWSER_MARKS
LAST = XS[-1] + WIDTH - 1


def plot_box(tab):
    """Return left, right, top and bottom of the area with the curves."""
    plots = tab.locator(".plots")
    box = plots.bounding_box()
    return (
        box["x"] + float(plots.get_attribute("data-left")),
        box["x"] + box["width"] - 10,
        box["y"],
        box["y"] + box["height"],
    )


def screen_x(tab, iteration, low=0, high=LAST):
    left, right, _, _ = plot_box(tab)
    return left + (right - left) * (iteration - low) / (high - low)


def read_range(tab):
    """Return the visible range from the value of the slider, with the crosshair outside of the chart."""
    plots = tab.locator(".plots")
    return float(plots.get_attribute("aria-valuemin")), float(plots.get_attribute("aria-valuemax"))


def legend(tab, name):
    return tab.locator(".head button", has_text=re.compile(f"^{re.escape(name)}"))


def wait_for_view(tab, pattern):
    tab.get_by_text(re.compile(rf"^view {pattern}")).wait_for()


def drag(tab, start, end, **options):
    y = plot_box(tab)[2] + 120
    tab.mouse.move(start, y)
    for key in options:
        tab.keyboard.down(key)
    tab.mouse.down()
    tab.mouse.move(end, y, steps=6)
    tab.mouse.up()
    for key in options:
        tab.keyboard.up(key)


def test_crosshair_everywhere_shows_values_of_all_panels(page):
    """At 64 positions, each legend shows the value of the nearest point, also over another panel."""
    left, right, top, bottom = plot_box(page)
    for i in range(64):
        x = left + (right - left) * (i + 0.5) / 64
        page.mouse.move(x, top + (bottom - top) * (0.2 if i % 2 else 0.9))
        nearest = round(LAST * (i + 0.5) / 64 / WIDTH)
        assert page.locator(".at").inner_text() == f"iteration {min(nearest, 499) * WIDTH:,}"
        value = LOSSES[min(nearest, 499)]
        shown = legend(page, "loss").locator(".value").inner_text()
        assert shown == "–" if value is None else float(shown) == pytest.approx(value, rel=1e-4)
        assert legend(page, "rate").locator(".value").inner_text() == f"{100 * min(nearest, 499) / 500:.1f}%"


def test_drag_zooms_and_back_returns_step_by_step(page):
    """Each zoom is one step, and the page gets whole numbers."""
    drag(page, screen_x(page, 1_000), screen_x(page, 3_000))
    first = read_range(page)
    assert first == pytest.approx((1_000, 3_000), abs=15)
    wait_for_view(page, r"\(\d{3,4}, \d{4}\)")
    drag(page, screen_x(page, 1_500, *first), screen_x(page, 2_000, *first))
    assert read_range(page) == pytest.approx((1_500, 2_000), abs=15)
    page.get_by_role("button", name="Back").click()
    assert read_range(page) == pytest.approx(first, abs=1)
    page.get_by_role("button", name="Back").click()
    assert read_range(page) == (0, LAST)
    assert page.get_by_role("button", name="Back").is_disabled()
    wait_for_view(page, "None")


def test_values_outside_of_the_sent_range_stay_visible(page):
    """A zoomed page sends the visible range only. Zooming out shows the rest before the page answers."""
    drag(page, screen_x(page, 1_000), screen_x(page, 3_000))
    wait_for_view(page, r"\(\d{3,4}, \d{4}\)")
    wait_until_idle(page)
    page.get_by_role("button", name="Show the whole range").click()
    for iteration in (500, 2_000, 4_000):
        page.mouse.move(screen_x(page, iteration), plot_box(page)[2] + 100)
        shown = legend(page, "loss").locator(".value").inner_text()
        assert float(shown) == pytest.approx(LOSSES[iteration // WIDTH], rel=0.02)


def test_wheel_over_chart_zooms_only_with_control_or_focus(page):
    """The page scrolls over a chart that was not clicked."""
    middle = screen_x(page, 2_000), plot_box(page)[2] + 100
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(200)
    assert read_range(page) == (0, LAST)
    page.mouse.move(*(screen_x(page, 2_000), plot_box(page)[2] + 100))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('.stBidiComponent') !== null")
    low, high = wait_for_change(page, (0, LAST))
    assert low < 2_000 < high
    assert (2_000 - low) / (high - low) == pytest.approx(2_000 / LAST, abs=0.02)


def wait_for_change(tab, previous):
    for _ in range(50):
        if read_range(tab) != previous:
            return read_range(tab)
        tab.wait_for_timeout(50)
    raise AssertionError(f"range is still {previous}")


def test_shift_drag_pans_and_is_one_step_of_history(page):
    """The visible range keeps its length."""
    drag(page, screen_x(page, 1_000), screen_x(page, 3_000))
    first = read_range(page)
    drag(page, screen_x(page, 2_500, *first), screen_x(page, 2_000, *first), Shift=True)
    second = read_range(page)
    assert second[1] - second[0] == pytest.approx(first[1] - first[0], abs=1)
    assert second[0] - first[0] == pytest.approx(500, abs=20)
    page.get_by_role("button", name="Back").click()
    assert read_range(page) == pytest.approx(first, abs=1)


def test_legend_hides_and_shows_a_line(page):
    """The axis then fits the other lines, and the state of the button is readable."""
    button = legend(page, "loss")
    before = curve_pixels(page, (28, 131, 204))
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert curve_pixels(page, (28, 131, 204)) == 0 < before
    button.click()
    assert curve_pixels(page, (28, 131, 204)) == before


def curve_pixels(tab, colour):
    """Return the number of pixels with a colour in the first panel."""
    return tab.locator(".panel canvas:not(.swatch)").first.evaluate(
        """(canvas, colour) => {
            const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let i = 0; i < data.length; i += 4)
                if (data[i + 3] > 200 && colour.every((c, k) => Math.abs(c - data[i + k]) < 12)) count++;
            return count;
        }""",
        list(colour),
    )


def test_hollow_mark_has_an_outline_only(page):
    """The left edge of the mark has its full colour, and the middle has none."""
    canvas = page.locator(".panel canvas:not(.swatch)").nth(1)
    offset = canvas.bounding_box()["x"]
    edge, middle = (round(screen_x(page, at) - offset) for at in (2_000, 2_250))
    alpha = """(canvas, [x, y, n]) => [...canvas.getContext("2d").getImageData(x, y, n, 1).data]
        .filter((_, i) => i % 4 === 3)"""
    assert max(canvas.evaluate(alpha, [edge - 2, 33, 5])) == 255
    assert max(canvas.evaluate(alpha, [middle - 2, 33, 5])) == 0


def test_log_switch_changes_the_curve(page):
    """It can be switched for each panel."""
    picture = page.locator(".panel canvas:not(.swatch)").first
    log = page.locator(".head button.log").first
    before = picture.evaluate("canvas => canvas.toDataURL()")
    log.click()
    assert log.get_attribute("aria-pressed") == "true"
    assert picture.evaluate("canvas => canvas.toDataURL()") != before


def test_smoothing_shows_the_corrected_moving_average(page):
    """The value at the crosshair is the exponential average, recomputed here."""
    page.get_by_label("Smoothing").fill("0.9")
    page.mouse.move(screen_x(page, 1_000), plot_box(page)[2] + 100)
    mean = total = 0.0
    for value in LOSSES[:101]:
        mean, total = 0.9 * mean + 0.1 * value, 0.9 * total + 0.1
    assert float(legend(page, "loss").locator(".value").inner_text()) == pytest.approx(mean / total, rel=1e-4)


def test_click_on_rare_mark_calls_page_with_its_position(page):
    """A mark that is narrower than the pointer can be clicked."""
    row = page.locator(".rows button", has_text="rare").bounding_box()
    page.mouse.click(screen_x(page, 4_000) + 3, row["y"] + row["height"] / 2)
    page.get_by_text("Pick(panel='events', row='rare', low=4000, high=4000)").wait_for()


def test_keys_move_crosshair_zoom_and_pick(page):
    """All that the mouse does can be done with keys."""
    page.locator(".plots").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "PageUp"):
        page.keyboard.press(key)
    assert page.locator(".at").inner_text() == "iteration 270"
    assert "loss 1.0729" in page.locator(".plots").get_attribute("aria-valuetext")
    page.keyboard.press("Enter")
    page.get_by_text("Pick(panel='', row='', low=270, high=279)").wait_for()
    page.keyboard.press("+")
    assert read_range(page)[1] < LAST
    page.keyboard.press("0")
    assert read_range(page) == (0, LAST)


def test_new_data_keep_zoom_legend_and_place_and_follow_the_end(page):
    """The same element is drawn again: an unzoomed chart follows the end, a zoomed one stays."""
    legend(page, "loss").click()
    page.locator(".root").evaluate("root => { root.dataset.mark = 'same' }")
    page.get_by_label("End").fill("2999")
    page.get_by_label("End").press("Enter")
    wait_for_change(page, (0, LAST))
    assert read_range(page) == (0, 2_999)
    drag(page, screen_x(page, 1_000, 0, 2_999), screen_x(page, 2_000, 0, 2_999))
    zoomed = read_range(page)
    wait_for_view(page, r"\(\d")
    page.get_by_label("End").fill("3999")
    page.get_by_label("End").press("Enter")
    page.wait_for_timeout(1_000)
    wait_until_idle(page)
    assert read_range(page) == pytest.approx(zoomed, abs=1)
    assert page.locator(".root").get_attribute("data-mark") == "same"
    assert legend(page, "loss").get_attribute("aria-pressed") == "false"


def test_names_of_lines_are_text(page):
    """Markup in a name is shown as it is."""
    assert legend(page, UNTRUSTED).locator(".name").inner_text() == UNTRUSTED
    assert page.locator(".root img").count() == 0


def test_swipe_on_a_phone_scrolls_and_does_not_zoom(chromium, address):
    """A tap shows the values at the finger."""
    phone = chromium.new_context(
        viewport={"width": 390, "height": 500}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    tab = open_chart(phone, address)
    box = tab.locator(".plots").bounding_box()
    session = phone.new_cdp_session(tab)
    x, y = box["x"] + 200, box["y"] + 60
    for kind, moved in (
        ("touchStart", 0),
        *(("touchMove", 20 * i) for i in range(1, 11)),
        ("touchEnd", None),
    ):
        points = [] if moved is None else [{"x": x, "y": y - moved}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.wait_for_timeout(600)
    assert tab.locator(".plots").bounding_box()["y"] < box["y"] - 50
    assert read_range(tab) == (0, LAST)
    tab.locator(".plots").tap(position={"x": 200, "y": 100})
    assert re.fullmatch(r"iteration [\d,]+", tab.locator(".at").inner_text())
    assert tab.locator(".plots .line").is_visible()
    assert tab.failures == []
    phone.close()
