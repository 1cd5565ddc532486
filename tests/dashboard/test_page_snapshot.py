"""Figures of one page are of one moment, also while files change during its queries."""

from __future__ import annotations

import logging

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.runs import make_run

logging.getLogger("streamlit").setLevel(logging.CRITICAL)
pytestmark = pytest.mark.filterwarnings("ignore")


def page():
    """Ask for the number of runs before and after another run was written and read by another session."""
    import os

    import streamlit as st

    from dashboard.data_source import page_snapshot, renew_snapshot, run_sql, store
    from tests.helpers.runs import make_run

    renew_snapshot()
    read = page_snapshot().read
    before = run_sql("select count(*) as n, 1 as first from runs").rows()[0]["n"]
    name = st.session_state.get("name", "second")
    make_run(os.environ["OCKHAM_RUNS"], name, batches=12)
    store().scan()
    after = run_sql("select count(*) as n, 2 as second from runs").rows()[0]["n"]
    st.text(f"{before} {after} {page_snapshot().read == read}")


def test_queries_of_one_page_read_the_same_files(monkeypatch, tmp_path):
    """A run that appears between two queries of a page is in neither of them, but in the next page."""
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    make_run(tmp_path, "first", batches=12)
    test = AppTest.from_function(page, default_timeout=60).run()
    assert not test.exception
    assert test.text[0].value == "1 1 True"
    test.session_state["name"] = "third"
    assert test.run().text[0].value == "2 2 True"


def removing_page():
    """Remove the Parquet files of a run between two queries, as a rebuild does."""
    import os
    import shutil
    from pathlib import Path

    import streamlit as st

    from dashboard.data_source import renew_snapshot, run_sql

    renew_snapshot()
    first = run_sql("select count(*) as n, 1 as first from events").rows()[0]["n"]
    for kind in ("contexts", "decisions", "events"):
        folder = Path(os.environ["OCKHAM_RUNS"]) / "first" / kind
        if folder.exists():
            shutil.rmtree(folder)
    second = run_sql("select count(*) as n, 2 as second from events where length(run_id) > 0")
    st.text(f"{first == second.rows()[0]['n']}")


def test_page_whose_parquet_files_are_removed_reads_the_lines(monkeypatch, tmp_path):
    """The page starts again with a new snapshot, and shows no error."""
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    make_run(tmp_path / "runs", "first", batches=12)
    assert list((tmp_path / "runs" / "first" / "events").rglob("*.parquet"))
    test = AppTest.from_function(removing_page, default_timeout=60).run()
    assert not test.exception
    assert [text.value for text in test.text] == ["True"]
