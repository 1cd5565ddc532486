"""Calls that depend on the clock, the time zone or random numbers are found in the text of a query."""

from __future__ import annotations

import pytest
import sqlglot

from ockham.guard import check_query
from ockham.guard.stability import (
    UNSTABLE_FILE,
    find_unstable_calls,
    list_unstable_functions,
    load_unstable_functions,
)


def unstable_calls(text):
    return list(find_unstable_calls(text, list(sqlglot.parse_one(text, dialect="duckdb").walk())))


def test_list_is_that_of_the_installed_database():
    """A new version of DuckDB needs a new list."""
    assert UNSTABLE_FILE.read_text(encoding="ascii").splitlines() == list_unstable_functions()


@pytest.mark.parametrize("name", sorted(load_unstable_functions()))
def test_every_unstable_function_is_found(name):
    """With each number of arguments, in any case, quoted, and after a schema."""
    for count in load_unstable_functions()[name]:
        arguments = ", ".join("[(x, y)]" for _ in range(count))
        for written in (name, name.upper(), f'"{name}"', f"main.{name}"):
            assert list(find_unstable_calls(f"select {written} ({arguments})", [])), (written, count)


@pytest.mark.parametrize(
    "text", ["select epoch(time), round(x, 2), max(val_loss) from events", "select 'now()' as random from t"]
)
def test_query_of_logged_values_is_stable(text):
    """Text and column names are not calls."""
    assert unstable_calls(text) == []


@pytest.mark.parametrize(
    "call",
    "now() today() current_date current_time current_timestamp localtime localtimestamp "
    "get_current_timestamp() transaction_timestamp() age(time)".split(),
)
def test_clock_that_a_query_may_read_is_found(call):
    """A query may read the clock. A constraint of a decision record may not."""
    check_query(f"select {call} from events", ["events"])
    assert unstable_calls(f"select {call} from events") == [call.partition("(")[0]]


def test_plain_query_keeps_the_clock():
    """Only constraints of decision records are limited."""
    check_query("select current_timestamp, age(time) from events", ["events"])
