"""Findings in records: severity, fixes and explanation by code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ockham.errors import BadInputError, suggest_name
from ockham.odr.code_table import CODE_TABLE

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """One finding in one record. `line` and `column` count from 1. `--fix` fixes it if `fixable` is true."""

    path: str
    line: int
    column: int
    code: str
    severity: Severity
    message: str
    odr_id: str = ""
    constraint_id: str = ""
    fixable: bool = False


CODES = {row.code: row for row in CODE_TABLE}
_FIXED_IN_TEXT = frozenset({"ODR204", "ODR206", "ODR207", "ODR605"})
DECIDED = frozenset({"accepted", "superseded", "retired"})


def severity(code: str, status: str = "") -> Severity:
    """Return the severity of a code in a record of this status."""
    weight = CODES[code].weight
    if weight == "claim":
        return "error" if status in DECIDED or status == "rejected" else "warning"
    return weight


def is_fixable(code: str, *, status: str = "", locked: bool = False, has_outcome: bool = True) -> bool:
    """Return True if `--fix` fixes a finding of this code.

    Args:
        code: Code of the finding.
        status: Status of the record. Only drafts and proposals get their boxes ticked.
        locked: True if the record has a lock, which covers its text.
        has_outcome: True if the front matter has the outcome that the Outcome line repeats.

    """
    if code == "ODR511":
        return status in {"draft", "proposed"}
    if code in _FIXED_IN_TEXT:
        return not locked and (has_outcome or code not in {"ODR206", "ODR605"})
    return CODES[code].fixable


def explain(code: str) -> str:
    """Return the explanation of a code as text.

    Raises:
        BadInputError: If the code does not exist.

    """
    row = CODES.get(code.upper())
    if row is None:
        raise BadInputError(f"no code {code!r}{suggest_name(code.upper(), CODES)}")
    weight = {"claim": "warning in draft and proposed, error from then on"}.get(row.weight, row.weight)
    fix = "\n`ockham odr lint --fix` (or `check --fix`) fixes it." if row.fixable else ""
    return f"{row.code}: {row.title} ({weight})\n{row.help}{fix}"


def expand_codes(selected: Iterable[str]) -> frozenset[str]:
    """Return all codes with the given prefixes. `ODR5` selects the five hundreds.

    Raises:
        BadInputError: If a prefix matches no code.

    """
    found: set[str] = set()
    for text in selected:
        fitting = [code for code in CODES if code.startswith(text.upper())]
        if not text or not fitting:
            raise BadInputError(f"no code begins with {text!r}{suggest_name(text.upper(), CODES)}")
        found.update(fitting)
    return frozenset(found)
