"""Accessibility of the time-series component: contrast in both modes, focus, and keys for rows and cells."""

from __future__ import annotations

import pytest

from dashboard import style
from tests.dashboard.components.chart_tabs import open_chart
from tests.dashboard.test_browser_header import SHOWN_COLOURS, contrast
from tests.helpers.chromium import BROWSER_MARKS

pytestmark = BROWSER_MARKS
TEXTS = (".at", ".smooth", ".title", ".unit", ".name", ".value", ".rows button", "button.log")
MARKS = (style.UPDATE, style.SKIP, style.CLAMP, style.ATTACK, style.RELEASE, style.NEUTRAL)
BACKGROUND = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
# Colour of the most opaque pixel of a canvas.
TEXT_PIXEL = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let best = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > data[best + 3]) best = i;
  return [...data.slice(best, best + 4)];
}"""


def mix(pixel, background):
    """Return a pixel with transparency on a background as `rgb(r, g, b)`."""
    under = [float(part) for part in background[background.index("(") + 1 : -1].split(",")[:3]]
    share = pixel[3] / 255
    parts = [value * share + below * (1 - share) for value, below in zip(pixel[:3], under, strict=True)]
    return f"rgb({', '.join(map(str, parts))})"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_have_the_contrast_of_wcag_aa(chromium, address, scheme):
    """Texts, also on canvas and in hidden legends, have 4.5:1, and all colours of marks have 3:1."""
    context = chromium.new_context(viewport={"width": 1000, "height": 1000}, color_scheme=scheme)
    tab = open_chart(context, address)
    background = tab.evaluate(BACKGROUND)
    tab.locator(".head button", has_text="loss").first.click()
    tab.mouse.move(0, 0)
    for selector in TEXTS:
        colours = tab.locator(selector).evaluate_all(SHOWN_COLOURS, background)
        assert colours, selector
        assert min(contrast(colour, background) for colour in colours) >= 4.5, (selector, colours)
    axis = tab.locator(".plots > canvas").evaluate(TEXT_PIXEL)
    assert contrast(mix(axis, background), background) >= 4.5
    for colour in MARKS:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert contrast(f"rgb({red}, {green}, {blue})", background) >= 3, colour
    assert tab.failures == []
    context.close()


def test_keys_reach_every_row_and_show_the_focus(page):
    """Tab moves from the plot over legends and rows, and each has a ring. Enter picks the row."""
    page.locator(".plots").focus()
    page.keyboard.press("ArrowRight")
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const host = document.activeElement;
              const node = host?.shadowRoot?.activeElement;
              if (!node) return null;
              const style = getComputedStyle(node);
              return [node.textContent, style.outlineStyle, parseFloat(style.outlineWidth)];
            }"""
        )
        if focused is None:
            break
        seen.append(focused)
        if focused[0] == "rare":
            break
    assert [name for name, *_ in seen][-1] == "rare"
    assert all(kind == "solid" and width >= 2 for _, kind, width in seen)
    page.keyboard.press("Enter")
    page.get_by_text("Pick(panel='events', row='rare', low=0, high=4999)").wait_for()


def test_key_picks_the_bin_of_the_crosshair(page):
    """A cell is picked by moving the crosshair to it, so its decisions are listed without a mouse."""
    page.locator(".plots").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("Pick(panel='', row='', low=10, high=19)").wait_for()
