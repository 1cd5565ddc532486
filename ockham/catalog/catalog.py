"""Catalog: SQL over the record. Parquet of sealed segments, plus the lines that no Parquet holds yet.

Files are looked at again before each query, so a run that appears, or grows, while a catalog is open is seen.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ockham.catalog.file_index import FileIndex, FileListing
from ockham.catalog.raw_views import create_raw_views, load_table, plugin_kind_views
from ockham.catalog.run_tables import (
    SegmentTail,
    attempts_table,
    name_conflicts_table,
    policies_tables,
    read_tail,
    reason_codes_table,
    runs_table,
)
from ockham.catalog.schemas import ODR_SCHEMAS, ODR_TABLE_DESCRIPTIONS
from ockham.catalog.views import load_question, load_views
from ockham.errors import MissingParameterError, QueryError, UnverifiableError
from ockham.record.run_folder import RunFolder, list_runs

_MAX_RESCANS = 4
# A column that its view says nothing of means what it means in `decisions`: run_id, attempt, rank and the like.
_DICTIONARY = """
create or replace view data_dictionary as
select v.view_name as view, c.column_name as "column", c.data_type as type, coalesce(c.comment, d.comment) as comment, v.comment as view_comment
from duckdb_views() v join duckdb_columns() c on c.table_name = v.view_name and c.schema_name = v.schema_name
left join duckdb_columns() d on d.table_name = 'decisions' and d.schema_name = v.schema_name and d.column_name = c.column_name
where not v.internal and v.schema_name = 'main' and v.view_name not like 'raw\\_%' escape '\\'
order by v.view_name, c.column_index
"""


def _unreadable(error: duckdb.Error) -> UnverifiableError:
    """A Parquet file that is none, or has other columns than what stands beside it says."""
    said = str(error).split("\n")[0]
    return UnverifiableError(
        f"a Parquet file cannot be read ({said:.400}); `ockham verify RUN` names it, `ockham repair RUN` makes it anew"
    )


class Catalog:
    """The audit views over a folder of runs.

    Args:
        runs: the folder; one that is not there is one without runs.
        odr_tables: `odrs`, `odr_constraints`, `odr_evidence`, `odr_findings`; None: empty ones.
        only: IDs of the runs to look at; None: all. Files of other runs are not opened.
        locked: read Parquet by way of Arrow, so that `lock_down` can take DuckDB's access to files away.
        spill: whether a query that needs more memory than there is may use the disk; never where locked.

    """

    def __init__(
        self, runs: str | Path = "runs", odr_tables: Mapping[str, pa.Table] | None = None, *,
        run_ids: Sequence[str] | None = None, sandboxed: bool = False, allow_spill: bool = True,
    ) -> None:  # fmt: skip
        self.runs, self.run_ids, self.sandboxed = Path(runs), run_ids, sandboxed
        self._odr_tables = {name: schema.empty_table() for name, schema in ODR_SCHEMAS.items()} | dict(
            odr_tables or {}
        )
        self._listing = FileIndex()
        self._tails: dict[Path, SegmentTail] = {}
        self._state: object = None
        self.version = 0  # moves whenever the files have changed: a key for whoever keeps answers
        self._lock = threading.RLock()
        self.connection = duckdb.connect(":memory:", config={
            "autoinstall_known_extensions": "false",
            "parquet_metadata_cache": "true",  # footers of hundreds of files, read once
            # Not the working folder; behind a lock nothing may be spilled at all.
            "temp_directory": "" if sandboxed or not allow_spill else str(Path(tempfile.gettempdir()) / "ockham-duckdb"),
        })  # fmt: skip
        self.connection.execute("set timezone = 'UTC'")
        self.connection.execute("set python_enable_replacements = false")  # a Python variable is no table
        self.refresh()

    def sql(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer to SQL of our own; what a person typed goes through `ockham.guard`.

        Args:
            text: one statement; parameters are written `$name`.
            parameters: their values.

        Raises:
            QueryError: in DuckDB's words, if it can't be answered.

        """
        self.refresh()
        for _ in range(_MAX_RESCANS):
            seen = self.version
            try:
                return self._execute(text, parameters)
            except duckdb.Error as error:
                self.refresh()
                if self.version == seen:  # else: small files were compacted while we read them
                    message = " ".join(str(error).split())[:600]
                    missing = _missing_parameters(text, parameters or {})
                    raise (MissingParameterError if missing else QueryError)(message) from None
        raise QueryError(f"the files in {self.runs} change faster than they can be read; try again")

    def _execute(self, text: str, parameters: Mapping[str, Any] | None) -> pa.Table:
        # Arrow datasets are known to the connection alone; otherwise each query has a cursor of its own.
        with (
            contextlib.nullcontext(self.connection) if self.sandboxed else self.connection.cursor() as cursor
        ):
            found = cursor.sql(text, params=dict(parameters)) if parameters else cursor.sql(text)
            answer: pa.Table = pa.table({}) if found is None else found.to_arrow_table()
            return answer

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The answer as dictionaries."""
        return self.sql(text, parameters).to_pylist()

    def ask(self, name: str, **parameters: Any) -> pa.Table:
        """The answer to a saved question.

        Args:
            name: as `question_names` lists them.
            parameters: the question's own; `run` limits any question to one run.

        Raises:
            QueryError: if there is no such question or run, or a parameter is missing or not its own.

        """
        asked = load_question(name)
        run = parameters.get("run")
        if run is not None and run not in (known_runs := list_runs(self.runs)):
            there = ", ".join(known_runs[:8]) or "none"
            raise QueryError(f"no run {run!r:.80} in {self.runs}; there: {there}")
        if run is not None and "run" not in asked.parameters:
            del parameters["run"]
            odr_tables = {key: self._odr_tables[key] for key in ODR_SCHEMAS}
            return Catalog(self.runs, odr_tables, run_ids=[run]).ask(name, **parameters)
        odd = sorted(set(parameters) - set(asked.parameters))
        if odd:
            known = ", ".join(asked.parameters) or "none"
            raise QueryError(f"question {name!r} has no parameter {odd[0]!r}; it takes: {known}")
        return self.sql(asked.sql, {key: parameters.get(key) for key in asked.parameters} or None)

    def refresh(self) -> None:
        """Look at the files again; where nothing has changed this costs only the listing.

        Raises:
            UnverifiableError: if a Parquet file or a line cannot be read.

        """
        for left in reversed(range(_MAX_RESCANS)):
            try:
                self._rescan()
            except OSError:  # a file went between the listing and its reading
                if not left:
                    raise
            except duckdb.IOException as error:  # the same, in DuckDB's words
                if not left:
                    raise _unreadable(error) from None
            except duckdb.Error as error:
                raise _unreadable(error) from None
            else:
                return

    def _rescan(self) -> None:
        with self._lock:
            names = (
                list_runs(self.runs)
                if self.run_ids is None
                else [r for r in list_runs(self.runs) if r in set(self.run_ids)]
            )
            folders = [RunFolder(self.runs, name) for name in names]
            found = self._listing.scan(folders)
            self._tails = {path: read_tail(path, self._tails.get(path)) for path in found.segments}
            policies = [str(path) for folder in folders for path in (folder.path / "policies").glob("*.json")]
            state = (names, found.parquet, {path: tail.size for path, tail in self._tails.items()}, policies)
            if state == self._state:
                return
            first = self._state is None
            self._register(folders, found)
            if first:
                self._create_views()
            self._state = state
            self.version += 1

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()

    def _register(self, folders: list[RunFolder], found: FileListing) -> None:
        policies, uses = policies_tables(folders)
        clashes = name_conflicts_table(uses)
        own = {"raw_runs": runs_table(folders), "raw_policies": policies, "plugin_uses": uses, "plugin_clashes": clashes,
               "raw_reason_codes": reason_codes_table(), "raw_attempts": attempts_table(found.attempts), **self._odr_tables}  # fmt: skip
        for name, table in own.items():
            load_table(self.connection, f"{name}_" if name in self._odr_tables else name, table)
        create_raw_views(
            self.connection, found, (tail.tables for tail in self._tails.values()), sandboxed=self.sandboxed
        )
        for name, select in plugin_kind_views(uses, clashes).items():
            self.connection.execute(f"create or replace view {name} as {select}")

    def lock_down(self, memory: str, readable: Path | None = None) -> None:
        """For SQL of strangers: no file, no network, no extension, no setting, from here on and for good.

        Args:
            memory: what DuckDB may use, as `500MB`.
            readable: the only folder that DuckDB may open files in; it could write there too, so the caller has taken
                writing from the whole process before.

        """
        settings = {"memory_limit": memory, "temp_directory": "", "enable_external_access": "false"}
        for name, value in settings.items():
            if name == "enable_external_access" and readable is not None:
                quoted = str(readable).replace("'", "''")
                self.connection.execute(f"set allowed_directories = ['{quoted}/']")
            self.connection.execute(f"set {name} = '{value}'")
        self.connection.execute("set lock_configuration = true")

    def _create_views(self) -> None:
        for view in load_views():
            self.connection.execute(f"create or replace view {view.name} as {view.select}")
            self._comment(f"view {view.name}", view.comment)
            for column, comment in view.columns.items():
                self._comment(f"column {view.name}.{column}", comment)
        for name in ODR_SCHEMAS:
            self.connection.execute(f"create or replace view {name} as select * from {name}_")
            self._comment(f"view {name}", f"Of the decision records: {ODR_TABLE_DESCRIPTIONS[name]}.")
        self.connection.execute(_DICTIONARY)
        self._comment("view data_dictionary", "Every view and column, its type and meaning.")

    def _comment(self, what: str, text: str) -> None:
        quoted = text.replace("'", "''")
        self.connection.execute(f"comment on {what} is '{quoted}'")


def _missing_parameters(text: str, parameters: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters of *text* that have no value; empty if it cannot be parsed."""
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error:
        return set()
    return {name for statement in statements for name in statement.named_parameters} - set(parameters)
