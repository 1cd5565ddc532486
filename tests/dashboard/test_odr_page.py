"""Decision records page: text, owners and dates of a record, all of them untrusted."""

from __future__ import annotations

import html
import logging
import re

import pytest

from dashboard.record_text import record_sections
from ockham import resources
from ockham.odr.record import read_record
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)
RECORDS = sorted((resources.data_root() / "odr").glob("[0-9]*.md"))


@pytest.fixture
def open_record(open_page, monkeypatch, tmp_path):
    """Function that opens the page for the text of a record."""

    def open_text(text, selected):
        make_run(tmp_path / "runs", "a", batches=3)
        folder = tmp_path / "no-odr"
        folder.mkdir(exist_ok=True)
        (folder / "0001-a.md").write_text(text, encoding="utf-8")
        return open_page(tmp_path / "runs", "odr", id=selected)

    return open_text


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name[:4])
def test_sections_contain_every_line_of_the_body(path):
    """No line of the text is lost, whatever its headings are."""
    body = path.read_text(encoding="utf-8").split("\n---\n", 1)[1]
    lines = [
        line.strip() for line in body.splitlines() if line.strip() and not line.startswith(("# ", "## "))
    ]
    shown = [
        line.strip()
        for _, text in record_sections(read_record(path))
        for line in text.splitlines()
        if line.strip()
    ]
    assert shown == lines


def test_page_shows_text_owners_and_date(open_record):
    """The reader sees who decided what, and why."""
    source = RECORDS[0].read_text(encoding="utf-8")
    test = open_record(source, "ODR-0001")
    assert not test.exception
    texts = "\n".join(text.value for text in test.text)
    body = source.split("\n---\n", 1)[1]
    for title in ("Problem", "Proposed Change", "Consequences"):
        paragraph = re.search(rf"^## {title}\n(.+?)(?=\n\n|\n#|\Z)", body, re.DOTALL | re.MULTILINE)[1]
        assert title.upper() in texts
        assert paragraph.strip() in texts
    facts = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", block.proto.body)) for block in test.get("html"))
    facts = " ".join(facts.split())
    assert "status accepted owners builders date 2026-11-24" in facts


def test_markup_in_a_record_is_not_rendered(open_record):
    """Markdown and HTML of a record are shown as text."""
    source = RECORDS[0].read_text(encoding="utf-8")
    hostile = "<img src=x onerror=alert(1)> **bold** :red[x] [link](javascript:alert(1))"
    source = source.replace("## Problem\n", f"## Problem\n{hostile}\n").replace("[builders]", '["<b>x</b>"]')
    test = open_record(source, "ODR-0001")
    assert not test.exception
    assert any(hostile in text.value for text in test.text)
    assert not any("onerror" in block.value for block in (*test.markdown, *test.caption, *test.header))
    assert not any("<b>x</b>" in block.proto.body for block in test.get("html"))
