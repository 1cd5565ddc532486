"""Custom components: their scripts and styles in `assets`, each sent once as a static file.

Streamlit sends the script of a component with each message of its data. The script here is one line that
imports the static file, which the browser loads with the page and keeps.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).with_name("assets")
# Component -> its scripts, in the order of their definitions. The last one exports the component.
COMPONENTS = {
    "timeseries": (
        "timeseries_numbers.js",
        "timeseries_drawing.js",
        "timeseries_panels.js",
        "timeseries_events.js",
        "timeseries.js",
    ),
    "decision_list": ("decision_list.js",),
    "metric_strip": ("metric_strip.js",),
}
# Shows the first view of a page before Streamlit has started. Not a component.
FIRST_VIEW = "first_view"
SCRIPTS = {**COMPONENTS, FIRST_VIEW: ("first_view.js",)}
# Runs in the browser for each component. The style is added to the shadow root once.
LOADER = """const file = await import(new URL(".%s", document.baseURI));
export default (component) => {
  const root = component.parentElement;
  if (!root.querySelector("style")) {
    root.append(Object.assign(document.createElement("style"), { textContent: file.style }));
  }
  return file.default(component);
};"""


def make_component(name: str) -> Callable[..., Any]:
    """Return the component *name* of `COMPONENTS`."""
    component: Callable[..., Any] = st.components.v2.component(
        f"ockham_{name}", js=LOADER % module_path(name)
    )
    return component


@functools.cache
def read_module(name: str) -> bytes:
    """Return scripts and style of an entry of `SCRIPTS` as one module."""
    scripts = "\n".join((ASSETS / file).read_text() for file in SCRIPTS[name])
    style = json.dumps((ASSETS / f"{name}.css").read_text())
    return f"{scripts}\nexport const style = {style};\n".encode()


def module_path(name: str) -> str:
    """Return the path of the static file of a component. It contains a digest, so that it can be kept."""
    digest = hashlib.sha256(read_module(name)).hexdigest()[:12]
    return f"/static/js/ockham_{name}.{digest}.js"


def component_files() -> dict[str, bytes]:
    """Return path -> content of the static files of all entries of `SCRIPTS`."""
    return {module_path(name): read_module(name) for name in SCRIPTS}
