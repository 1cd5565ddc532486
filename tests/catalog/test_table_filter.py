"""SQL conditions on Arrow tables."""

from __future__ import annotations

import pyarrow as pa

from ockham.catalog.table_filter import filter_table


def test_condition_keeps_matching_rows_in_order():
    """Values are bound, so a quote in them is not SQL. No parameters are needed."""
    table = pa.table({"name": ["b", "a'--", "c"], "tags": [["x"], [], ["y", "x"]]})
    assert filter_table(table, "name = $name", {"name": "a'--"})["name"].to_pylist() == ["a'--"]
    assert filter_table(table, "list_contains(tags, 'x')", {})["name"].to_pylist() == ["b", "c"]
