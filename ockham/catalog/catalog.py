"""Catalog: SQL over the logs of all runs.

It reads the Parquet files of sealed segments, and the lines that have no Parquet file yet. Files are scanned
again before each query, so an open catalog includes new runs and new events. A scan changes the tables in one
transaction: if it fails, the catalog still has the previous rows, and the next scan starts again.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ockham.arrow_values import table_rows
from ockham.catalog.packs import PackStore
from ockham.catalog.raw_views import create_raw_views, drop_arrow_sources, load_table, plugin_kind_views
from ockham.catalog.run_reader import RunFiles, RunReader
from ockham.catalog.schemas import LEDGER_COLUMNS, ODR_SCHEMAS, ODR_TABLE_DESCRIPTIONS
from ockham.catalog.snapshot import CatalogSnapshot
from ockham.catalog.spill import make_spill_dir
from ockham.catalog.views import load_question, load_views
from ockham.errors import MissingParameterError, QueryError, UnverifiableError
from ockham.record.run_folder import list_runs
from ockham.record.tlog.note import VerifierKey

_MAX_RESCANS = 6
# Parameters of saved questions that are run IDs.
_RUN_PARAMETERS = ("run", "run_a", "run_b")
# `ockham repair` removes and writes all Parquet files of a run in this time.
_RESCAN_SECONDS = 0.05
# Columns without a comment, such as run_id and attempt, use the comment of the same column in `decisions` or
# `contexts`. The comments are a table, because `COMMENT ON` for each column took half of the time to open.
_DICTIONARY = """
create or replace view data_dictionary as
select v.view_name as view, c.column_name as "column", c.data_type as type,
    coalesce(m.comment, d.comment, x.comment) as comment, n.comment as view_comment
from duckdb_views() v
join duckdb_columns() c on c.table_name = v.view_name and c.schema_name = v.schema_name
left join raw_comments m on m.view = v.view_name and m."column" = c.column_name
left join raw_comments d on d.view = 'decisions' and d."column" = c.column_name
left join raw_comments x on x.view = 'contexts' and x."column" = c.column_name
left join raw_comments n on n.view = v.view_name and n."column" is null
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
        odr_tables: Tables `odrs`, `odr_constraints`, `odr_evidence`, `odr_findings` and `ledger_events`.
            Missing tables are empty.
        run_ids: IDs of the runs to read. None reads all. Files of other runs are not opened.
        sandboxed: Read Parquet files with Arrow, so that `lock_down` can remove DuckDB's file access.
        allow_spill: Allow queries to use the disk when memory is full. Ignored if sandboxed.
        verified: Compare the signed lines of each run with its tree heads, and read only these lines. Parquet
            files are not read. Values of run.json are null, because it is not signed.
        keys: Trusted verifier keys. Without one, the key in the run.json of each run is used.
        pinned: The caller has compared all lines with a root, so all of them are evidence.

    Raises:
        RunError: If the only runs of *run_ids* are in folders with other names.
        UnverifiableError: If a file cannot be read, or a verified run is tampered with.

    """

    def __init__(
        self,
        runs: str | Path = "runs",
        odr_tables: Mapping[str, pa.Table] | None = None,
        *,
        run_ids: Sequence[str] | None = None,
        sandboxed: bool = False,
        allow_spill: bool = True,
        verified: bool = False,
        keys: Sequence[VerifierKey] = (),
        pinned: bool = False,
    ) -> None:
        self.runs = Path(runs)
        self.sandboxed = sandboxed
        self._odr_tables = {name: schema.empty_table() for name, schema in ODR_SCHEMAS.items()} | dict(
            odr_tables or {}
        )
        self._options: dict[str, Any] = {"verified": verified, "keys": keys, "pinned": pinned}
        self._reader = RunReader(self.runs, run_ids, **self._options)
        self._packs = PackStore(self.runs)
        self._state: object = None
        # Run folders that are not read -> message with the name of the run that they contain.
        self.renamed_runs: dict[str, str] = {}
        # Increases when files have changed. Callers that cache results use it as a key.
        self.version = 0
        self._lock = threading.RLock()
        self._in_transaction = False
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
        # Each query has its own cursor. A cursor has only the settings that are set for all sessions.
        self.connection.execute("set global timezone = 'UTC'")
        # Otherwise SQL can read local Python variables as tables.
        self.connection.execute("set global python_enable_replacements = false")
        self.refresh()

    @property
    def run_ids(self) -> Sequence[str] | None:
        """IDs of the runs to read; None reads all."""
        return self._reader.run_ids

    @run_ids.setter
    def run_ids(self, run_ids: Sequence[str] | None) -> None:
        self._reader.run_ids = run_ids

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
        return table_rows(self.sql(text, parameters))

    def snapshot(self) -> CatalogSnapshot:
        """Return the version of the last scan, for several queries that must see the same files."""
        with self._lock:
            return CatalogSnapshot(self.connection.cursor(), self.version)

    def ask(self, name: str, **parameters: Any) -> pa.Table:
        """Run a saved question and return the result.

        Args:
            name: Name of the question, see `question_names`.
            parameters: Parameters of the question. `run` limits every question to one run.

        Raises:
            QueryError: If the question or the run does not exist, or a parameter is missing or unknown.

        """
        question = load_question(name)
        for key in _RUN_PARAMETERS:
            self._require_run(parameters.get(key))
        run = parameters.get("run")
        if run is not None and "run" not in question.parameters:
            del parameters["run"]
            odr_tables = {key: self._odr_tables[key] for key in ODR_SCHEMAS}
            return Catalog(self.runs, odr_tables, run_ids=[run], **self._options).ask(name, **parameters)
        unknown = sorted(set(parameters) - set(question.parameters))
        if unknown:
            accepted = ", ".join(question.parameters) or "none"
            raise QueryError(f"question {name!r} has no parameter {unknown[0]!r}; accepted: {accepted}")
        return self.sql(question.sql, {key: parameters.get(key) for key in question.parameters} or None)

    def _require_run(self, run: Any) -> None:
        """Raise QueryError if a parameter names a run that does not exist."""
        if run is not None and run not in (known_runs := list_runs(self.runs)):
            existing = ", ".join(known_runs[:8]) or "none"
            raise QueryError(f"{run!r:.80}: run not found in {self.runs}; existing runs: {existing}")

    def refresh(self) -> None:
        """Scan the files again. If nothing has changed, this costs only the directory listing.

        Raises:
            RunError: If the only selected runs are in folders with other names.
            UnverifiableError: If a Parquet file or a line cannot be read. The previous rows remain.

        """
        for attempt in range(_MAX_RESCANS):
            try:
                self._rescan()
            # Both errors can mean that a file was removed between the listing and the read.
            except OSError as error:
                if attempt == _MAX_RESCANS - 1:
                    raise UnverifiableError(
                        f"{error.filename or self.runs}: cannot be read: {error.strerror or error}"
                    ) from None
            except duckdb.IOException as error:
                if attempt == _MAX_RESCANS - 1:
                    raise _parquet_error(error) from None
            except duckdb.Error as error:
                raise _parquet_error(error) from None
            else:
                return
            time.sleep(attempt * _RESCAN_SECONDS)

    def _rescan(self) -> None:
        with self._lock:
            files = self._reader.read()
            if files.state == self._state and self._packs.is_intact():
                return
            version = self.version + 1
            self._packs.forget()
            self._roll_back()
            self.connection.execute("begin transaction")
            self._in_transaction = True
            try:
                self._register(files, version)
                if self._state is None:
                    self._create_views()
                self.connection.execute("commit")
                self._in_transaction = False
            except BaseException:
                self._roll_back()
                raise
            self._state = files.state
            self.renamed_runs = files.renamed
            self.version = version
            if self.sandboxed:
                drop_arrow_sources(self.connection, version)

    def _roll_back(self) -> None:
        """End a transaction that has failed. If this fails too, the next scan does it."""
        if self._in_transaction:
            with contextlib.suppress(duckdb.Error):
                self.connection.execute("rollback")
                self._in_transaction = False

    def close(self) -> None:
        """Close the database connection and free its memory."""
        self.connection.close()

    def _register(self, files: RunFiles, version: int) -> None:
        run_tables, tails = self._reader.load_tables(files)
        tables = run_tables | self._odr_tables
        for name, table in tables.items():
            load_table(self.connection, f"{name}_" if name in self._odr_tables else name, table)
        create_raw_views(
            self.connection,
            files.listing,
            tails,
            files.sizes,
            packs=self._packs,
            version=version,
            sandboxed=self.sandboxed,
        )
        for name, select in plugin_kind_views(tables["plugin_uses"], tables["plugin_clashes"]).items():
            self.connection.execute(f"create or replace view {name} as {select}")

    def lock_down(self, memory: str, readable: Path | None = None) -> None:
        """Permanently remove access to files, network, extensions and settings, before user SQL runs.

        Args:
            memory: Memory limit of DuckDB, such as `500MB`.
            readable: The only folder in which DuckDB may open files, besides the packs. DuckDB could also
                write there, so the caller must remove write access from the process first. None allows no
                file access.

        """
        settings = {"memory_limit": memory, "temp_directory": "", "enable_external_access": "false"}
        for name, value in settings.items():
            if name == "enable_external_access" and readable is not None:
                folders = [
                    str(folder).replace("'", "''") for folder in (readable, self._packs.folder) if folder
                ]
                quoted = ", ".join(f"'{folder}/'" for folder in folders)
                self.connection.execute(f"set allowed_directories = [{quoted}]")
            self.connection.execute(f"set {name} = '{value}'")
        self.connection.execute("set lock_configuration = true")

    def _create_views(self) -> None:
        for view in load_views():
            self.connection.execute(f"create or replace view {view.name} as {view.select}")
        for name in ODR_SCHEMAS:
            self.connection.execute(f"create or replace view {name} as select * from {name}_")
        load_table(self.connection, "raw_comments", _comments())
        self.connection.execute(_DICTIONARY)


@functools.cache
def _comments() -> pa.Table:
    """Return the meaning of each view, with an empty column, and of each column."""
    rows: list[tuple[str, str | None, str]] = [
        ("data_dictionary", None, "All views and columns, with type and meaning.")
    ]
    for view in load_views():
        rows.append((view.name, None, view.comment))
        rows += ((view.name, column, text) for column, text in view.columns.items())
    rows += ((name, None, f"Decision records: {ODR_TABLE_DESCRIPTIONS[name]}.") for name in ODR_SCHEMAS)
    rows += (("ledger_events", column, text) for column, text in LEDGER_COLUMNS.items())
    names = ("view", "column", "comment")
    columns = (pa.array(values, pa.string()) for values in zip(*rows, strict=True))
    return pa.table(dict(zip(names, columns, strict=True)))


def _missing_parameters(text: str, parameters: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters of *text* that have no value; empty if it cannot be parsed."""
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error:
        return set()
    return {name for statement in statements for name in statement.named_parameters} - set(parameters)
