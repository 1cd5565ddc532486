"""Data of the pages: one catalog for all sessions. Results are cached until a file changes.

All queries of one page read the same snapshot of the files, see `renew_snapshot`, so that its figures are of
one moment. A fragment that runs later reads the snapshot of its page.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from ockham.catalog import Catalog
from ockham.catalog.snapshot import CatalogSnapshot
from ockham.catalog.views import load_page_query, load_question
from ockham.errors import OckhamError, QueryError, RunError, UnverifiableError
from ockham.odr.arrow_tables import load_odr_tables
from ockham.record.run_folder import list_runs

RUNS_VARIABLE = "OCKHAM_RUNS"
ODR_VARIABLE = "OCKHAM_ODR"
# Minimum time between two scans of the files, for any number of charts of a page that is shown.
SCAN_INTERVAL_SECONDS = 0.5
MAX_ERROR_CHARACTERS = 600
SNAPSHOT_KEY = "ockham-snapshot"


class TimedResult(NamedTuple):
    """Result of a query, with its SQL, its parameters and its duration."""

    table: pa.Table
    sql: str
    parameters: dict[str, Any]
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries."""
        return list(self.table.to_pylist())


class PageSnapshot(NamedTuple):
    """What the queries of one page read.

    Attributes:
        folders: Folder of runs and folder of decision records.
        version: Version of the store.
        catalog: Transaction in which the queries run.
        read: Time of the scan, UTC.

    """

    folders: tuple[str, str]
    version: tuple[int, int]
    catalog: CatalogSnapshot
    read: dt.datetime


class CatalogStore:
    """Catalog that omits unreadable runs, and lists them in `broken` as run ID -> error.

    Args:
        runs: Folder of runs.
        odr: Folder of decision records. It is read again when a file in it changes.

    """

    def __init__(self, runs: Path, odr: Path) -> None:
        self.runs = runs
        self.odr = odr
        self.broken: dict[str, str] = {}
        self._catalog: Catalog | None = None
        self._record_files: object = None
        self._last_scan = 0.0
        self._generation = 0
        self._lock = threading.RLock()

    def catalog(self) -> Catalog:
        """Return the catalog, after a scan of the files if the last one is too old."""
        with self._lock:
            if self._catalog is None or time.monotonic() - self._last_scan > SCAN_INTERVAL_SECONDS:
                self.scan()
            assert self._catalog is not None
            return self._catalog

    @property
    def version(self) -> tuple[int, int]:
        """A value that changes when any file changes."""
        catalog = self.catalog()
        return self._generation, catalog.version

    def snapshot(self) -> PageSnapshot:
        """Return a snapshot of the last scan."""
        with self._lock:
            catalog = self.catalog()
            read = dt.datetime.now(dt.UTC)
            folders = str(self.runs), str(self.odr)
            return PageSnapshot(folders, (self._generation, catalog.version), catalog.snapshot(), read)

    def scan(self) -> None:
        """Read what is new in the folders. A page that opens must show runs that exist by then."""
        with self._lock:
            try:
                self._open_catalog()
            except UnverifiableError:
                self.broken = _broken_runs(self.runs, list_runs(self.runs))
                self._open_catalog()
            self._last_scan = time.monotonic()

    def _open_catalog(self) -> None:
        record_files = _list_records(self.odr)
        if self._catalog is None or record_files != self._record_files:
            tables = load_odr_tables(self.odr, runs=self.runs)
            run_ids = self._readable_runs() if self.broken else None
            self._catalog = Catalog(self.runs, tables, run_ids=run_ids)
            self._record_files = record_files
            self._generation += 1
            return
        if self.broken:
            self.broken = _broken_runs(self.runs, [run for run in list_runs(self.runs) if run in self.broken])
            self._catalog.run_ids = self._readable_runs()
        self._catalog.refresh()

    def _readable_runs(self) -> list[str]:
        return [run for run in list_runs(self.runs) if run not in self.broken]


def _list_records(folder: Path) -> list[tuple[str, int]]:
    if not folder.is_dir():
        return []
    # lstat also accepts broken links, which lint reports.
    return sorted((path.name, path.lstat().st_mtime_ns) for path in folder.glob("*.md"))


def _broken_runs(runs: Path, run_ids: Sequence[str]) -> dict[str, str]:
    """Return run ID -> error of the runs with an unreadable line or Parquet file."""
    broken: dict[str, str] = {}
    for run_id in run_ids:
        try:
            Catalog(runs, run_ids=[run_id]).close()
        except (UnverifiableError, RunError) as error:
            broken[run_id] = str(error)
    return broken


def runs_folder() -> Path:
    """Return the folder of runs."""
    return Path(os.environ.get(RUNS_VARIABLE, "runs"))


def odr_folder() -> Path:
    """Return the folder of decision records."""
    return Path(os.environ.get(ODR_VARIABLE, "odr"))


@st.cache_resource(show_spinner="Reading the runs", max_entries=4)
def _store(runs: str, odr: str) -> CatalogStore:
    return CatalogStore(Path(runs), Path(odr))


def store() -> CatalogStore:
    """Return the store of the current folders. All sessions share it."""
    return _store(str(runs_folder()), str(odr_folder()))


def renew_snapshot() -> PageSnapshot:
    """Read new files, and return the snapshot that all further queries of this session read.

    A page calls it once, before its first query. A fragment calls it to show newer events than its page.
    """
    store().scan()
    return _open_snapshot(reuse=True)


def page_snapshot() -> PageSnapshot:
    """Return the snapshot of the page."""
    snapshot: PageSnapshot | None = st.session_state.get(SNAPSHOT_KEY)
    if snapshot is None or snapshot.folders != (str(runs_folder()), str(odr_folder())):
        return _open_snapshot(reuse=False)
    return snapshot


def _open_snapshot(*, reuse: bool) -> PageSnapshot:
    fresh = store().snapshot()
    before: PageSnapshot | None = st.session_state.get(SNAPSHOT_KEY)
    if before is not None:
        if reuse and before[:2] == fresh[:2]:
            fresh.catalog.close()
            fresh = fresh._replace(catalog=before.catalog)
        else:
            before.catalog.close()
    st.session_state[SNAPSHOT_KEY] = fresh
    return fresh


@st.cache_data(max_entries=400, show_spinner=False)
def _cached_query(
    folders: tuple[str, str],
    version: tuple[int, int],
    sql: str,
    parameters: tuple[tuple[str, Any], ...],
    _snapshot: CatalogSnapshot,
) -> tuple[pa.Table, float]:
    del folders, version
    start = time.perf_counter()
    table = _snapshot.sql(sql, dict(parameters) or None)
    return table, time.perf_counter() - start


def run_sql(sql: str, **parameters: Any) -> TimedResult:
    """Run trusted SQL on the snapshot of the page. User SQL must be run with `ockham.guard`."""
    snapshot = page_snapshot()
    try:
        table, seconds = query_snapshot(snapshot, sql, parameters)
    except QueryError:
        # The error has ended the transaction.
        store().scan()
        fresh = _open_snapshot(reuse=False)
        if fresh.version == snapshot.version:
            raise
        # Parquet files of the version were compacted. The page starts again, so that its figures agree.
        st.rerun()
        table, seconds = query_snapshot(fresh, sql, parameters)
    return TimedResult(table, sql, parameters, seconds)


def query_snapshot(snapshot: PageSnapshot, sql: str, parameters: dict[str, Any]) -> tuple[pa.Table, float]:
    """Return the result of trusted SQL and its seconds. It is kept until a file changes."""
    values = tuple(sorted(parameters.items()))
    return _cached_query(snapshot.folders, snapshot.version, sql, values, snapshot.catalog)


def run_page_query(name: str, **parameters: Any) -> TimedResult:
    """Run a page query, by name."""
    return run_sql(load_page_query(name).sql, **parameters)


def run_saved_question(name: str, **parameters: Any) -> TimedResult:
    """Run a saved question, by name."""
    return run_sql(load_question(name).sql, **parameters)


def query_or_error(
    query: Callable[..., TimedResult], *arguments: Any, **parameters: Any
) -> TimedResult | None:
    """Run a query and return its result. If it fails, show an error on the page and return None."""
    try:
        return query(*arguments, **parameters)
    except OckhamError as error:
        st.error("This query failed.", icon=":material/error:")
        st.code(str(error), language=None)
    # The rest of the page must be shown, whatever the defect is.
    except Exception as error:
        show_error("This query failed.", error)
    return None


def folder_state(folder: Path) -> str:
    """Return a digest of names, sizes, times and inodes of all files in a folder.

    A change of the content changes the time of the inode, and a program cannot set that back.
    """
    state = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118 - thousands of Path objects are slower
            with contextlib.suppress(OSError):
                info = os.lstat(path)
                state.append((path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino))
    return hashlib.sha256(repr(sorted(state)).encode()).hexdigest()


def show_error(message: str, error: Exception) -> None:
    """Show an unexpected error on the page, and print its traceback on the server."""
    traceback.print_exception(error)
    st.error(message, icon=":material/error:")
    text = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    st.code(text, language=None, wrap_lines=True)
