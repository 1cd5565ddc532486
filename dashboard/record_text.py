"""Text of a decision record: who decided it and when, and its sections. All of it is untrusted text."""

from __future__ import annotations

import streamlit as st

from dashboard.header import show_facts
from dashboard.layout import section
from ockham.odr.record import DecisionRecord


def record_facts(record: DecisionRecord) -> list[tuple[str, str, str]]:
    """Return tone, name and text of each fact in the front matter about people, state and dates."""
    claims = record.claims
    facts = [
        ("", "status", claims.status or "unknown"),
        ("", "owners", ", ".join(claims.owners) or "nobody is named"),
        ("", "date", claims.date or "unknown"),
        ("", "review by", claims.review_by),
        ("", "tags", ", ".join(claims.tags)),
        ("", "supersedes", ", ".join(claims.supersedes)),
        ("", "superseded by", ", ".join(claims.superseded_by)),
        ("", "registered", claims.registered),
        ("", "waived", ", ".join(f"{waiver.constraint} until {waiver.until}" for waiver in claims.waivers)),
        ("", "text", "locked" if claims.lock else "not locked"),
    ]
    return [fact for fact in facts if fact[2]]


def record_sections(record: DecisionRecord) -> list[tuple[str, str]]:
    """Return title and text of each section of the body. Text before the first heading has no title."""
    if record.body is None:
        return []
    headings = [heading for heading in record.body.headings if heading.level <= 2]
    starts = [heading.line for heading in headings]
    first = record.body.first_line
    ends = [*(line - 1 for line in starts), len(record.lines)]
    sections = [("", "\n".join(record.lines[first - 1 : ends[0]]).strip())]
    for heading, end in zip(headings, ends[1:], strict=True):
        sections.append((heading.text, "\n".join(record.lines[heading.line : end]).strip()))
    # The main heading repeats the title of the record, and has text of its own only in few records.
    return [(title, text) for title, text in sections if text]


def record_text_section(record: DecisionRecord) -> None:
    """Show who decided the record and when, and its text as it is in the file."""
    section("The decision")
    st.text(record.claims.title)
    show_facts(record_facts(record))
    for title, text in record_sections(record):
        if title:
            st.text(title.upper())
        st.text(text)
