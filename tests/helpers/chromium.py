"""Chromium of the machine, for tests of pages in a browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright import sync_api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Marks of a module with tests in a browser.
BROWSER_MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@contextlib.contextmanager
def open_chromium() -> Iterator[Any]:
    """Context manager that starts Chromium without a window and without requests of its own."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def open_tab(browser: Any, timeout_ms: float) -> Iterator[Any]:
    """Context manager with a tab of 1280x1000 pixels in a context of its own, with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(timeout_ms)
    yield context.new_page()
    context.close()
