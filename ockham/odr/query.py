"""Queries of constraints. Their SQL is untrusted, so it runs in the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ockham.arrow_values import table_rows

# A run ID, or a list of run IDs.
QueryValue = str | list[str]
# Asks SQL with parameters; gives at most a few rows.
QueryFunction = Callable[[str, Mapping[str, QueryValue]], list[dict[str, Any]]]
# Opens a runs folder for asking.
OpenQueries = Callable[[Path], AbstractContextManager[QueryFunction]]
# One is right, a second shows that it is not one.
MAX_ROWS = 2
QUERY_TIMEOUT_SECONDS = 30.0


@contextmanager
def guarded_queries(runs: Path) -> Iterator[QueryFunction]:
    """Context manager that yields a query function of the guard.

    *runs* contains only pinned lines, so all of them count as signed. One process runs all constraints of a
    record on one thread, so that sums have the same digits every time.
    """
    from ockham.guard import Guard

    with Guard(runs, timeout=QUERY_TIMEOUT_SECONDS, limit=MAX_ROWS, threads=1, pinned=True) as guard:

        def ask(sql: str, parameters: Mapping[str, QueryValue]) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = table_rows(guard.query(sql, parameters).table)
            return rows

        yield ask
