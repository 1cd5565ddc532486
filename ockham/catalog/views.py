"""The views and saved questions: SQL files whose head says in words what they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ockham import resources
from ockham.errors import QueryError, suggest_name
from ockham.fields import FIELDS

# In order of need: a view stands behind those that it reads.
VIEWS = (
    "events", "decisions", "contexts", "runs", "policies", "reason_codes", "gate_decisions", "compressor_decisions",
    "limiter_decisions", "memory_decisions", "hyperparameter_changes", "evaluations", "checkpoints", "log_gaps",
    "rollbacks", "run_summary",
)  # fmt: skip


class View(NamedTuple):
    """A view: its comment, the comments of its columns, and its SELECT."""

    name: str
    comment: str
    columns: Mapping[str, str]
    select: str


class Question(NamedTuple):
    """A saved question: the question itself, its parameters with their meaning, and its SQL."""

    name: str
    question: str
    parameters: Mapping[str, str]
    sql: str


@functools.cache
def load_views() -> tuple[View, ...]:
    """All views, in the order in which they can be created."""
    made = [View(name, *_read(resources.sql_dir() / "views" / f"{name}.sql")) for name in VIEWS]
    return tuple(
        view._replace(columns={**_field_comments(), **view.columns}) if view.name == "contexts" else view
        for view in made
    )


def _field_comments() -> dict[str, str]:
    """What the table of the context's fields says of each; of a knob the view has two values."""
    told = {}
    for field in FIELDS:
        unit = "" if field.unit in ("", "1") else f", {field.unit}"
        told[field.name] = field.doc.removesuffix(".") + unit
        if field.role == "knob":
            told[f"base_{field.name}"] = f"{told[field.name]}; before the chain"
            told[field.name] += "; as the chain left it"
    return told


def question_names() -> list[str]:
    """Names of all saved questions."""
    return sorted(path.stem for path in resources.sql_dir().glob("*.sql"))


def load_question(name: str) -> Question:
    """A saved question by name.

    Raises:
        QueryError: naming the nearest one, if there is none.

    """
    if name not in question_names():
        raise QueryError(f"no saved question {name!r}{suggest_name(name, question_names())}")
    return Question(name, *_read(resources.sql_dir() / f"{name}.sql"))


def load_page_query(name: str) -> Question:
    """A query of the audit pages, in `sql/pages`.

    Raises:
        QueryError: if there is none.

    """
    names = sorted(path.stem for path in (resources.sql_dir() / "pages").glob("*.sql"))
    if name not in names:
        raise QueryError(f"no page query {name!r}{suggest_name(name, names)}")
    return Question(name, *_read(resources.sql_dir() / "pages" / f"{name}.sql"))


def _read(path: Path) -> tuple[str, dict[str, str], str]:
    """The first comment line, the `name: meaning` lines after it, and the SQL."""
    head: list[str] = []
    named: dict[str, str] = {}
    body: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if body or not line.startswith("--"):
            body.append(line)
            continue
        name, colon, meaning = line[2:].strip().partition(": ")
        if colon and name.isidentifier():
            named[name] = meaning
        else:
            head.append(line[2:].strip())
    return " ".join(head), named, "\n".join(body).strip()
