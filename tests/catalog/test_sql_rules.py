"""Rules of the saved questions and page queries: rows are counted as the internal views define it."""

from __future__ import annotations

import re

import pytest

from ockham import resources

# Reads the rank that the page shows, and every attempt.
ONE_RANK = "pages/batch_decisions.sql"
# A resume is listed also if a later one superseded it.
ALL_RESUMES = "pages/timeline_events.sql"
# Look one row up by its ID, or explain one batch on every rank and attempt.
LOOK_UP = {
    "why_skipped.sql",
    "lineage.sql",
    "pages/adjacent_decisions.sql",
    "pages/decision.sql",
    "pages/decisions_by_id_prefix.sql",
    ONE_RANK,
}
ROWS_OF_A_RUN = (
    "contexts",
    "decisions",
    "gate_decisions",
    "compressor_decisions",
    "limiter_decisions",
    "memory_decisions",
    "hyperparameter_changes",
    "evaluations",
    "checkpoints",
    "rollbacks",
)
QUERIES = sorted(
    str(path.relative_to(resources.sql_dir()))
    for folder in ("", "pages")
    for path in (resources.sql_dir() / folder).glob("*.sql")
)


def statement(name):
    """Return the SQL of a file without its comments."""
    text = (resources.sql_dir() / name).read_text(encoding="utf-8")
    return "\n".join(line.split("--")[0] for line in text.splitlines())


@pytest.mark.parametrize("name", QUERIES)
def test_query_does_not_repeat_the_filter_of_counted_rows(name):
    """`counted` and `acting` are the filter: signed, not superseded, rank 0, and not in shadow."""
    sql = statement(name)
    assert name == ONE_RANK or "superseded" not in sql
    assert name == ALL_RESUMES or not re.search(r'"?rank"? = 0', sql)
    assert not re.search(r"not (\w+\.)?shadow", sql)


@pytest.mark.parametrize("name", QUERIES)
def test_query_about_batches_reads_the_internal_views(name):
    """Batches are in `current_batches`, steps in `current_steps`, fresh gauges in `measured_gauges`."""
    sql = statement(name)
    for part in re.split(r"\b(?:from|join)\b", sql)[1:]:
        if re.match(r"\s+contexts\b", part):
            assert "'batch'" not in part, "read current_batches"
    assert "list_contains(measured_gauges" not in sql


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in LOOK_UP])
def test_query_that_reads_rows_of_a_run_counts_them(name):
    """A file that reads one of these views says which rows it counts."""
    sql = statement(name)
    views = "|".join(ROWS_OF_A_RUN)
    reads = re.findall(rf"\b(?:from|join)\s+(?:{views})\b", sql)
    rules = re.findall(r"\b(?:counted|acting|signed)\b", sql)
    assert len(rules) >= len(reads)
