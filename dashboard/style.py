"""Style of all charts and pages: colours, heights and number formats.

Each colour has one meaning, and a contrast of at least 3:1 on Streamlit's light and dark backgrounds. Every
fact that a colour shows is also shown by a shape, a dash pattern or a word.
"""

from __future__ import annotations

from typing import Any

import altair as alt

UPDATE = "#1C83CC"
SKIP = "#D55E00"
CLAMP = "#B37700"
ATTACK = "#A8558A"
RELEASE = "#009E73"
NEUTRAL = "#767676"
CHART_HEIGHT = 240
# By default Streamlit leaves 6rem above each page, a third of a laptop screen with the labels.
CSS = """<style>
[data-testid=stMainBlockContainer] {
  padding-top: 3.25rem; padding-bottom: 4rem; padding-left: 2.5rem; padding-right: 2.5rem;
  max-width: 100rem;
}
[data-testid=stMain] h1 { padding-bottom: .25rem; }
[class*=st-key-sql-] textarea { font-family: "Source Code Pro", monospace; font-size: .85rem; }
.st-key-menu { row-gap: .1rem; }
.st-key-menu [data-testid=stCaptionContainer] { padding-top: .6rem; }
.st-key-path { column-gap: .25rem; row-gap: 0; }
[data-testid=stMain] .ockham-facts {
  display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: 0; padding: 0; font-size: .875rem;
}
[data-testid=stMain] .ockham-facts li { list-style: none; margin: 0; padding: 0; font-size: .875rem; }
.ockham-facts b { font-weight: 600; }
.ockham-facts .good > span:first-child { color: #2b8a3e; }
.ockham-facts .bad { color: #c92a2a; }
@media (prefers-color-scheme: dark) {
  .ockham-facts .good > span:first-child { color: #69db7c; }
  .ockham-facts .bad { color: #ff8787; }
}
/* Captions and labels of axes: at least 4.5:1 on the background of each mode. */
[data-testid=stCaptionContainer], [data-testid=stCaptionContainer] p, [data-testid=stMetric] label p {
  color: #575757; opacity: 1;
}
[data-testid=stVegaLiteChart]
:is(.role-axis-label, .role-axis-title, .role-legend-label, .mark-text.role-mark) text {
  fill: #575757;
}
@media (prefers-color-scheme: dark) {
  [data-testid=stCaptionContainer], [data-testid=stCaptionContainer] p, [data-testid=stMetric] label p {
    color: #b8b8b8;
  }
  [data-testid=stVegaLiteChart]
:is(.role-axis-label, .role-axis-title, .role-legend-label, .mark-text.role-mark) text {
  fill: #b8b8b8;
}
}
:is(a, button, summary, [role=tab], [role=button], .ockham-term):focus-visible {
  outline: 2px solid #1C83CC !important; outline-offset: 2px;
}
.st-key-script, :has(> .st-key-script) { display: none; }
.st-key-search { flex-wrap: nowrap; max-width: 100%; }
.ockham-broken {
  padding: .6rem .9rem; border-radius: .4rem; background: #c92a2a; color: #fff; font-weight: 600;
}
[data-testid=stMain]:has(.ockham-broken) { border-top: 6px solid #c92a2a; }
.ockham-codes { margin: 0; }
.ockham-codes code { font-size: .75rem; }
.st-key-path [data-testid=stHtml] span { font-size: .875rem; }
.ockham-terms { margin: 0; font-size: .875rem; }
.ockham-term { position: relative; margin-right: .75rem; text-decoration: underline dotted; cursor: help; }
.ockham-term:hover::after, .ockham-term:focus::after {
  content: attr(data-meaning); position: absolute; left: 0; top: 1.5em; z-index: 10; width: max-content;
  max-width: min(22rem, 80vw); padding: .4rem .6rem; border-radius: .4rem;
  background: #262730; color: #fafafa;
}
/* A live page is drawn again every few seconds. Streamlit would show the old elements in grey meanwhile. */
[data-stale=true] { opacity: 1 !important; transition: none !important; }
/* Two lines of facts, so that a chart does not move when the verification has a result. */
:is(.st-key-header-run, .st-key-header-control) { min-height: 6.6rem; }
.st-key-run-heading { min-height: 5.5rem; }
.st-key-run-metrics { min-height: 4.75rem; }
/* Without a pointer that hovers, the tools of a table are always shown, above it. */
@media (hover: none) {
  [data-testid=stDataFrame] { margin-top: 1.75rem; }
}
@media (max-width: 640px) {
  /* The bar with the button of the menu covers the first 3.75rem. */
  [data-testid=stMainBlockContainer] { padding-left: 1rem; padding-right: 1rem; padding-top: 4.5rem; }
  .st-key-search > :first-child { flex: 1 1 8rem; min-width: 0; width: auto !important; }
}
</style>"""
# On a phone the menu covers the page, and Streamlit closes only its own menu after a choice.
# Opening a page with parameters makes two history entries: parameters on the old page, then the new page. The
# second one replaces the first one, if the reader did nothing in between. Streamlit also adds an entry if the
# reader takes two steps in the history before the first page is shown. It replaces an entry instead.
SCRIPT = """<script>
if (!window.ockhamScript) {
  window.ockhamScript = true;
  document.addEventListener("click", (event) => {
    if (window.innerWidth > 768 || !event.target.closest(".st-key-menu a")) return;
    setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click(), 0);
  });
  const push = history.pushState;
  let last = null;
  let isStep = false;
  for (const kind of ["pointerdown", "keydown", "click", "popstate"]) {
    window.addEventListener(kind, () => { last = null; isStep = kind === "popstate"; }, true);
  }
  history.pushState = function (state, title, url) {
    const next = new URL(url, location.href);
    const isSecond = last && next.search === last.search && next.pathname !== last.pathname;
    (isSecond || isStep ? history.replaceState : push).call(history, state, title, url);
    last = next;
  };
}
</script>"""
POINT_LEGEND = alt.Legend(orient="top", title=None, labelLimit=260, columns=2)


def tooltips(**formats: str) -> list[alt.Tooltip]:
    """Return tooltips from field -> number format. An empty format shows text."""
    return [_tooltip(name, number_format) for name, number_format in formats.items()]


def _tooltip(name: str, number_format: str) -> alt.Tooltip:
    title = name.replace("_", " ")
    if not number_format:
        return alt.Tooltip(f"{name}:N", title=title)
    return alt.Tooltip(f"{name}:Q", title=title, format=number_format)


def themed(chart: Any, height: Any = CHART_HEIGHT) -> Any:
    """Return *chart* with a height and the common style."""
    return (
        chart.properties(height=height, padding={"left": 0, "right": 10, "top": 2, "bottom": 2})
        .configure_axis(labelPadding=6, titlePadding=8, tickCount=6)
        .configure_axisY(tickCount=5)
        .configure_legend(padding=0, offset=10, columnPadding=18, labelPadding=6)
    )
