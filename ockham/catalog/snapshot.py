"""Snapshot of a catalog: several queries that see the files as one scan has read them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from ockham.errors import QueryError

MAX_ERROR_CHARACTERS = 600


class CatalogSnapshot:
    """One version of a catalog, in which later scans are not visible. Create it with `Catalog.snapshot`.

    It is a transaction that reads only, so it keeps the tables of its version in memory until it is closed.

    Args:
        cursor: Cursor of the connection of the catalog. The snapshot owns it.
        version: Version of the catalog.

    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, version: int) -> None:
        self.version = version
        self._cursor = cursor
        self._lock = threading.Lock()
        self._cursor.execute("begin transaction read only")
        # DuckDB fixes the version when the transaction first reads.
        self._cursor.execute("select 1 from raw_runs limit 0")

    def sql(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run trusted SQL and return the result. User SQL must be run with `ockham.guard`.

        Args:
            text: One statement. Parameters are written `$name`.
            parameters: Values of the parameters.

        Raises:
            QueryError: If DuckDB rejects the query, or a Parquet file of this version was removed. The
                snapshot cannot be used after that.

        """
        with self._lock:
            try:
                relation = self._cursor.sql(text, params=dict(parameters) if parameters else None)
                result: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
            except duckdb.Error as error:
                raise QueryError(" ".join(str(error).split())[:MAX_ERROR_CHARACTERS]) from None
            return result

    def close(self) -> None:
        """End the transaction. Calling it again has no effect."""
        with self._lock, contextlib.suppress(duckdb.Error):
            self._cursor.close()
