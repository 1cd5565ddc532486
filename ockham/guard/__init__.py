"""SQL that a person wrote: an allow-list that fails closed, then a child process with limits on a locked connection.

The names are resolved on first use: the child imports this package before it has given up writing, and Arrow starts threads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ockham.guard.guard import Guard as Guard
    from ockham.guard.guard import QueryResult as QueryResult
    from ockham.guard.sql_allowlist import check_query as check_query

_LAZY_IMPORTS = {"QueryResult": "guard", "Guard": "guard", "check_query": "sql_allowlist"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY_IMPORTS[name]}"), name)
