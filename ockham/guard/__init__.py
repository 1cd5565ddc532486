"""Guard for user SQL: a fail-closed allow-list, then a child process with limits and a locked connection.

Names are imported on first use. The child imports this package before it gives up write access, and that
must happen before Arrow starts threads.
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
