"""Asking a constraint of a runs folder: through the catalog, as SQL that a stranger wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.catalog import Catalog


def ask(runs: Path, sql: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of a query.

    Raises:
        QueryError: if it cannot be answered.

    """
    rows: list[dict[str, Any]] = Catalog(runs).sql(sql, dict(parameters)).to_pylist()
    return rows
