"""Creation of custom components from the scripts and styles in `assets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).with_name("assets")


def make_component(name: str, scripts: Sequence[str], style: str) -> Callable[..., Any]:
    """Return the component *name* from files in `assets`.

    Args:
        name: Name of the component.
        scripts: Names of the scripts, in the order of their definitions. The last one exports the component.
        style: Name of the style sheet.

    """
    script = "\n".join(_strip((ASSETS / file).read_text()) for file in scripts)
    css = (ASSETS / style).read_text()
    component: Callable[..., Any] = st.components.v2.component(f"ockham_{name}", css=css, js=script)
    return component


def _strip(script: str) -> str:
    """Remove indentation and comment lines, because Streamlit sends the script with each message."""
    lines = (line.strip() for line in script.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
