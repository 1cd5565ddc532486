"""Refresh of a catalog: a failure keeps the previous rows or is an error, and never changes an answer."""

from __future__ import annotations

import builtins
import errno
import multiprocessing
import os
from pathlib import Path

import duckdb
import pytest

from ockham.catalog import Catalog
from ockham.errors import OckhamError
from ockham.record.parquet.builder import update_parquet
from ockham.record.repair import rebuild
from tests.helpers.events import lines, log_folder
from tests.helpers.example_counts import examples, stride
from tests.helpers.runs import make_run

COUNTS = """
select (select count(*) from events) as events, (select count(*) from decisions) as decisions,
    (select count(*) from contexts) as contexts
"""
# Files that repair, a resume or a compaction removes.
REMOVED_SUFFIXES = (".parquet", ".json", ".jsonl")
FILE_CALLS = ("open", "stat", "scandir", "listdir")


def expected_counts(folder):
    """Return the numbers of rows from the JSONL lines, independent of the catalog."""
    text = lines(folder)
    decisions = sum(b'"type":"ockham.decision.made.v1"' in line for line in text)
    contexts = sum(b'"type":"ockham.context.recorded.v1"' in line for line in text)
    return {"events": len(text), "decisions": decisions, "contexts": contexts}


class FailingCalls:
    """Raises OSError at the nth call of a file function with a path below *root*, once or from then on."""

    def __init__(self, patch, root, nth, lasting):
        self.root, self.left, self.failed, self.lasting = str(root), nth, False, lasting
        for name in FILE_CALLS:
            patch.setattr(os, name, self._wrap(getattr(os, name)))
        patch.setattr(builtins, "open", self._wrap(builtins.open))

    def _wrap(self, call):
        def run(path=".", *arguments, **options):
            # A folder without run.json is not a run.
            if not isinstance(path, int) and str(path).startswith(self.root) and "run.json" not in str(path):
                self.left -= 1
                if self.left == 0 or (self.lasting and self.left < 0):
                    self.failed = True
                    # A folder that does not exist has no files, so listing it must fail in another way.
                    number = errno.ENOENT if Path(path).suffix in REMOVED_SUFFIXES else errno.EIO
                    raise OSError(number, os.strerror(number), str(path))
            return call(path, *arguments, **options)

        return run


class FailingConnection:
    """DuckDB connection that raises at the nth statement, once or from then on."""

    def __init__(self, connection, nth, lasting):
        self.connection, self.left, self.failed, self.lasting = connection, nth, False, lasting

    def execute(self, *arguments):
        self.left -= 1
        if self.left == 0 or (self.lasting and self.left < 0):
            self.failed = True
            raise duckdb.IOException("IO Error: injected")
        return self.connection.execute(*arguments)

    def __getattr__(self, name):
        return getattr(self.connection, name)


def change_files(folder, step):
    """Build Parquet for the lines, or remove it, so that a refresh has something to read."""
    if step % 2 == 0:
        for kind in ("contexts", "decisions", "events"):
            for path in (folder.path / kind).rglob("*.parquet"):
                path.unlink()
    else:
        update_parquet(folder, 1, 0, last=True)


def answer_or_error(catalog):
    try:
        return catalog.rows(COUNTS)[0]
    except OckhamError:
        return None


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("ockham.catalog.catalog._RESCAN_SECONDS", 0.001)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("sandboxed", [False, True])
def test_failed_statement_of_a_refresh_changes_no_answer(tmp_path, sandboxed, lasting):
    """At a statement: the answer is right or an error, and the next refresh recovers."""
    folder = log_folder(tmp_path, 40)
    expected = expected_counts(folder)
    catalog = Catalog(tmp_path, sandboxed=sandboxed)
    for step in range(1, 200, stride(3)):
        change_files(folder, step)
        failing = FailingConnection(catalog.connection, step, lasting)
        catalog.connection = failing
        assert answer_or_error(catalog) in (None, expected), step
        catalog.connection = failing.connection
        assert catalog.rows(COUNTS) == [expected], step
        if not failing.failed:
            break
    assert 10 < step < 199


@pytest.mark.parametrize("lasting", [False, True])
def test_failed_file_call_of_a_refresh_changes_no_answer(tmp_path, lasting):
    """At a file call: the answer is right or an error, and the next refresh recovers."""
    folder = log_folder(tmp_path, 40)
    expected = expected_counts(folder)
    catalog = Catalog(tmp_path)
    for step in range(1, 400, stride(3)):
        change_files(folder, step)
        with pytest.MonkeyPatch.context() as patch:
            failing = FailingCalls(patch, tmp_path, step, lasting)
            assert answer_or_error(catalog) in (None, expected), step
        assert catalog.rows(COUNTS) == [expected], step
        if not failing.failed:
            break
    assert 20 < step < 399


def test_refresh_that_fails_for_good_is_an_error_and_keeps_rows(tmp_path, monkeypatch):
    """The error names the reason. The tables still have the previous rows."""
    folder = log_folder(tmp_path, 40)
    expected = expected_counts(folder)
    catalog = Catalog(tmp_path)
    change_files(folder, 1)
    with monkeypatch.context() as patch:
        patch.setattr("ockham.catalog.catalog.create_raw_views", _raise_io_error)
        with pytest.raises(OckhamError, match="Parquet file cannot be read"):
            catalog.rows(COUNTS)
        assert catalog.connection.execute("select count(*) from raw_events_tail").fetchall() == [
            (expected["events"],)
        ]
    assert catalog.rows(COUNTS) == [expected]


def _raise_io_error(*_, **__):
    raise duckdb.IOException("IO Error: No files found")


def _repair_until(folder, stop):
    while not stop.is_set():
        rebuild(folder)


def test_catalogs_next_to_repair_return_every_row(tmp_path):
    """Fresh catalogs and an open one, while `ockham repair` removes and writes all Parquet files."""
    folder = make_run(tmp_path, "a", batches=60).folder
    expected = expected_counts(folder)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_repair_until, args=(folder, stop))
    process.start()
    try:
        opened = Catalog(tmp_path)
        for _ in range(examples(15)):
            assert opened.rows(COUNTS) == [expected]
            assert Catalog(tmp_path).rows(COUNTS) == [expected]
    finally:
        stop.set()
        process.join()
