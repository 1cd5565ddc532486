"""Views, saved questions and page queries: SQL files whose first comment lines describe them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ockham import resources
from ockham.errors import QueryError, suggest_name
from ockham.fields import CARRIED_OVER, FIELDS
from ockham.resources import VIEWS

# Views whose columns are those of `contexts`.
_VIEWS_OF_CONTEXTS = ("contexts", "current_batches")
LIST_VIEWS = """
select view, any_value(view_comment) as meaning, count(*) as columns
from data_dictionary group by view order by view
"""
LIST_COLUMNS = 'select "column", type, comment as meaning from data_dictionary where view = $view'


class View(NamedTuple):
    """View with its comment, the comments of its columns, and its SELECT."""

    name: str
    comment: str
    columns: Mapping[str, str]
    select: str


class Question(NamedTuple):
    """Saved question: its text, its parameters with their meaning, and its SQL."""

    name: str
    question: str
    parameters: Mapping[str, str]
    sql: str


@functools.cache
def load_views() -> tuple[View, ...]:
    """Return all views, in the order in which they can be created."""
    views = [View(name, *_parse_file(resources.sql_dir() / "views" / f"{name}.sql")) for name in VIEWS]
    contexts = {**_field_comments(), **next(view.columns for view in views if view.name == "contexts")}
    return tuple(
        view._replace(columns={**contexts, **view.columns}) if view.name in _VIEWS_OF_CONTEXTS else view
        for view in views
    )


def _field_comments() -> dict[str, str]:
    """Return the comments of the context fields: meaning, unit, and whether a gauge is carried over.

    A knob has two columns: before and after the chain.
    """
    comments = {}
    for field in FIELDS:
        unit = "" if field.unit in ("", "1") else f", {field.unit}"
        comment = field.doc.removesuffix(".") + unit
        if field.role == "knob":
            comments[f"base_{field.name}"] = f"{comment}; before the chain"
            comment += "; after the chain"
        elif field.role == "gauge":
            carried = field.name in CARRIED_OVER
            comment += (
                "; carried over unless measured_gauges contains it" if carried else "; never carried over"
            )
        comments[field.name] = comment
    return comments


def question_names() -> list[str]:
    """Return the names of all saved questions, sorted."""
    return sorted(path.stem for path in resources.sql_dir().glob("*.sql"))


def load_question(name: str) -> Question:
    """Return a saved question by name.

    Raises:
        QueryError: If the question does not exist. The message contains the most similar name.

    """
    if name not in question_names():
        raise QueryError(f"{name!r}: saved question not found{suggest_name(name, question_names())}")
    return Question(name, *_parse_file(resources.sql_dir() / f"{name}.sql"))


def load_page_query(name: str) -> Question:
    """Return a query of the dashboard pages, from `sql/pages`.

    Raises:
        QueryError: If the query does not exist.

    """
    names = sorted(path.stem for path in (resources.sql_dir() / "pages").glob("*.sql"))
    if name not in names:
        raise QueryError(f"{name!r}: page query not found{suggest_name(name, names)}")
    return Question(name, *_parse_file(resources.sql_dir() / "pages" / f"{name}.sql"))


def _parse_file(path: Path) -> tuple[str, dict[str, str], str]:
    """Return the description, the `name: meaning` lines and the SQL of a file."""
    description: list[str] = []
    meanings: dict[str, str] = {}
    body: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if body or not line.startswith("--"):
            body.append(line)
            continue
        name, colon, meaning = line[2:].strip().partition(": ")
        if colon and name.isidentifier():
            meanings[name] = meaning
        else:
            description.append(line[2:].strip())
    return " ".join(description), meanings, "\n".join(body).strip()
