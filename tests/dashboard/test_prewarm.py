"""Preparation of the first visit."""

from __future__ import annotations

import asyncio

import pytest

from dashboard import prewarm, server, verifier
from ockham.catalog.snapshot import CatalogSnapshot
from ockham.catalog.views import load_page_query
from tests.helpers.damaged_runs import append_invalid_line
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def queries(monkeypatch, tmp_path):
    """Return the list of all SQL that runs on a catalog."""
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    asked = []
    original = CatalogSnapshot.sql

    def sql(self, text, *arguments, **options):
        asked.append(text)
        return original(self, text, *arguments, **options)

    monkeypatch.setattr(CatalogSnapshot, "sql", sql)
    return asked


def test_prewarm_runs_the_queries_of_the_newest_run_once(queries, tmp_path):
    """A second start in the same process, as a visit, finds all results in the cache."""
    make_run(tmp_path, "only", batches=30)
    prewarm.prewarm()
    names = ("workbench", *prewarm.RUN_QUERIES, *prewarm.RANGE_QUERIES)
    expected = {load_page_query(name).sql for name in names}
    assert expected <= set(queries)
    count = len(queries)
    prewarm.prewarm()
    assert len(queries) == count


def test_prewarm_without_runs_ends_without_error(queries):
    """The pages show that there are no runs."""
    prewarm.prewarm()
    assert len(queries) == 1


def test_prewarm_with_unreadable_run_ends_without_error(queries, tmp_path):
    """The pages name the run."""
    append_invalid_line(make_run(tmp_path, "bad", batches=12))
    thread = prewarm.start_prewarm()
    thread.join(60)
    assert not thread.is_alive()


def test_server_starts_the_verification_before_the_first_visit(monkeypatch):
    """A changed log is red as soon as possible, and not only after somebody has opened a page."""
    started = []
    monkeypatch.setattr(server, "start_prewarm", lambda *tasks: started.extend(tasks))

    async def start():
        async with server.prepare(None):
            pass

    asyncio.run(start())
    assert server.start_verifier in started
    monkeypatch.setattr(verifier, "_verifier", started.append)
    monkeypatch.setenv("OCKHAM_RUNS", "folder")
    server.start_verifier()
    assert started[-1] == "folder"
