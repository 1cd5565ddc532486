"""Text of a new record for `ockham odr new`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from ockham.odr.edit import OPEN_OUTCOME, yaml_list, yaml_string
from ockham.odr.record_data import Constraint, EvidenceSide

_BODY = """\
# {id}: {title}

## Problem
What is wrong, for whom, and how it shows.

## Proposed Change
What is done about it, and what was not chosen.

## Occam Constraints
{boxes}

## Outcome
{open}
"""
NO_CONSTRAINT = "None yet: say what must hold, and how the log shows it."
# What nearly every change has to keep; `ockham odr new` measures it, the author changes it.
DEFAULT_CONSTRAINTS = (
    Constraint(
        0,
        "C1",
        "The best validation loss is at most 1 % above the baseline's",
        "SELECT min(val_loss) FILTER (WHERE run_id = $candidate)\n"
        "         / min(val_loss) FILTER (WHERE run_id = $baseline) - 1 AS value,\n"
        "       least(count(val_loss) FILTER (WHERE run_id = $candidate),\n"
        "             count(val_loss) FILTER (WHERE run_id = $baseline)) AS n\n"
        "FROM evaluations",
        "<=",
        0.01,
        unit="ratio",
    ),
)


class NewRecord(NamedTuple):
    """Content of a draft."""

    identity: str
    title: str
    owners: Sequence[str]
    date: dt.date
    tags: Sequence[str] = ()
    supersedes: Sequence[str] = ()
    sides: Sequence[EvidenceSide] = ()
    constraints: Sequence[Constraint] = ()


def render_record(record: NewRecord) -> str:
    """Return the text of a record."""
    front = "\n".join(render_front_matter(record))
    boxes = "\n".join(f"- [ ] {c.id} {c.text}" for c in record.constraints) or NO_CONSTRAINT
    body = _BODY.format(id=record.identity, title=record.title, boxes=boxes, open=OPEN_OUTCOME)
    return f"{front}\n\n{body}"


def render_front_matter(record: NewRecord) -> list[str]:
    """Return the lines of the front matter. Every text is a JSON string, which is valid YAML."""
    names = "[" + ", ".join(yaml_string(owner) for owner in record.owners) + "]"
    return [
        "---",
        "odr: 1",
        f"id: {record.identity}",
        f"title: {yaml_string(record.title)}",
        "status: draft",
        f"date: {record.date.isoformat()}",
        f"owners: {names}",
        f"tags: {yaml_list(list(record.tags))}",
        f"supersedes: {yaml_list(list(record.supersedes))}",
        *_evidence(record.sides),
        *(["constraints:"] if record.constraints else ["constraints: []"]),
        *(row for constraint in record.constraints for row in _constraint(constraint)),
        "---",
    ]


def _evidence(sides: Sequence[EvidenceSide]) -> list[str]:
    """Return the lines of the evidence: one run as a mapping, several as a list."""
    rows = ["evidence:"] if sides else []
    for name in ("baseline", "candidate"):
        group = [side for side in sides if side.name == name]
        if len(group) == 1:
            rows += [f"  {name}:", *(f"    {line}" for line in _side(group[0]))]
        elif group:
            rows.append(f"  {name}s:")
            for first, *others in map(_side, group):
                rows += [f"    - {first}", *(f"      {line}" for line in others)]
    return rows


def _side(side: EvidenceSide) -> list[str]:
    rows = [f"run: {yaml_string(side.run)}", f"attempt: {side.attempt}", f"rank: {side.rank}"]
    rows += [f"through_sequence: {side.through}"] if side.through is not None else []
    rows += [f"root: {yaml_string(side.root)}"] if side.root else []
    return [*rows, f"decisions: [{', '.join(yaml_string(decision) for decision in side.decisions)}]"]


def _constraint(constraint: Constraint) -> list[str]:
    rows = [f"  - id: {constraint.id}", f"    text: {yaml_string(constraint.text)}", "    sql: |"]
    rows += [f"      {line}" for line in constraint.sql.split("\n")]
    rows += [f"    op: {yaml_string(constraint.op)}", f"    threshold: {constraint.threshold!r}"]
    rows += [f"    unit: {yaml_string(constraint.unit)}"] if constraint.unit else []
    rows += [f"    min_n: {constraint.min_n}"] if constraint.min_n > 1 else []
    rows += [f"    measured: {constraint.measured!r}"] if constraint.measured is not None else []
    return rows
