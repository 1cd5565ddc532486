"""Saved questions against the lines of generated runs."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.catalog import Catalog
from ockham.catalog.views import question_names
from tests.helpers.example_counts import examples
from tests.oracle import batch_questions, decision_questions
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.generated_runs import Scenario, scenarios, written_runs
from tests.oracle.log_lines import read_run

# Questions that have tests of their own, with the reason.
ELSEWHERE = {
    "bands": "bands of run_summary; tests/catalog/test_catalog.py",
    "compare_by_tokens": "needs two runs with token counts; tests/catalog/test_run_questions.py",
    "lineage": "needs a checkpoint; tests/catalog/test_decision_questions.py",
    "seed_intervals": "needs runs that differ in the seed only; tests/catalog/test_run_questions.py",
    "shadow_savings": "what did not happen; tests/catalog/test_figures.py",
    "throughput": "depends on the clock; tests/catalog/test_batch_questions.py",
    "uncited": "needs decision records; tests/odr/test_arrow_tables.py",
    "why_skipped": "a list of decisions of one batch; tests/catalog/test_decision_questions.py",
}
ORACLES = {
    name: function
    for module in (batch_questions, decision_questions)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and name in question_names()
}


def test_every_saved_question_has_an_oracle_or_a_reason():
    """A new question cannot be forgotten."""
    assert ORACLES.keys() | ELSEWHERE.keys() == set(question_names())
    assert not ORACLES.keys() & ELSEWHERE.keys()


@settings(max_examples=examples(8), deadline=None)
@given(cases=st.lists(scenarios(), min_size=1, max_size=3))
def test_saved_questions_equal_the_lines(cases):
    """Every figure of every generated run has no difference."""
    with written_runs(cases) as runs:
        compare_questions(runs)


@pytest.mark.parametrize(
    "cases",
    [
        [Scenario(batches=260, micro_steps=4), Scenario(batches=260, policy="tight", seed=1)],
        [Scenario(batches=230, resumed=(120, 200), world_size=2), Scenario(policy="plugins", killed=True)],
    ],
    ids=["accumulation and tight", "resumed ranks and foreign plugins"],
)
def test_saved_questions_of_longer_runs_equal_the_lines(cases):
    """Windows of 100 iterations contain more than 100 batches."""
    with written_runs(cases) as runs:
        compare_questions(runs)


def compare_questions(runs):
    """Compare all questions. Return the number of compared values."""
    lines = {path.name: read_run(path) for path in sorted(runs.iterdir())}
    catalog, compared = Catalog(runs), 0
    for name, oracle in ORACLES.items():
        try:
            compared += assert_equal_rows(catalog.ask(name).to_pylist(), oracle(lines))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return compared
