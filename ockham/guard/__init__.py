"""Guard for user SQL: a fail-closed allow-list, then a child process with limits and a locked connection.

Names are imported on first use. The child imports this package before it gives up write access, and that
must happen before Arrow starts threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockham._lazy import make_getattr

if TYPE_CHECKING:
    from ockham.guard.guard import Guard as Guard
    from ockham.guard.guard import QueryResult as QueryResult
    from ockham.guard.sql_allowlist import check_query as check_query

_LAZY_IMPORTS = {
    "Guard": "ockham.guard.guard",
    "QueryResult": "ockham.guard.guard",
    "check_query": "ockham.guard.sql_allowlist",
}
__getattr__ = make_getattr(__name__, _LAZY_IMPORTS)
