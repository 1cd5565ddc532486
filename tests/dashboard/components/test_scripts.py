"""Scripts of the components: sent once as static files, not with each message."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components.scripts import ASSETS, SCRIPTS, component_files, module_path, read_module
from tests.dashboard.components import timeseries_page

MAX_LOADER_BYTES = 700


def test_every_script_and_style_is_in_one_module():
    """A new file in `assets` cannot be forgotten."""
    scripts = [file for files in SCRIPTS.values() for file in files]
    styles = [f"{name}.css" for name in SCRIPTS]
    assert sorted(path.name for path in ASSETS.iterdir()) == sorted([*scripts, *styles])
    for name, files in SCRIPTS.items():
        module = read_module(name).decode()
        assert all((ASSETS / file).read_text() in module for file in files)
        assert component_files()[module_path(name)].decode() == module


def test_message_of_a_chart_contains_no_script_but_its_address():
    """Each message of a live run would contain 40 kB otherwise."""
    test = AppTest.from_file(timeseries_page.__file__).run()
    assert not test.exception
    [chart] = [element.proto for element in test.get("bidi_component")]
    size = len(chart.js_content) + len(chart.css_content)
    assert module_path("timeseries") in chart.js_content
    assert size < MAX_LOADER_BYTES < len(read_module("timeseries")) / 40


@pytest.mark.parametrize("name", SCRIPTS)
def test_address_of_a_module_changes_with_its_content(name, monkeypatch):
    """A browser keeps the file for a year."""
    before = module_path(name)
    monkeypatch.setattr("dashboard.components.scripts.read_module", lambda _: b"other")
    assert module_path(name) != before
