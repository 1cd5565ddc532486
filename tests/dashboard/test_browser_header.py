"""Header and address in a browser: a changed log is red on every page, and one page is one history entry."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from playwright import sync_api

from dashboard.address import RUN_PAGES
from tests.helpers.chromium import BROWSER_MARKS, open_tab
from tests.helpers.dashboard_server import serve_dashboard
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = BROWSER_MARKS
TIMEOUT_MS = 60_000
OTHER_PAGES = ("", "odr", "sql")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("header")
    make_run(folder / "runs", "demo", batches=60)
    make_run(folder / "runs", "other", batches=40)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serve_dashboard(folder / "runs", folder) as address:
        yield address


@pytest.fixture
def page(chromium):
    with open_tab(chromium, TIMEOUT_MS) as tab:
        yield tab


def wait_until_idle(page):
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def open_from_menu(page, link, heading):
    page.locator(".st-key-menu").get_by_role("link", name=link, exact=True).click()
    page.get_by_role("heading", level=1, name=heading).wait_for()
    wait_until_idle(page)


def test_each_page_is_one_history_entry_and_back_restores_its_run(page, address):
    """Back from the third page is the second page, and menu, address and header name the same run."""
    page.goto(f"{address}/run?run=demo")
    page.get_by_role("heading", level=1, name="What happened in this run?").wait_for()
    wait_until_idle(page)
    entries = page.evaluate("history.length")
    open_from_menu(page, "Gate", "Is the update rate of the gate in its band?")
    open_from_menu(page, "Integrity", "Is this run intact?")
    assert page.evaluate("history.length") == entries + 2
    page.go_back()
    page.get_by_role("heading", level=1, name="Is the update rate").wait_for()
    page.wait_for_url("**/gate?run=demo")
    wait_until_idle(page)
    page.go_back()
    page.wait_for_url("**/run?run=demo")
    page.go_forward()
    page.get_by_role("heading", level=1, name="Is the update rate").wait_for()
    page.wait_for_url("**/gate?run=demo")


# Steps in the history, with milliseconds after each one. Most pages are still loaded at the next step.
STEPS = (
    (("back", 0), ("forward", 0)),
    (("back", 60), ("forward", 0)),
    (("back", 120), ("forward", 0)),
    (("back", 250), ("forward", 90), ("back", 0)),
    (("back", 100), ("forward", 100), ("forward", 0)),
)


def test_address_heading_and_menu_name_one_page_after_quick_steps_in_the_history(page, address):
    """The steps make no entry, so that the page of the last step is the one that the browser counts."""
    pages = [
        ("Run", "/run?", "What happened"),
        ("Gate", "/gate?", "Is the update"),
        ("Control", "/control?", "What did"),
    ]
    page.goto(f"{address}/run?run=demo")
    page.get_by_role("heading", level=1, name="What happened in this run?").wait_for()
    wait_until_idle(page)
    for name, _, heading in pages[1:]:
        open_from_menu(page, name, heading)
    entries = page.evaluate("history.length")
    at = 2
    for steps in STEPS:
        for step, pause in steps:
            page.evaluate(f"history.{step}()")
            page.wait_for_timeout(pause)
            at += 1 if step == "forward" else -1
        name, path, heading = pages[at]
        page.wait_for_url(f"**{path}run=demo")
        page.get_by_role("heading", level=1, name=heading).wait_for()
        wait_until_idle(page)
        assert path in page.url
        assert page.locator("h1").all_inner_texts()[0].startswith(heading)
        assert page.title() == f"{name} - demo - Ockham"
        assert page.evaluate("history.length") == entries


def test_bar_of_a_phone_covers_no_part_of_the_path(page, address):
    """The bar has the button that opens the menu."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/gate?run=demo")
    link = page.locator(".st-key-path").get_by_role("link", name="Runs")
    link.wait_for()
    wait_until_idle(page)
    bar = page.locator("[data-testid=stHeader]").bounding_box()
    assert link.bounding_box()["y"] >= bar["y"] + bar["height"]


def test_back_after_choosing_another_run_restores_the_run_everywhere(page, address):
    """The menu of runs, the path, the title and the address name the run of the address."""
    page.goto(f"{address}/gate?run=demo")
    page.locator(".st-key-path").get_by_role("link", name="demo").wait_for()
    wait_until_idle(page)
    menu = page.get_by_role("combobox", name="Run")
    menu.click()
    page.get_by_role("option", name="other").click()
    page.wait_for_url("**/gate?run=other")
    page.locator(".st-key-path").get_by_role("link", name="other").wait_for()
    page.wait_for_function("document.title === 'Gate - other - Ockham'")
    page.go_back()
    page.wait_for_url("**/gate?run=demo")
    page.locator(".st-key-path").get_by_role("link", name="demo").wait_for()
    page.wait_for_function("document.title === 'Gate - demo - Ockham'")
    sync_api.expect(menu).to_have_value("demo")


def test_removed_run_stays_not_found_on_other_pages(page, address, folder):
    """No other run is shown in its place, and links keep its name."""
    make_run(folder / "runs", "gone", batches=12)
    page.goto(f"{address}/run?run=gone")
    page.locator(".st-key-path").get_by_role("link", name="gone").wait_for()
    shutil.rmtree(folder / "runs" / "gone")
    page.locator(".st-key-menu").get_by_role("link", name="Gate", exact=True).click()
    page.wait_for_url("**/gate?run=gone")
    page.get_by_text("The run in this URL was not found.").wait_for()
    assert page.get_by_text("of the finite batches were updated").count() == 0
    page.locator(".st-key-menu").get_by_role("link", name="Control", exact=True).click()
    page.wait_for_url("**/control?run=gone")
    page.get_by_text("The run in this URL was not found.").wait_for()


def test_changed_digit_in_signed_log_is_red_on_every_page(page, address, folder):
    """The open page becomes red without a reload. So do all pages of the run, and the list of runs."""
    run = make_run(folder / "runs", "tampered", batches=60)
    page.goto(f"{address}/gate?run=tampered")
    page.get_by_role("heading", level=1).wait_for()
    facts = page.locator(".ockham-facts")
    sync_api.expect(facts).to_contain_text("log verified", timeout=TIMEOUT_MS)
    sequence = change_one_digit(run.folder)
    banner = page.locator(".ockham-broken")
    banner.wait_for()
    sync_api.expect(banner).to_contain_text(f"changed after it was signed, at event {sequence}")
    for name in RUN_PAGES:
        page.goto(f"{address}/{name}?run=tampered")
        banner.wait_for()
        sync_api.expect(banner).to_contain_text("The log of tampered changed after it was signed")
        assert banner.evaluate("box => getComputedStyle(box).backgroundColor") == "rgb(201, 42, 42)"
    for name in OTHER_PAGES:
        page.goto(f"{address}/{name}")
        banner.wait_for()
        sync_api.expect(banner).to_contain_text("The log of 1 run is not intact")
        page.get_by_text(f"tampered: changed after it was signed, at event {sequence}").wait_for()
    page.get_by_role("link", name="Show findings").click()
    page.wait_for_url("**/integrity?run=tampered")
    page.goto(f"{address}/gate?run=demo")
    sync_api.expect(facts).to_contain_text("log verified", timeout=TIMEOUT_MS)
    assert banner.count() == 0


# Colour of an element on a background, mixed by the opacity of the element and all its parents.
SHOWN_COLOURS = """(all, background) => all.map((element) => {
  const style = getComputedStyle(element);
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const [red, green, blue, alpha = 1] = numbers(element.closest('svg') ? style.fill : style.color);
  let opacity = alpha;
  for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
  const under = numbers(background);
  const mix = [red, green, blue].map((value, i) => value * opacity + under[i] * (1 - opacity));
  return `rgb(${mix.join(', ')})`;
})"""


def relative_luminance(colour):
    """Return the luminance of `rgb(r, g, b)` by WCAG 2.2."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    """Return the contrast of two colours by WCAG 2.2."""
    high, low = sorted((relative_luminance(first), relative_luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXTS = (
    "[data-testid=stMain] [data-testid=stCaptionContainer] p",
    ".ockham-facts .bad",
    ".ockham-facts .good b",
    ".ockham-term",
    "[data-testid=stVegaLiteChart] .role-axis-label text",
    "[data-testid=stVegaLiteChart] .role-legend-label text",
    "[data-testid=stVegaLiteChart] .mark-text.role-mark text",
    ".st-key-menu a span",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_small_text_has_the_contrast_of_wcag_aa(chromium, address, folder, scheme):
    """Captions, facts, labels of charts and menu have at least 4.5:1 on the background of the page."""
    if not (folder / "runs" / "faulty").exists():
        change_one_digit(make_run(folder / "runs", "faulty", batches=60).folder)
    context = chromium.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    seen = set()
    for name in ("gate?run=faulty", "checkpoints?run=faulty", "memory?run=demo"):
        page.goto(f"{address}/{name}")
        page.get_by_role("heading", level=1).wait_for()
        page.locator(".ockham-facts").wait_for()
        wait_until_idle(page)
        if "faulty" in name:
            page.locator(".ockham-broken").wait_for()
        if "checkpoints" not in name:
            page.locator("[data-testid=stVegaLiteChart] svg text").first.wait_for()
        background = page.evaluate(
            "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        for selector in TEXTS:
            colours = page.locator(selector).evaluate_all(SHOWN_COLOURS, background)
            for colour in set(colours):
                seen.add(selector)
                assert contrast(colour, background) >= 4.5, (name, selector, colour, background)
    context.close()
    assert seen == set(TEXTS)


def test_headings_have_an_order_without_gaps(page, address):
    """Each page has one h1, and no level is left out."""
    known = [f"{name}?run=demo" for name in (*RUN_PAGES, *OTHER_PAGES)]
    for name in (*known, "gate?run=nowhere", "checkpoints?run=nowhere"):
        page.goto(f"{address}/{name}")
        page.locator("[data-testid=stMain] h1").wait_for()
        wait_until_idle(page)
        levels = page.locator("[data-testid=stMain] :is(h1, h2, h3, h4, h5, h6)").evaluate_all(
            "all => all.map(e => Number(e.tagName[1]))"
        )
        assert levels.count(1) == 1
        assert levels[0] == 1
        gaps = [pair for pair in zip(levels, levels[1:], strict=False) if pair[1] > pair[0] + 1]
        assert gaps == [], name


def test_focus_is_visible_on_links_and_terms(page, address):
    """A menu item that has the focus has a ring of 2 px."""
    page.goto(f"{address}/checkpoints?run=demo")
    page.locator(".ockham-term").first.wait_for()
    wait_until_idle(page)
    page.locator(".st-key-menu a").nth(1).focus()
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "2px" in outline
    assert "solid" in outline
    term = page.locator(".ockham-term").first
    term.focus()
    assert "reference" in page.locator(".ockham-term").nth(2).get_attribute("data-meaning")
    content = term.evaluate("e => getComputedStyle(e, '::after').content")
    assert "saved weights" in content


def test_menu_on_a_phone_closes_after_a_choice(chromium, address):
    """One tap opens a page, and the page is not covered. No page scrolls sideways."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(f"{address}/run?run=demo")
    page.get_by_role("heading", level=1).wait_for()
    wait_until_idle(page)
    page.locator("[data-testid=stExpandSidebarButton]").click()
    link = page.locator(".st-key-menu").get_by_role("link", name="Gate", exact=True)
    link.wait_for()
    link.tap()
    page.get_by_role("heading", level=1, name="Is the update rate").wait_for()
    page.wait_for_function(
        "document.querySelector('[data-testid=stSidebar]').getBoundingClientRect().right <= 1"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_file_is_identified_by_its_digest_in_the_browser(page, address, folder):
    """The digest is SHA-256 for every length at which its padding differs. The file is not sent."""
    [path] = list((folder / "runs" / "demo" / "checkpoints").glob("*/weights.bin"))[:1]
    posts = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.goto(f"{address}/checkpoints")
    for size in (0, 1, 55, 56, 63, 64, 65, 119, 120, 5_000_000):
        data = bytes(i * 7 % 251 for i in range(min(size, 1000))) * (size // 1000 + 1)
        check_digest(page, data[:size])
    check_digest(page, path.read_bytes())
    page.get_by_text("weights.bin of checkpoint").first.wait_for()
    page.get_by_text("accepted: ").first.wait_for()
    assert posts == []


def check_digest(page, data):
    """Select a file on the page, and wait for its digest in the address."""
    wait_until_idle(page)
    entry = page.locator("input[type=file]")
    if entry.count() == 0:
        page.get_by_text("Identify a file by its SHA-256").click()
    entry.first.set_input_files({"name": "x", "mimeType": "application/octet-stream", "buffer": data})
    digest = hashlib.sha256(data).hexdigest()
    page.wait_for_url(f"**/checkpoints?digest={digest}")


def test_search_box_opens_a_decision_from_any_page(page, address, folder):
    """Enter opens what the text names, and Back returns to the page of the search."""
    lines = (folder / "runs" / "demo" / "log" / "1-0" / "000000000000.jsonl").read_bytes().splitlines()
    decision = next(json.loads(line)["id"] for line in lines if b'"ockham.decision.made.v1"' in line)
    page.goto(f"{address}/odr")
    page.get_by_role("heading", level=1).wait_for()
    wait_until_idle(page)
    box = page.get_by_placeholder("Name, ID or SHA-256")
    box.fill(decision)
    box.press("Enter")
    page.wait_for_url(f"**/decision?run=demo&decision={decision}")
    page.get_by_role("heading", level=1, name="What was decided, and why?").wait_for()
    page.go_back()
    page.wait_for_url("**/odr")
