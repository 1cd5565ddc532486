"""SQL condition on an Arrow table, for tables that are in memory already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa


def filter_table(table: pa.Table, condition: str, parameters: Mapping[str, Any]) -> pa.Table:
    """Return the rows that meet a SQL condition, in the same order.

    Args:
        table: The rows.
        condition: Trusted SQL. Text of users belongs into *parameters*.
        parameters: Values of `$name` in the condition.

    """
    with duckdb.connect(":memory:") as connection:
        connection.register("filtered", table)
        relation = connection.sql(f"from filtered where {condition}", params=dict(parameters) or None)
        result: pa.Table = relation.to_arrow_table()
        return result
