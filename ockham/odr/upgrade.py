"""Conversion of a legacy record into a draft with front matter and one constraint per checkbox.

Legacy records contain no SQL. A constraint gets its claim from the text if possible (`< 10ms`), and a query
without rows. Check reports "nothing to check" until the author writes the query.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from ockham.errors import BadInputError
from ockham.odr.markdown_body import SECTIONS, Body, parse_body
from ockham.odr.record_data import Constraint
from ockham.odr.template import NewRecord, render_front_matter

_HEADING = re.compile(r"(?:ODR-?\s*(?P<number>[0-9]{1,4})\s*[:.\-]?\s*)?(?P<title>.*)", re.IGNORECASE)
_CLAIM = re.compile(r"(?P<op><=|>=|<|>|≤|≥)\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>%|[A-Za-zµ]+)?")
_OPERATORS = {"≤": "<=", "≥": ">="}
_ASK = (
    "SELECT avg(observed) AS value, count(*) AS n -- write what gives the value, and how many it rests on\n"
    "FROM decisions WHERE run_id = $candidate AND false"
)


class LegacyRecord(NamedTuple):
    """A parsed legacy record."""

    number: int | None
    title: str
    body: list[str]
    constraints: tuple[Constraint, ...]


def parse_legacy_record(text: str) -> LegacyRecord:
    """Parse a legacy record.

    Raises:
        BadInputError: If it has front matter, no heading, or lacks one of the four sections.

    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() == "---":
        raise BadInputError("not a legacy record: it has front matter; run `ockham odr lint`")
    body = parse_body(lines, 1)
    first = next((heading for heading in body.headings if heading.level == 1), None)
    if first is None:
        raise BadInputError("it has no heading `# ODR-001: Title`")
    missing = [title for title in SECTIONS if not body.sections(title)]
    if missing:
        raise BadInputError(f"it has no section `## {missing[0]}`")
    match = _HEADING.fullmatch(first.text)
    assert match is not None
    title = match["title"].strip()
    if not 0 < len(title) <= 120:
        raise BadInputError("its heading has no title of 1 to 120 characters")
    number = int(match["number"]) if match["number"] else None
    constraints = tuple(_constraint(at, box.text) for at, box in enumerate(body.boxes))
    return LegacyRecord(number, title, _numbered(lines, body, first.line), constraints)


def _constraint(at: int, text: str) -> Constraint:
    claim = _CLAIM.search(text)
    op, threshold, unit = "<=", 0.0, ""
    if claim is not None:
        op = _OPERATORS.get(claim["op"], claim["op"])
        percent = claim["unit"] == "%"
        threshold = float(claim["number"]) / (100 if percent else 1)
        unit = "ratio" if percent else claim["unit"] or ""
    return Constraint(at, f"C{at + 1}", text[:300] or "?", _ASK, op, threshold, unit=unit)


def _numbered(lines: list[str], body: Body, heading: int) -> list[str]:
    """Return the lines after the heading. Each checkbox gets its constraint's ID and is unchecked."""
    new = list(lines)
    for at, box in enumerate(body.boxes):
        new[box.line - 1] = f"- [ ] C{at + 1} {box.text}"
    return new[heading:]


def render_upgraded(bare: LegacyRecord, identity: str, owners: list[str], today: dt.date) -> str:
    """Return the draft. The old Outcome remains as prose, because it was never measured."""
    body = [f"# {identity}: {bare.title}", *bare.body]
    outcome = next((i for i, line in enumerate(body) if "oq delta" in line.casefold()), None)
    if outcome is not None:
        claim = re.sub(r"(?i)oq\s+delta:?", "an OQ delta of", body[outcome].strip())
        body[outcome] = f"Claimed before anything was measured: {claim}"
    record = NewRecord(identity, bare.title, owners, today, constraints=bare.constraints)
    return "\n".join([*render_front_matter(record), "", *body]).rstrip("\n") + "\n"
