"""A bare record in the style of the old documents -> a draft with front matter and one constraint for each checkbox.

The old style has no SQL, so a constraint begins as a question to its author: its claim is read from the text where it
can be (`< 10ms`), its query gives no row, and check says "nothing to check" until somebody writes the right one.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from ockham.errors import BadInputError
from ockham.odr.markdown_body import SECTIONS, Body, parse_body
from ockham.odr.record_data import Constraint
from ockham.odr.template import render_front_matter

_HEADING = re.compile(r"(?:ODR-?\s*(?P<number>[0-9]{1,4})\s*[:.\-]?\s*)?(?P<title>.*)", re.IGNORECASE)
_CLAIM = re.compile(r"(?P<op><=|>=|<|>|≤|≥)\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>%|[A-Za-zµ]+)?")
_OPERATORS = {"≤": "<=", "≥": ">="}
_ASK = (
    "SELECT avg(observed) AS value, count(*) AS n -- write what gives the value, and how many it rests on\n"
    "FROM decisions WHERE run_id = $candidate AND false"
)


class LegacyRecord(NamedTuple):
    """What a bare record became."""

    number: int | None
    title: str
    body: list[str]
    constraints: tuple[Constraint, ...]


def parse_legacy_record(text: str) -> LegacyRecord:
    """Read a bare record.

    Raises:
        BadInputError: if it has front matter already, no heading, or lacks one of the four sections.

    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() == "---":
        raise BadInputError("it has front matter already: `ockham odr lint` says what is wrong with it")
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
    """The lines behind the heading, each checkbox with its constraint's id and no tick: nothing is proven yet."""
    new = list(lines)
    for at, box in enumerate(body.boxes):
        new[box.line - 1] = f"- [ ] C{at + 1} {box.text}"
    return new[heading:]


def render_upgraded(bare: LegacyRecord, identity: str, owners: list[str], today: dt.date) -> str:
    """The whole draft. The old Outcome stays as prose: it was never measured."""
    body = [f"# {identity}: {bare.title}", *bare.body]
    outcome = next((i for i, line in enumerate(body) if "oq delta" in line.casefold()), None)
    if outcome is not None:
        claim = re.sub(r"(?i)oq\s+delta:?", "an OQ delta of", body[outcome].strip())
        body[outcome] = f"Claimed before anything was measured: {claim}"
    front = render_front_matter(identity, bare.title, owners, today, constraints=bare.constraints)
    return "\n".join([*front, "", *body]).rstrip("\n") + "\n"
