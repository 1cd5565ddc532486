"""Where the pages get their tables: one catalog for all sessions, asked by name, each answer kept for two seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from ockham.catalog import Catalog
from ockham.catalog.views import page_query, question
from ockham.errors import OckhamError
from ockham.odr.tables import tables_of_folder

RUNS = "OCKHAM_RUNS"
ODR = "OCKHAM_ODR"


class Answer(NamedTuple):
    """A table, the SQL that gave it with its parameters, and how long it took."""

    table: pa.Table
    sql: str
    parameters: dict[str, Any]
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        return list(self.table.to_pylist())


def runs_folder() -> Path:
    return Path(os.environ.get(RUNS, "runs"))


def odr_folder() -> Path:
    return Path(os.environ.get(ODR, "odr"))


@st.cache_resource(show_spinner="Reading the runs")
def catalog(runs: str, odr: str) -> Catalog:
    return Catalog(runs, tables_of_folder(Path(odr)))


@st.cache_data(ttl=2, max_entries=200, show_spinner=False)
def _asked(runs: str, odr: str, sql: str, parameters: tuple[tuple[str, Any], ...]) -> tuple[pa.Table, float]:
    began = time.perf_counter()
    table = catalog(runs, odr).sql(sql, dict(parameters) or None)
    return table, time.perf_counter() - began


def ask_sql(sql: str, **parameters: Any) -> Answer:
    """Our own SQL, never a person's."""
    table, seconds = _asked(str(runs_folder()), str(odr_folder()), sql, tuple(sorted(parameters.items())))
    return Answer(table, sql, parameters, seconds)


def ask(name: str, **parameters: Any) -> Answer:
    """A page query by name."""
    return ask_sql(page_query(name).sql, **parameters)


def ask_saved(name: str, **parameters: Any) -> Answer:
    """A saved question by name."""
    return ask_sql(question(name).sql, **parameters)


def or_error(what: Any, *arguments: Any, **parameters: Any) -> Answer | None:
    """An answer, or a note in its place: one query that fails blanks no page."""
    try:
        answer: Answer = what(*arguments, **parameters)
    except OckhamError as error:
        st.error("This could not be answered.", icon=":material/error:")
        st.code(str(error), language=None)
        return None
    return answer
