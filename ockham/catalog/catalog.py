"""Catalog: SQL over the logs of all runs.

It reads the Parquet files of sealed segments, and the lines that have no Parquet file yet. Files are scanned
again before each query, so an open catalog includes new runs and new events.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ockham.catalog.file_index import FileIndex, FileListing
from ockham.catalog.raw_views import create_raw_views, load_table, plugin_kind_views
from ockham.catalog.run_tables import SegmentTail, load_run_tables, read_tail
from ockham.catalog.schemas import ODR_SCHEMAS, ODR_TABLE_DESCRIPTIONS
from ockham.catalog.spill import make_spill_dir
from ockham.catalog.views import load_question, load_views
from ockham.errors import MissingParameterError, QueryError, UnverifiableError
from ockham.record.run_folder import RunFolder, list_runs

_MAX_RESCANS = 4
# Columns without a comment, such as run_id and attempt, use the comment of the same column in `decisions`.
_DICTIONARY = """
create or replace view data_dictionary as
select v.view_name as view, c.column_name as "column", c.data_type as type,
    coalesce(c.comment, d.comment) as comment, v.comment as view_comment
from duckdb_views() v
join duckdb_columns() c on c.table_name = v.view_name and c.schema_name = v.schema_name
left join duckdb_columns() d
    on d.table_name = 'decisions' and d.schema_name = v.schema_name and d.column_name = c.column_name
where not v.internal and v.schema_name = 'main' and v.view_name not like 'raw\\_%' escape '\\'
order by v.view_name, c.column_index
"""


def _parquet_error(error: duckdb.Error) -> UnverifiableError:
    """Return the error for a Parquet file that is unreadable or does not match its sidecar."""
    reason = str(error).split("\n")[0]
    return UnverifiableError(
        f"Parquet file cannot be read ({reason:.400}); "
        "find it with `ockham verify RUN` and rebuild it with `ockham repair RUN`"
    )


class Catalog:
    """Audit views over a folder of runs.

    Args:
        runs: Folder of runs. A missing folder is read as an empty one.
        odr_tables: Tables `odrs`, `odr_constraints`, `odr_evidence` and `odr_findings`. Missing tables are
            empty.
        run_ids: IDs of the runs to read. None reads all. Files of other runs are not opened.
        sandboxed: Read Parquet files with Arrow, so that `lock_down` can remove DuckDB's file access.
        allow_spill: Allow queries to use the disk when memory is full. Ignored if sandboxed.

    """

    def __init__(
        self,
        runs: str | Path = "runs",
        odr_tables: Mapping[str, pa.Table] | None = None,
        *,
        run_ids: Sequence[str] | None = None,
        sandboxed: bool = False,
        allow_spill: bool = True,
    ) -> None:
        self.runs = Path(runs)
        self.run_ids = run_ids
        self.sandboxed = sandboxed
        self._odr_tables = {name: schema.empty_table() for name, schema in ODR_SCHEMAS.items()} | dict(
            odr_tables or {}
        )
        self._index = FileIndex()
        self._tails: dict[Path, SegmentTail] = {}
        self._state: object = None
        # Increases when files have changed. Callers that cache results use it as a key.
        self.version = 0
        self._lock = threading.RLock()
        spill_dir = ""
        # By default DuckDB spills into the working folder. A sandboxed process has no writable folder.
        if allow_spill and not sandboxed:
            spill_dir = make_spill_dir(self)
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",
            "parquet_metadata_cache": "true",
            "temp_directory": spill_dir,
        }
        self.connection = duckdb.connect(":memory:", config=config)
        self.connection.execute("set timezone = 'UTC'")
        # Otherwise SQL can read local Python variables as tables.
        self.connection.execute("set python_enable_replacements = false")
        self.refresh()

    def sql(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run trusted SQL and return the result. User SQL must be run with `ockham.guard`.

        Args:
            text: One statement. Parameters are written `$name`.
            parameters: Values of the parameters.

        Raises:
            MissingParameterError: If a parameter has no value.
            QueryError: If DuckDB rejects the query. The message is DuckDB's.

        """
        self.refresh()
        for _ in range(_MAX_RESCANS):
            version = self.version
            try:
                return self._execute(text, parameters)
            except duckdb.Error as error:
                self.refresh()
                # If files have changed, they were compacted while the query ran: run it again.
                if self.version == version:
                    message = " ".join(str(error).split())[:600]
                    missing = _missing_parameters(text, parameters or {})
                    raise (MissingParameterError if missing else QueryError)(message) from None
        raise QueryError(f"{self.runs}: files changed while they were read; run the query again")

    def _execute(self, text: str, parameters: Mapping[str, Any] | None) -> pa.Table:
        # A cursor cannot see Arrow datasets, which are registered on the connection.
        context = contextlib.nullcontext(self.connection) if self.sandboxed else self.connection.cursor()
        with context as cursor:
            relation = cursor.sql(text, params=dict(parameters)) if parameters else cursor.sql(text)
            result: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
            return result

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run trusted SQL and return the rows as dictionaries, see `sql`."""
        return self.sql(text, parameters).to_pylist()

    def ask(self, name: str, **parameters: Any) -> pa.Table:
        """Run a saved question and return the result.

        Args:
            name: Name of the question, see `question_names`.
            parameters: Parameters of the question. `run` limits every question to one run.

        Raises:
            QueryError: If the question or the run does not exist, or a parameter is missing or unknown.

        """
        question = load_question(name)
        run = parameters.get("run")
        if run is not None and run not in (known_runs := list_runs(self.runs)):
            existing = ", ".join(known_runs[:8]) or "none"
            raise QueryError(f"{run!r:.80}: run not found in {self.runs}; existing runs: {existing}")
        if run is not None and "run" not in question.parameters:
            del parameters["run"]
            odr_tables = {key: self._odr_tables[key] for key in ODR_SCHEMAS}
            return Catalog(self.runs, odr_tables, run_ids=[run]).ask(name, **parameters)
        unknown = sorted(set(parameters) - set(question.parameters))
        if unknown:
            accepted = ", ".join(question.parameters) or "none"
            raise QueryError(f"question {name!r} has no parameter {unknown[0]!r}; accepted: {accepted}")
        return self.sql(question.sql, {key: parameters.get(key) for key in question.parameters} or None)

    def refresh(self) -> None:
        """Scan the files again. If nothing has changed, this costs only the directory listing.

        Raises:
            UnverifiableError: If a Parquet file or a line cannot be read.

        """
        for attempts_left in reversed(range(_MAX_RESCANS)):
            try:
                self._rescan()
            # Both errors can mean that a file was removed between the listing and the read.
            except OSError:
                if not attempts_left:
                    raise
            except duckdb.IOException as error:
                if not attempts_left:
                    raise _parquet_error(error) from None
            except duckdb.Error as error:
                raise _parquet_error(error) from None
            else:
                return

    def _rescan(self) -> None:
        with self._lock:
            names = list_runs(self.runs)
            if self.run_ids is not None:
                names = [name for name in names if name in set(self.run_ids)]
            folders = [RunFolder(self.runs, name) for name in names]
            listing = self._index.scan(folders)
            self._tails = {path: read_tail(path, self._tails.get(path)) for path in listing.segments}
            policies = [str(path) for folder in folders for path in (folder.path / "policies").glob("*.json")]
            tail_sizes = {path: tail.size for path, tail in self._tails.items()}
            state = (names, listing.parquet, tail_sizes, policies)
            if state == self._state:
                return
            first = self._state is None
            self._register(folders, listing)
            if first:
                self._create_views()
            self._state = state
            self.version += 1

    def close(self) -> None:
        """Close the database connection and free its memory."""
        self.connection.close()

    def _register(self, folders: list[RunFolder], listing: FileListing) -> None:
        tables = load_run_tables(folders, listing.attempts) | self._odr_tables
        for name, table in tables.items():
            load_table(self.connection, f"{name}_" if name in self._odr_tables else name, table)
        create_raw_views(
            self.connection, listing, (tail.tables for tail in self._tails.values()), sandboxed=self.sandboxed
        )
        for name, select in plugin_kind_views(tables["plugin_uses"], tables["plugin_clashes"]).items():
            self.connection.execute(f"create or replace view {name} as {select}")

    def lock_down(self, memory: str, readable: Path | None = None) -> None:
        """Permanently remove access to files, network, extensions and settings, before user SQL runs.

        Args:
            memory: Memory limit of DuckDB, such as `500MB`.
            readable: The only folder in which DuckDB may open files. DuckDB could also write there, so the
                caller must remove write access from the process first. None allows no file access.

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
            self._comment(f"view {name}", f"Decision records: {ODR_TABLE_DESCRIPTIONS[name]}.")
        self.connection.execute(_DICTIONARY)
        self._comment("view data_dictionary", "All views and columns, with type and meaning.")

    def _comment(self, target: str, text: str) -> None:
        quoted = text.replace("'", "''")
        self.connection.execute(f"comment on {target} is '{quoted}'")


def _missing_parameters(text: str, parameters: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters of *text* that have no value; empty if it cannot be parsed."""
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error:
        return set()
    return {name for statement in statements for name in statement.named_parameters} - set(parameters)
