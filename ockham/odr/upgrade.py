"""Conversion of a legacy record into a draft with front matter and one constraint per checkbox.

Legacy records contain no SQL. A checkbox becomes a named constraint if its words and its limit fit one, such
as "Reversibility: Can revert in < 10ms". Otherwise it gets its claim from the text if possible, and a query
without rows. Lint reports it, and check reports "nothing to check", until the author writes the query.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from ockham.errors import BadInputError
from ockham.odr.constraint_library import find_problems, load_library
from ockham.odr.markdown_body import SECTIONS, Body, parse_body
from ockham.odr.record_data import Constraint, parse_constraint
from ockham.odr.template import STUB_SQL, NewRecord, constraint_line, render_front_matter

_HEADING = re.compile(r"(?:ODR-?\s*(?P<number>[0-9]{1,4})\s*[:.\-]?\s*)?(?P<title>.*)", re.IGNORECASE)
_CLAIM = re.compile(
    r"(?P<op><=|>=|<|>|≤|≥|=|less than|more than|at most|at least|under|below|above|over)\s*"
    r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>%|[A-Za-zµ]+)?",
    re.IGNORECASE,
)
_OPERATORS = {
    "≤": "<=",
    "≥": ">=",
    "=": "==",
    "at most": "<=",
    "at least": ">=",
    "less than": "<",
    "under": "<",
    "below": "<",
    "more than": ">",
    "above": ">",
    "over": ">",
}
# Unit of the library, and the factor of a number in it.
_UNITS = {
    "%": ("ratio", 0.01),
    "ms": ("ms", 1.0),
    "s": ("ms", 1000.0),
    "sec": ("ms", 1000.0),
    "seconds": ("ms", 1000.0),
    "milliseconds": ("ms", 1.0),
    "us": ("ms", 0.001),
    "µs": ("ms", 0.001),
}


_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_RANGE = re.compile(rf"{_NUMBER}\s*%?\s*(?:and|to|-|–|\.\.)\s*{_NUMBER}\s*(%)?", re.IGNORECASE)
_QUANTILE = re.compile(r"\bp([1-9][0-9])\b", re.IGNORECASE)
# A heading in bold, such as `**Problem**: Current accuracy drops`.
_BOLD = re.compile(rf"\*\*({'|'.join(SECTIONS)})\s*:?\s*\*\*\s*:?\s*(.*)", re.IGNORECASE)
_ITEM = re.compile(r"\s*[-*+]\s+(?!\[[ xX]\])(.+)")


_VALIDATION = r"^(?!.*(train|familiar|served)).*loss"
_BETTER = "improve|fall|drop|decrease|reduc|lower"
_WORSE = "worse|rise|increase|degrade|higher|above"


class _Rule(NamedTuple):
    """Words and unit of legacy texts that mean one named constraint. Each part between ` & ` must occur."""

    words: str
    unit: str
    name: str


# The first rule that fits is used.
_RULES = (
    _Rule(r"rever[ts]|undo|disabl", "ms", "revert_time_below"),
    _Rule(r"\b(added|adds|additional|extra|new)\b & param", "ratio", "added_parameters_below"),
    _Rule(rf"familiar & loss & {_WORSE}", "ratio", "familiar_loss_at_most_above"),
    _Rule(rf"\bnew\b & loss & {_BETTER}", "ratio", "new_loss_improves_by"),
    _Rule(rf"{_VALIDATION} & {_BETTER}", "ratio", "loss_improves_by"),
    _Rule(rf"{_VALIDATION} & {_WORSE}", "ratio", "loss_at_most_above"),
    _Rule(r"\boq\b|quotient", "ratio", "oq_delta_at_least"),
    _Rule(r"comput & sav|less", "ratio", "compute_saved_at_least"),
    _Rule(r"updat & rate|batch", "range", "update_rate_between"),
    _Rule(r"accept & rate|evaluation", "range", "accept_rate_between"),
    _Rule(r"\bkl\b", "", "kl_below"),
    _Rule(r"\bdrift\b", "ratio", "drift_below"),
    _Rule(r"\bdrift\b", "", "drift_below"),
    _Rule(r"\b(no|never|zero)\b & roll.*back", "none", "no_rollbacks"),
    _Rule(r"\b(no|never|zero)\b & nan|non.?finite|diverge", "none", "no_nonfinite_losses"),
    _Rule(r"weight & restor|identical", "none", "revert_restores_weights"),
)
# Operators of a legacy limit that a named constraint is at least as strict as.
_STRICT_ENOUGH = {"<": ("<", "<="), ">": (">", ">="), "<=": ("<=",), ">=": (">=",)}


class LegacyRecord(NamedTuple):
    """A parsed legacy record. `texts` are those of its checkboxes by the ID of their constraint."""

    number: int | None
    title: str
    body: list[str]
    constraints: tuple[Constraint, ...]
    texts: Mapping[str, str]


def parse_legacy_record(text: str) -> LegacyRecord:
    """Parse a legacy record.

    Raises:
        BadInputError: If it has front matter, no heading, or lacks one of the four sections.

    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() == "---":
        raise BadInputError("not a legacy record: it has front matter; run `ockham odr lint`")
    lines = _with_headings(lines)
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
    texts = {constraint.id: box.text for constraint, box in zip(constraints, body.boxes, strict=True)}
    return LegacyRecord(number, title, _numbered(lines, body, first.line, constraints), constraints, texts)


def _constraint(at: int, text: str) -> Constraint:
    """Return the constraint of a checkbox: a named one if its words and its limit fit, otherwise a stub."""
    named = find_named(text)
    if named is not None:
        return parse_constraint(at, {"id": f"C{at + 1}", **named})
    op, number, unit = "<=", 0.0, ""
    if claim := _CLAIM.search(text):
        op, number, unit = _read_claim(claim)
    return Constraint(at, f"C{at + 1}", text[:300] or "?", STUB_SQL, op, number, unit=unit)


def _read_claim(claim: re.Match[str]) -> tuple[str, float, str]:
    """Return operator, limit and unit of a claim. Percentages become ratios, and times milliseconds."""
    op = _OPERATORS.get(claim["op"].casefold(), claim["op"])
    unit, factor = _UNITS.get((claim["unit"] or "").casefold(), (claim["unit"] or "", 1.0))
    return op, float(Decimal(claim["number"]) * Decimal(repr(factor))), unit


def find_named(text: str) -> dict[str, Any] | None:
    """Return name and parameters of the named constraint that a legacy text means.

    None if no rule fits, if the text has several limits, or if the named constraint would accept more.
    """
    claims, ranges = list(_CLAIM.finditer(text)), list(_RANGE.finditer(text))
    if len(claims) + len(ranges) > 1:
        return None
    op, unit, values = _read_limit(claims, ranges)
    for rule in _RULES:
        if rule.unit == unit and all(re.search(w, text, re.IGNORECASE) for w in rule.words.split(" & ")):
            if claims and op not in _STRICT_ENOUGH[load_library()[rule.name].op]:
                continue
            quantile = _QUANTILE.search(text) if rule.name == "revert_time_below" else None
            named = {"name": rule.name, **values}
            named |= {"quantile": int(quantile[1]) / 100} if quantile else {}
            return None if find_problems(named) else named
    return None


def _read_limit(
    claims: Sequence[re.Match[str]], ranges: Sequence[re.Match[str]]
) -> tuple[str, str, dict[str, float]]:
    """Return operator, unit and parameters of the only limit of a text."""
    if claims:
        op, number, unit = _read_claim(claims[0])
        return op, unit, {"value": number}
    if not ranges:
        return "", "none", {}
    factor = Decimal("0.01") if ranges[0][3] else Decimal(1)
    limits = {key: float(Decimal(ranges[0][at]) * factor) for at, key in ((1, "low"), (2, "high"))}
    return "", "range", limits


def _numbered(lines: list[str], body: Body, heading: int, constraints: Sequence[Constraint]) -> list[str]:
    """Return the lines after the heading. Each checkbox gets ID and text of its constraint, unchecked."""
    new = list(lines)
    for box, constraint in reversed(list(zip(body.boxes, constraints, strict=True))):
        new[box.line - 1 : box.last_line] = [constraint_line(constraint)]
    return new[heading:]


def _with_headings(lines: Sequence[str]) -> list[str]:
    """Return lines with headings in place of bold section names, and checkboxes for plain list items."""
    new: list[str] = []
    section, fenced = "", False
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        bold = None if fenced else _BOLD.fullmatch(line.strip())
        if bold is not None:
            section = next(title for title in SECTIONS if title.casefold() == bold[1].casefold())
            new += ["", f"## {section}", *([bold[2]] if bold[2] else [])]
            continue
        if not fenced and line.startswith("## "):
            section = line.removeprefix("## ").strip()
        item = _ITEM.fullmatch(line) if section.casefold() == "occam constraints" and not fenced else None
        new.append(f"- [ ] {item[1]}" if item else line)
    return new


def render_upgraded(bare: LegacyRecord, identity: str, owners: list[str], today: dt.date) -> str:
    """Return the draft. The old Outcome remains as prose, because it was never measured."""
    body = [f"# {identity}: {bare.title}", *bare.body]
    outcome = next((i for i, line in enumerate(body) if "oq delta" in line.casefold()), None)
    if outcome is not None:
        claim = re.sub(r"(?i)oq\s+delta:?", "an OQ delta of", body[outcome].strip())
        body[outcome] = f"Claimed before anything was measured: {claim}"
    record = NewRecord(identity, bare.title, owners, today, constraints=bare.constraints, comments=bare.texts)
    return "\n".join([*render_front_matter(record), "", *body]).rstrip("\n") + "\n"
