"""Menu, header and inputs of the pages with a chart on top are sent after the chart."""

from __future__ import annotations

import logging

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboard.test_header import read_header
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


def test_parts_wait_on_late_pages_only_and_are_shown_once():
    """Another page shows them at once."""

    def page():
        import streamlit as st

        from dashboard.late_parts import add_part, send_parts, start_parts

        for name in ("run", "gate"):
            start_parts(name)
            add_part(lambda name=name: st.text(f"part of {name}"))
            st.text(f"chart of {name}")
            send_parts()
            send_parts()

    test = AppTest.from_function(page, default_timeout=60).run()
    assert not test.exception
    shown = [text.value for text in test.text]
    assert shown == ["chart of run", "part of run", "part of gate", "chart of gate"]


@pytest.mark.parametrize("page", ["run", "control"])
def test_header_of_a_page_with_a_chart_is_above_it(open_page, tmp_path, page):
    """The order on the page is not the order in which the parts are sent."""
    make_run(tmp_path, "first", batches=30)
    test = open_page(tmp_path, page, run="first")
    assert not test.exception
    kinds = [element.type for element in test.main if element.type in ("html", "bidi_component")]
    assert "state completed" in read_header(test)
    assert test.selectbox(key="run-choice").value == "first"
    assert len(test.get("page_link")) > 10
    assert "html" in kinds[: kinds.index("bidi_component")]


@pytest.mark.parametrize("page", ["run", "control"])
def test_header_of_an_unknown_run_and_of_an_empty_folder_is_complete(open_page, tmp_path, page):
    """Without a chart the parts are shown as well."""
    test = open_page(tmp_path, page)
    assert len(test.get("page_link")) > 10
    make_run(tmp_path, "first", batches=12)
    test = open_page(tmp_path, page, run="gone")
    assert "run not found" in read_header(test)
    assert len(test.get("page_link")) > 10
