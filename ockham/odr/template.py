"""Text of a new record for `ockham odr new`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ockham.odr.constraint_library import OPTIONS, flow_fields, parse_constraint_argument
from ockham.odr.edit import NO_CONSTRAINT, OPEN_OUTCOME, yaml_list, yaml_string
from ockham.odr.record_data import Constraint, EvidenceSide, parse_constraint

NO_PROBLEM = "Describe the problem: who has it, and how it shows."
NO_CHANGE = "Describe the change, and the alternatives that were not chosen."
# Query of a constraint that `ockham odr upgrade` cannot translate. It gives no row to measure.
STUB_SQL = (
    "SELECT avg(observed) AS value, count(*) AS n -- write what gives the value, and how many it rests on\n"
    "FROM decisions WHERE run_id = $candidate AND false"
)
PLACEHOLDERS = frozenset({NO_PROBLEM, NO_CHANGE, NO_CONSTRAINT})
_BODY = f"""\
# {{id}}: {{title}}

## Problem
{NO_PROBLEM}

## Proposed Change
{NO_CHANGE}

## Occam Constraints
{{boxes}}

## Outcome
{{open}}
"""
# Nearly every change must hold this. `ockham odr new` measures it, and the author changes it.
DEFAULT_CONSTRAINTS = (parse_constraint(0, {"id": "C1", "name": "loss_at_most_above", "value": 0.01}),)


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
    # Comments of constraints by ID.
    comments: Mapping[str, str] = MappingProxyType({})
    # File name of the JSON Schema in the folder. Empty without one.
    schema: str = ""


def render_record(record: NewRecord) -> str:
    """Return the text of a record."""
    front = "\n".join(render_front_matter(record))
    boxes = "\n".join(constraint_line(constraint) for constraint in record.constraints) or NO_CONSTRAINT
    body = _BODY.format(id=record.identity, title=record.title, boxes=boxes, open=OPEN_OUTCOME)
    return f"{front}\n\n{body}"


def parse_constraints(arguments: Sequence[str]) -> tuple[Constraint, ...]:
    """Return the constraints C1, C2, ... of arguments such as `loss_improves_by=0.02`.

    Raises:
        BadInputError: If a name or a parameter is not accepted.

    """
    items = [parse_constraint_argument(argument) for argument in arguments]
    return tuple(parse_constraint(at, {"id": f"C{at + 1}", **item}) for at, item in enumerate(items))


def constraint_line(constraint: Constraint) -> str:
    """Return the line of a constraint in the section Occam Constraints."""
    return f"- [ ] {constraint.id} {constraint.text}"


def describe_constraint(constraint: Constraint) -> str:
    """Return `C1 The loss ... is at most 2 % above the baseline's (measured 0.012 ratio, judge: mean)`."""
    facts = [] if constraint.measured is None else [f"measured {constraint.measured:g} {constraint.unit}"]
    facts += [f"{key}: {value}" for key, value in chosen_options(constraint).items()]
    return f"{constraint.id} {constraint.text}" + (f" ({', '.join(facts)})" if facts else "")


def render_front_matter(record: NewRecord) -> list[str]:
    """Return the lines of the front matter. Every text is a JSON string, which is valid YAML."""
    names = "[" + ", ".join(yaml_string(owner) for owner in record.owners) + "]"
    return [
        "---",
        *([f"# yaml-language-server: $schema={record.schema}"] if record.schema else []),
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
        *(row for one in record.constraints for row in _constraint(one, record.comments.get(one.id, ""))),
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


def chosen_options(constraint: Constraint) -> dict[str, str | int]:
    """Return the options of a named constraint that differ from the defaults."""
    default = parse_constraint(0, {"name": constraint.name, **constraint.parameters})
    values = ((key, getattr(constraint, key)) for key in OPTIONS)
    return {key: value for key, value in values if value != getattr(default, key)}


def _constraint(constraint: Constraint, comment: str) -> list[str]:
    if constraint.name:
        fields = [f"id: {constraint.id}", *flow_fields(constraint.name, constraint.parameters)]
        fields += [f"{key}: {value}" for key, value in chosen_options(constraint).items()]
        fields += [f"measured: {constraint.measured!r}"] if constraint.measured is not None else []
        shown = "".join(character for character in comment if character.isprintable())
        return [f"  - {{{', '.join(fields)}}}" + (f"  # {shown}" if shown else "")]
    rows = [f"  - id: {constraint.id}", f"    text: {yaml_string(constraint.text)}", "    sql: |"]
    rows += [f"      {line}" for line in constraint.sql.split("\n")]
    rows += [f"    op: {yaml_string(constraint.op)}", f"    threshold: {constraint.threshold!r}"]
    rows += [f"    unit: {yaml_string(constraint.unit)}"] if constraint.unit else []
    rows += [f"    min_n: {constraint.min_n}"] if constraint.min_n > 1 else []
    rows += [f"    measured: {constraint.measured!r}"] if constraint.measured is not None else []
    return rows
