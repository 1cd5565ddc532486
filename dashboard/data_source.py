"""Where the pages get their tables: one catalog for all sessions, asked by name, each answer kept until a file changes."""

from __future__ import annotations

import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query, load_question
from ockham.errors import OckhamError, UnverifiableError
from ockham.odr.arrow_tables import load_odr_tables
from ockham.record.run_folder import list_runs

RUNS = "OCKHAM_RUNS"
ODR = "OCKHAM_ODR"
LOOK_SECONDS = 0.5  # files are looked at again at most so often, whatever the number of charts on a page


class TimedResult(NamedTuple):
    """A table, the SQL that gave it with its parameters, and how long it took."""

    table: pa.Table
    sql: str
    parameters: dict[str, Any]
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        return list(self.table.to_pylist())


class CatalogStore:
    """A catalog that leaves out runs which can't be read, and says so, instead of answering nothing at all.

    Args:
        runs: folder of runs.
        odr: folder of decision records, looked at again whenever a file in it changes.

    """

    def __init__(self, runs: Path, odr: Path) -> None:
        self.runs, self.odr = runs, odr
        self.broken: dict[str, str] = {}
        self._catalog: Catalog | None = None
        self._records: object = None
        self._looked = 0.0
        self._generation = 0
        self._lock = threading.RLock()

    def catalog(self) -> Catalog:
        """The catalog, its files looked at a moment ago."""
        with self._lock:
            if self._catalog is None or time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
                self._looked = time.monotonic()
            assert self._catalog is not None
            return self._catalog

    @property
    def version(self) -> tuple[int, int]:
        """Another one whenever any file has changed."""
        found = self.catalog()
        return self._generation, found.version

    def _look(self) -> None:
        try:
            self._open()
        except UnverifiableError:
            self.broken = _broken(self.runs, list_runs(self.runs))
            self._open()

    def _open(self) -> None:
        records = _files(self.odr)
        if self._catalog is None or records != self._records:
            tables = load_odr_tables(self.odr)
            only = [run for run in list_runs(self.runs) if run not in self.broken] if self.broken else None
            self._catalog, self._records = Catalog(self.runs, tables, run_ids=only), records
            self._generation += 1
            return
        if self.broken:
            self.broken = _broken(self.runs, [run for run in list_runs(self.runs) if run in self.broken])
            self._catalog.run_ids = [run for run in list_runs(self.runs) if run not in self.broken]
        self._catalog.refresh()


def _files(folder: Path) -> list[tuple[str, int]]:
    if not folder.is_dir():
        return []
    records = folder.glob("*.md")  # of dead links too: lint tells of them
    return sorted((path.name, path.lstat().st_mtime_ns) for path in records)


def _broken(runs: Path, among: list[str]) -> dict[str, str]:
    """Runs with a line that is no event or Parquet that is none, and where it stands."""
    found: dict[str, str] = {}
    for run_id in among:
        try:
            Catalog(runs, run_ids=[run_id]).close()
        except UnverifiableError as error:
            found[run_id] = str(error)
    return found


def runs_folder() -> Path:
    return Path(os.environ.get(RUNS, "runs"))


def odr_folder() -> Path:
    return Path(os.environ.get(ODR, "odr"))


@st.cache_resource(show_spinner="Reading the runs", max_entries=4)
def _store(runs: str, odr: str) -> CatalogStore:
    return CatalogStore(Path(runs), Path(odr))


def store() -> CatalogStore:
    """The one store of this folder."""
    return _store(str(runs_folder()), str(odr_folder()))


@st.cache_data(max_entries=400, show_spinner=False)
def _cached_query(
    runs: str, odr: str, version: tuple[int, int], sql: str, parameters: tuple[tuple[str, Any], ...]
) -> tuple[pa.Table, float]:
    began = time.perf_counter()
    table = _store(runs, odr).catalog().sql(sql, dict(parameters) or None)
    return table, time.perf_counter() - began


def run_sql(sql: str, **parameters: Any) -> TimedResult:
    """Our own SQL, never a person's."""
    version = store().version
    table, seconds = _cached_query(
        str(runs_folder()), str(odr_folder()), version, sql, tuple(sorted(parameters.items()))
    )
    return TimedResult(table, sql, parameters, seconds)


def run_page_query(name: str, **parameters: Any) -> TimedResult:
    """A page query by name."""
    return run_sql(load_page_query(name).sql, **parameters)


def run_saved_question(name: str, **parameters: Any) -> TimedResult:
    """A saved question by name."""
    return run_sql(load_question(name).sql, **parameters)


def query_or_error(what: Any, *arguments: Any, **parameters: Any) -> TimedResult | None:
    """An answer, or a note in its place: one query that fails blanks no page."""
    try:
        answer: TimedResult = what(*arguments, **parameters)
    except OckhamError as error:
        st.error("This could not be answered.", icon=":material/error:")
        st.code(str(error), language=None)
        return None
    except Exception as error:  # a fault of ours or of a file: the rest of the page stays
        traceback.print_exception(error)
        st.error("This could not be answered.", icon=":material/error:")
        st.code(f"{type(error).__name__}: {error}"[:600], language=None, wrap_lines=True)
        return None
    return answer
