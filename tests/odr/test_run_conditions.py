"""SQL of a constraint that passes lint measures only the runs of its evidence, whatever other runs exist."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import OckhamError
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.evidence_rules import find_outside_runs
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import EvidenceSide, RecordData
from tests.odr.small_runs import make_run

PAIR = {"baseline": "base", "candidate": "cand"}
# The outside run: its name is a part of a run's name, and its values are different.
OUTSIDE = "an"
ONE_PAIR = RecordData(
    baselines=(EvidenceSide("baseline", "base"),), candidates=(EvidenceSide("candidate", "cand"),)
)
# {r} is the column, with or without a relation.
SAFE = (
    "{r} = $candidate",
    "$baseline = {r}",
    "({r} = $candidate)",
    "{r} IN ($baseline, $candidate)",
    "{r} IN ($candidate)",
    "({r} = $candidate OR {r} = $baseline)",
    "{r} = 'cand'",
    "{r} = ANY([$baseline, 'cand'])",
    "list_contains([$baseline, $candidate], {r})",
)
UNSAFE = (
    "true",
    "{r} <> $candidate",
    "NOT ({r} = $candidate)",
    "NOT {r} = $candidate",
    "{r} NOT IN ($candidate)",
    "{r} IS DISTINCT FROM $candidate",
    "{r} >= $baseline",
    "({r} = $candidate OR 1 = 1)",
    "({r} = $candidate OR {r} IS NOT NULL)",
    "({r} = $candidate) IS NOT NULL",
    "coalesce({r} <> $candidate, true)",
    "{r} IN $candidate",
    "{r} LIKE '%' || $candidate",
    "contains($candidate, {r})",
    "{r} BETWEEN $baseline AND $candidate",
    "CASE WHEN {r} = $candidate THEN true ELSE true END",
    "{r} = {r}",
    "($candidate = 'cand')",
)
JOINS = ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "CROSS JOIN", ",")
ODD_JOINS = ("POSITIONAL JOIN", "NATURAL JOIN", "ASOF JOIN")
NESTED = (
    """WITH p AS (SELECT run_id, val_loss FROM evaluations WHERE {0})
    SELECT sum(val_loss) AS value, count(*) AS n FROM p WHERE {1}""",
    """SELECT (SELECT max(val_loss) FROM evaluations WHERE {0}) AS value, batches AS n
    FROM run_summary WHERE {1} LIMIT 1""",
    """SELECT sum(v) AS value, count(*) AS n FROM (
        SELECT val_loss AS v FROM evaluations WHERE {0}
        UNION ALL SELECT iter_num FROM gate_decisions WHERE {1})""",
    "SELECT sum(val_loss) AS value, count(*) AS n FROM (FROM evaluations WHERE {0}) WHERE {1}",
)
# Accepted with each safe condition on `run_id` of evaluations.
ACCEPTED = (
    "SELECT avg(val_loss) AS value, count(*) AS n FROM evaluations WHERE {0}",
    """SELECT max(val_loss) FILTER (WHERE {0}) AS value, count(*) FILTER (WHERE {0}) AS n
    FROM evaluations""",
    """WITH p AS (SELECT val_loss AS v FROM evaluations WHERE {0})
    SELECT avg(p.v) AS value, count(*) AS n FROM p, reason_codes""",
    "SELECT max(val_loss) AS value, count(*) AS n FROM evaluations JOIN runs USING (run_id) WHERE {0}",
)
# Accepted with each safe condition on `e.run_id`.
ACCEPTED_QUALIFIED = (
    """SELECT count(*) FILTER (WHERE NOT EXISTS (
        SELECT 1 FROM decisions d WHERE d.run_id = e.run_id
    )) AS value, count(*) AS n FROM evaluations e WHERE {0}""",
    "SELECT sum(e.val_loss) AS value, count(*) AS n FROM evaluations e JOIN runs r USING (run_id) WHERE {0}",
    """SELECT sum(e.val_loss) AS value, count(*) AS n
    FROM evaluations e LEFT JOIN decisions d ON d.run_id = e.run_id WHERE {0}""",
)


@st.composite
def conditions(draw, column="run_id", fragments=(*SAFE, *UNSAFE)):
    """Conditions on one run, joined by AND, OR and NOT."""
    form = draw(st.sampled_from(("{0}", "{0}", "{0} AND {1}", "({0} OR {1})", "NOT ({0} AND {1})")))
    return form.format(*(draw(st.sampled_from(fragments)).format(r=column) for _ in range(2)))


def safe_conditions(column="run_id"):
    """Conditions that only runs of the evidence satisfy, and that name no other text."""
    others = [fragment for fragment in (*SAFE, *UNSAFE) if "%" not in fragment]
    return st.tuples(st.sampled_from(SAFE), st.sampled_from(others)).map(
        lambda parts: " AND ".join(parts).format(r=column)
    )


@st.composite
def statements(draw):
    """Statements over two views in the forms that people write, and in some that they do not."""
    shape = draw(st.sampled_from((_plain, _filtered, _nested, _joined, _correlated)))
    return shape(draw)


def _plain(draw):
    relation = draw(st.sampled_from(("evaluations", "evaluations AS e", "evaluations e(iter_num, run_id)")))
    column = "run_id" if relation == "evaluations" else draw(st.sampled_from(("run_id", "e.run_id")))
    value = draw(st.sampled_from(("sum(iter_num)", "max(val_loss)", "count(DISTINCT run_id)")))
    return f"SELECT {value} AS value, count(*) AS n FROM {relation} WHERE {draw(conditions(column))}"


def _filtered(draw):
    inside, other = draw(conditions()), draw(safe_conditions())
    value = draw(
        st.sampled_from(
            (
                "min(val_loss) FILTER (WHERE {0})",
                "sum(val_loss) FILTER (WHERE {1}) / max(val_loss) FILTER (WHERE {0})",
                "sum(val_loss) FILTER (WHERE {1}) / sum(val_loss)",
                "max(val_loss) FILTER (WHERE {1}) + product(2)",
                "max(val_loss) FILTER (WHERE {1}) + list(1)[9]",
                "(SELECT sum(val_loss) FROM runs WHERE {1})",
                "max(count(*) FILTER (WHERE {1})) OVER ()",
            )
        )
    ).format(inside, other)
    n = draw(st.sampled_from(("count(*)", f"count(*) FILTER (WHERE {other})", "3")))
    end = draw(
        st.sampled_from(("", "", " GROUP BY iter_num", " HAVING count(*) > 6", " WHERE iter_num > 40"))
    )
    return f"SELECT {value} AS value, {n} AS n FROM evaluations{end}"


def _nested(draw):
    return draw(st.sampled_from(NESTED)).format(draw(conditions()), draw(conditions()))


def _joined(draw):
    kind = draw(st.sampled_from((*JOINS, *ODD_JOINS)))
    on = draw(
        st.sampled_from(
            (
                "ON a.run_id = b.run_id",
                "ON a.iter_num > b.iter_num AND a.run_id = b.run_id",
                "ON a.run_id = b.run_id OR a.iter_num = b.iter_num",
                "ON a.iter_num >= b.iter_num",
                f"ON a.iter_num > b.iter_num AND {draw(conditions('a.run_id'))}",
                f"ON a.iter_num > b.iter_num AND {draw(conditions('b.run_id'))}",
                "USING (run_id)",
                "USING (run_id, iter_num)",
            )
        )
    )
    if kind in {",", "CROSS JOIN", "POSITIONAL JOIN", "NATURAL JOIN"}:
        on = ""
    columns = (
        ("run_id", "a.run_id") if kind in {"SEMI JOIN", "ANTI JOIN"} else ("run_id", "a.run_id", "b.run_id")
    )
    where = " AND ".join(
        draw(conditions(draw(st.sampled_from(columns)))) for _ in range(draw(st.integers(1, 2)))
    )
    third = draw(
        st.sampled_from(("", "", " JOIN runs c ON true", " LEFT JOIN runs c ON c.run_id = b.run_id"))
    )
    text = f"FROM evaluations a {kind} decisions b {on}{third} WHERE {where}"
    return f"SELECT sum(a.iter_num) AS value, count(*) AS n {text}"


def _correlated(draw):
    link = draw(
        st.sampled_from(("d.run_id = e.run_id", "d.run_id >= e.run_id", draw(conditions("d.run_id"))))
    )
    exists = draw(st.sampled_from(("EXISTS", "NOT EXISTS")))
    inside = f"{exists} (SELECT 1 FROM decisions d WHERE {link} AND d.iter_num + 9 > e.iter_num)"
    where = draw(conditions("e.run_id"))
    if draw(st.booleans()):
        return f"SELECT sum(iter_num) AS value, count(*) AS n FROM evaluations e WHERE {where} AND {inside}"
    return f"SELECT count(*) FILTER (WHERE {inside}) AS value, count(*) AS n FROM evaluations e WHERE {where}"


@pytest.fixture(scope="module")
def asks(tmp_path_factory):
    """Query functions: one sees the pair only, the other one also the run outside of the evidence."""
    pair, more = tmp_path_factory.mktemp("pair"), tmp_path_factory.mktemp("more")
    for runs in (pair, more):
        make_run(runs, "base", loss=2.0)
        make_run(runs, "cand", loss=1.75)
    make_run(more, OUTSIDE, loss=7.5)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(guarded_queries(runs)) for runs in (pair, more)]


def read(ask, sql):
    """Return values and n, or None if the database refuses the statement."""
    parameters = {name: PAIR[name] for name in analyze_sql(sql).parameters}
    try:
        rows = ask(sql, parameters)
    except OckhamError:
        return None
    return [[row[name] if row[name] is None else float(row[name]) for row in rows] for name in ("value", "n")]


def is_accepted(sql):
    """Return True if lint accepts the statement."""
    statement = analyze_sql(sql)
    return not statement.problems and not list(find_outside_runs(ONE_PAIR, statement))


@settings(max_examples=400, deadline=None)
@given(sql=statements())
def test_accepted_statement_reads_the_same_with_another_run(asks, sql):
    """The run outside of the evidence changes neither value nor n."""
    if not is_accepted(sql):
        return
    without, present = (read(ask, sql) for ask in asks)
    if without is None or present is None:
        assert without == present
        return
    assert present[0] == pytest.approx(without[0], nan_ok=True)
    if not analyze_sql(sql).unrestricted.counts_all:
        assert present[1] == without[1]


@settings(max_examples=60, deadline=None)
@given(condition=safe_conditions(), qualified=safe_conditions("e.run_id"))
def test_restricted_statement_is_accepted(condition, qualified):
    """The rule refuses none of the usual forms."""
    for form in ACCEPTED:
        assert is_accepted(form.format(condition)), form
    for form in ACCEPTED_QUALIFIED:
        assert is_accepted(form.format(qualified)), form


@pytest.mark.parametrize("form", [*ACCEPTED, *ACCEPTED_QUALIFIED])
def test_database_answers_the_usual_forms(asks, form):
    """Lint accepts them for their conditions, and not because they fail."""
    column = "e.run_id" if form in ACCEPTED_QUALIFIED else "run_id"
    assert read(asks[1], form.format(f"{column} = $candidate")) is not None


@pytest.mark.parametrize("fragment", UNSAFE)
def test_condition_that_other_runs_satisfy_is_refused(fragment):
    """Also in FILTER, and if one branch of OR has it."""
    for condition in (fragment, f"({fragment} OR {{r}} = $candidate)"):
        where = condition.format(r="run_id")
        assert not is_accepted(f"SELECT sum(iter_num) AS value, count(*) AS n FROM evaluations WHERE {where}")
        assert not is_accepted(
            f"SELECT sum(iter_num) FILTER (WHERE {where}) AS value, 9 AS n FROM evaluations"
        )


@pytest.mark.parametrize(
    "rest",
    [
        "a SEMI JOIN decisions b ON a.iter_num = b.iter_num WHERE run_id = $candidate",
        "a ASOF JOIN decisions b ON a.iter_num > b.iter_num WHERE a.run_id = 'cand' AND b.run_id = 'cand'",
        "a POSITIONAL JOIN decisions b WHERE a.run_id = $candidate AND b.run_id = $candidate",
        "a LEFT JOIN reason_codes r ON a.run_id = $candidate",
        "a(iter_num, run_id) WHERE a.run_id = $candidate",
        "a WHERE a.run_id = $candidate AND EXISTS (SELECT 1 FROM decisions a WHERE a.iter_num > 3)",
    ],
)
def test_form_without_a_condition_for_each_row_is_refused(rest):
    """The generated statements contain them too rarely."""
    assert not is_accepted(f"SELECT sum(iter_num) AS value, count(*) AS n FROM evaluations {rest}")


def test_filter_in_groups_is_refused():
    """The number of groups depends on all runs."""
    sql = "SELECT max(val_loss) FILTER (WHERE run_id = $candidate) AS value, 3 AS n FROM evaluations"
    assert is_accepted(sql)
    assert not is_accepted(f"{sql} GROUP BY iter_num")
