"""Values of Arrow columns, also those outside of the range of Python."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from ockham.arrow_values import column_values, table_rows

INFINITE = [
    ("timestamp 'infinity'", "infinity"),
    ("timestamptz '-infinity'", "-infinity"),
    ("date 'infinity'", "infinity"),
    ("date '-infinity'", "-infinity"),
    ("[timestamp 'infinity', null]", ["infinity", None]),
    ("[[date 'infinity']]", [["infinity"]]),
    ("{'x': timestamp 'infinity', 'y': 1}", {"x": "infinity", "y": 1}),
    ("map {'k': timestamp '-infinity'}", [("k", "-infinity")]),
    ("{'a': [{'b': timestamp 'infinity'}]}", {"a": [{"b": "infinity"}]}),
]


@pytest.mark.parametrize(("sql", "expected"), INFINITE)
def test_infinite_times_are_text(sql, expected):
    """Also in lists, structs and maps of DuckDB, with a null in the next row."""
    table = duckdb.sql(f"select {sql} as v union all select null order by v nulls last").to_arrow_table()
    assert column_values(table.column("v")) == [expected, None]
    assert table_rows(table) == [{"v": expected}, {"v": None}]


def test_times_beyond_year_9999_are_a_number_with_a_unit():
    """DuckDB has years up to 294246."""
    table = duckdb.sql("select timestamp '20000-01-01' as v").to_arrow_table()
    assert column_values(table.column("v")) == ["568971820800000000 us"]


def test_ordinary_values_are_those_of_arrow():
    """Nothing else is changed."""
    table = pa.table({"n": [1, None], "t": ["a", "b"], "x": [1.5, float("inf")]})
    assert table_rows(table) == table.to_pylist()
