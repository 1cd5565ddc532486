"""Rules of constraints and their lines in the text: names, parameters, and text that was never written."""

from __future__ import annotations

import re

from ockham.odr.constraint_library import find_problems
from ockham.odr.markdown_body import Body
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import Constraint
from ockham.odr.template import PLACEHOLDERS, STUB_SQL


def check_names(record: DecisionRecord) -> None:
    """Add a finding for each named constraint that cannot be resolved."""
    assert record.front is not None
    items = record.front.values.get("constraints")
    for constraint in record.claims.constraints:
        if not isinstance(items, list) or "name" not in items[constraint.position]:
            continue
        for problem in find_problems(items[constraint.position]):
            path = ("constraints", constraint.position, problem.key)
            record.add_finding_at("ODR515", problem.message, path, constraint.id)


def check_lines(record: DecisionRecord, body: Body) -> None:
    """Compare each line `- [ ] C1 ...` with the text of its constraint."""
    boxes = {box.constraint_id: box for box in reversed(body.boxes)}
    # The first of each ID: ODR501 reports the others.
    constraints = {constraint.id: constraint for constraint in reversed(record.claims.constraints)}
    for constraint in constraints.values():
        box = boxes.get(constraint.id)
        wanted = line_text(constraint)
        if not constraint.id or not wanted:
            continue
        if box is None:
            message = f"{constraint.id} has no line `- [ ] {constraint.id} {wanted:.120}` in its section"
            record.add_finding_at("ODR207", message, ("constraints", constraint.position), constraint.id)
        elif normalize_text(box.text) != wanted:
            message = f"{constraint.id} has the line {box.text!r:.120}; its constraint is {wanted!r:.200}"
            record.add_finding("ODR207", message, box.line, 1, constraint.id)


def line_text(constraint: Constraint) -> str:
    """Return the text of a constraint as its line contains it. Empty if it has none."""
    return normalize_text(constraint.text)


def normalize_text(text: str) -> str:
    """Return text on one line, without a colon or full stop before it."""
    return re.sub(r"^[:.]?\s*", "", " ".join(text.split()))


def check_placeholders(record: DecisionRecord, body: Body) -> None:
    """Add a finding for each sentence or query of the template that was not replaced."""
    for constraint in record.claims.constraints:
        if constraint.sql.strip() == STUB_SQL:
            message = f"{constraint.id} has no query yet: write its SQL, or use a named constraint"
            record.add_finding_at(
                "ODR208", message, ("constraints", constraint.position, "sql"), constraint.id
            )
    for number, line in enumerate(record.lines[body.first_line - 1 :], body.first_line):
        if line.strip() in PLACEHOLDERS:
            record.add_finding("ODR208", f"is still the text of the template: {line.strip()!r}", number)
