"""DESCRIBE, SHOW and SUMMARIZE through the guard."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import QueryError
from ockham.guard import Guard
from ockham.guard.inspection import rewrite_inspection
from tests.helpers.events import events
from tests.helpers.runs import make_run

VIEWS = ["decisions", "events", "runs", "data_dictionary"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("inspection"), batches=40)


@pytest.fixture(scope="module")
def guard(run):
    with Guard(run.folder.runs, timeout=60) as warm:
        yield warm


@pytest.mark.parametrize(
    "text",
    ["describe decisions", "DESC decisions;", "show decisions", '-- columns?\n describe "Decisions"'],
)
def test_description_of_view_contains_meaning_of_columns(guard, text):
    """The rows are the columns of the view in order, with type and meaning."""
    rows = guard.query(text).table.to_pylist()
    assert rows[0] == {
        "column": "decision_id",
        "type": "VARCHAR",
        "meaning": "ID of the decision (UUIDv7), the same as its event's",
    }
    assert [row["column"] for row in rows] == guard.query("from decisions limit 0").table.column_names


@pytest.mark.parametrize(
    "text", ["show tables", "SHOW ALL TABLES", "describe", "/* all */ show views", "show"]
)
def test_list_of_tables_contains_only_views(guard, text):
    """Internal tables are not listed."""
    names = [row["view"] for row in guard.query(text).table.to_pylist()]
    assert {"decisions", "contexts", "odrs"} <= set(names)
    assert not [name for name in names if name.startswith("raw_") or name.endswith("_")]


def test_description_of_query_contains_its_columns(guard):
    """DESCRIBE of a query does not run it."""
    rows = guard.query("describe select 1 as a, time from events, range(100000000000)").table.to_pylist()
    assert [(row["column_name"], row["column_type"]) for row in rows] == [
        ("a", "INTEGER"),
        ("time", "TIMESTAMP"),
    ]


@pytest.mark.parametrize("target", ["gate_decisions", "select observed from gate_decisions"])
def test_summary_equals_log_lines(run, guard, target):
    """Lowest, highest and mean value are those of the lines."""
    observed = [
        event["data"]["observed"]
        for event in events(run.folder)
        if event["type"] == "ockham.decision.made.v1" and event["data"]["plugin"] == "gate"
    ]
    rows = {row["column_name"]: row for row in guard.query(f"summarize {target}").table.to_pylist()}
    assert rows["observed"]["count"] == len(observed)
    assert float(rows["observed"]["min"]) == min(observed)
    assert float(rows["observed"]["max"]) == max(observed)
    assert float(rows["observed"]["avg"]) == pytest.approx(statistics.fmean(observed))


def test_pivot_and_sample_run_in_the_guard_process(guard):
    """A pivot finds its columns itself. A sample with a seed has the same rows each time."""
    [row] = guard.query("pivot gate_decisions on action using count(*) group by plugin").table.to_pylist()
    assert row["SKIP"] + row["UPDATE"] == 40
    sample = "select decision_id from decisions tablesample reservoir(10) repeatable (42) order by all"
    rows = guard.query(sample).table
    assert rows.num_rows == 10
    assert all(guard.query(sample).table == rows for _ in range(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("describe decison", r"DESCRIBE 'decison': view does not exist; did you mean 'decisions'"),
        ("summarize raw_events", "view does not exist"),
        ("show databases", "SHOW TABLES lists all views"),
        ("show from runs", "view does not exist"),
        ("describe sqlite_master", "view does not exist"),
        ("describe select * from sqlite_master", "view does not exist"),
        ("summarize select * from '/etc/passwd'", "view does not exist"),
        ("summarize read_csv('/etc/passwd')", "refused"),
        ("summarize '/etc/passwd'", "refused"),
        ("describe insert into runs values (1)", "refused"),
        ("describe select 1; drop table runs", "2 statements"),
        ("summarize (copy runs to '/tmp/x')", "not understood|refused"),
        ("describe extended runs", "refused|not understood"),
        ("describe database runs", "refused|not understood"),
        ("summarize", "refused|not understood|0 statements"),
        ("/* /* */ describe runs */ drop table runs", "refused"),
        ("-- a\r describe runs\ndrop table runs", "refused|not understood"),
    ],
)
def test_description_of_other_things_is_refused(text, message):
    """Only views and accepted queries are described."""
    with pytest.raises(QueryError, match=message):
        rewrite_inspection(text, VIEWS)


@given(st.sampled_from(["describe ", "show ", "summarize ", "desc\n", "--x\nshow "]), st.text(max_size=80))
def test_any_target_raises_only_query_error(keyword, target):
    """For any text the check passes or raises a QueryError."""
    try:
        rewrite_inspection(keyword + target, VIEWS)
    except QueryError:
        pass
