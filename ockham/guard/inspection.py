"""DESCRIBE, SHOW and SUMMARIZE, rewritten as queries that the guard accepts.

DuckDB's own answers to DESCRIBE and SHOW contain no meaning of a column, and they list internal tables.
So a view is described from the data dictionary. The query after DESCRIBE or SUMMARIZE must itself be
accepted.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ockham.catalog.views import LIST_COLUMNS, LIST_VIEWS
from ockham.errors import QueryError, suggest_name
from ockham.guard.sql_allowlist import check_query

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*(?:(?!/\*|\*/).)*\*/)*", re.DOTALL)
_STATEMENT = re.compile(r"(describe|desc|show|summarize)\b\s*(.*)", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r'"?([A-Za-z_][A-Za-z0-9_]*)"?')
_LISTS = frozenset({"", "tables", "views", "all tables", "all views"})


def rewrite_inspection(text: str, views: Collection[str]) -> str:
    """Return a checked query for DESCRIBE, SHOW or SUMMARIZE; other text is checked and returned unchanged.

    Args:
        text: User SQL without a semicolon at its end.
        views: Names of the views that may be read.

    Raises:
        QueryError: If the text is refused, see `check_query`.

    """
    comments = _COMMENTS.match(text)
    statement = _STATEMENT.fullmatch(text, comments.end() if comments else 0)
    if statement is None:
        check_query(text, views)
        return text
    keyword, target = statement[1].casefold(), statement[2].strip()
    if keyword != "summarize" and target.casefold() in _LISTS:
        return LIST_VIEWS
    name = _NAME.fullmatch(target)
    if name is None and keyword != "show":
        check_query(target, views)
        return f"summarize {target}" if keyword == "summarize" else f"describe {target}"
    view = next((view for view in views if name is not None and view.casefold() == name[1].casefold()), None)
    if view is None:
        raise QueryError(
            f"{keyword.upper()} {target!r:.80}: view does not exist{suggest_name(target, views)}; "
            "SHOW TABLES lists all views"
        )
    if keyword == "summarize":
        return f'summarize "{view}"'
    return LIST_COLUMNS.replace("$view", f"'{view}'")
