"""SQL that a person wrote: an allow-list that fails closed, then a child process with limits on a locked connection.

The names are resolved on first use: the child imports this package before it has given up writing, and Arrow starts threads.
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
