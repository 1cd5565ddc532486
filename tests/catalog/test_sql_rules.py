"""Rules of the saved questions and page queries: rows are counted as the internal views define it."""

from __future__ import annotations

import re

import pytest

from ockham import resources
from ockham.catalog import Catalog

# Queries about other rows than the counted ones, and why.
EXCEPTIONS = {
    "lineage.sql": "follows one checkpoint, also if a resume superseded it",
    "rank_losses.sql": "compares the ranks",
    "superseded_work.sql": "lists what was superseded",
    "why_skipped.sql": "explains one batch on every rank and attempt",
    "pages/adjacent_decisions.sql": "finds the neighbours of one decision in its log",
    "pages/batch_decisions.sql": "shows the rank that the page selects",
    "pages/decision.sql": "shows one decision",
    "pages/decisions_by_id_prefix.sql": "finds decisions by ID",
    "pages/people_of_decision.sql": "explains one decision, also if it does not count",
    "pages/timeline_events.sql": "lists every resume",
}
QUERIES = sorted(
    str(path.relative_to(resources.sql_dir()))
    for folder in ("", "pages")
    for path in (resources.sql_dir() / folder).glob("*.sql")
)


def statement(name):
    """Return the SQL of a file without its comments."""
    text = (resources.sql_dir() / name).read_text(encoding="utf-8")
    return "\n".join(line.split("--")[0] for line in text.splitlines())


FIGURES = [name for name in QUERIES if name not in EXCEPTIONS]


def test_exceptions_exist():
    """A query that was removed or renamed is removed here too."""
    assert set(EXCEPTIONS) < set(QUERIES)


@pytest.mark.parametrize("name", FIGURES)
def test_query_does_not_repeat_the_filter_of_counted_rows(name):
    """`counted` and `acting` are the filter: signed, not superseded, rank 0, and not in shadow."""
    sql = statement(name)
    assert "superseded" not in sql
    assert not re.search(r'"?rank"? = 0', sql)
    # A column can be about shadow, a filter cannot.
    assert not re.search(r"not (\w+\.)?shadow\b(?! as)", sql)


@pytest.mark.parametrize("name", FIGURES)
def test_query_about_batches_reads_the_internal_views(name):
    """Batches are in `current_batches`, steps in `current_steps`, fresh gauges in `measured_gauges`."""
    sql = statement(name)
    for part in re.split(r"\b(?:from|join)\b", sql)[1:]:
        if re.match(r"\s+contexts\b", part):
            assert "'batch'" not in part, "read current_batches"
    assert "list_contains(measured_gauges" not in sql


@pytest.fixture(scope="module")
def filtered_views(tmp_path_factory):
    """Views with other rows than the counted ones."""
    catalog = Catalog(tmp_path_factory.mktemp("empty"))
    rows = catalog.rows("select view from data_dictionary where \"column\" = 'counted'")
    return {row["view"] for row in rows} - {"current_batches"}


@pytest.mark.parametrize("name", FIGURES)
def test_query_that_reads_rows_of_a_run_counts_them(name, filtered_views):
    """Each of these views is filtered once."""
    sql = statement(name)
    reads = re.findall(rf"\b(?:from|join)\s+(?:{'|'.join(filtered_views)})\b", sql)
    rules = re.findall(r"\b(?:counted|acting|signed)\b", sql)
    assert len(rules) >= len(reads)


def test_filtered_views_are_those_of_rows_of_a_run(filtered_views):
    """An empty set would accept every query."""
    assert {"contexts", "decisions", "events", "evaluations", "checkpoints", "rollbacks"} <= filtered_views
