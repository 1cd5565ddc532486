"""Export of all views to one file or folder, with a manifest of the exported logs."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ockham.arrow_values import column_values, columns_with_statistics
from ockham.catalog.catalog import Catalog
from ockham.errors import BadInputError
from ockham.event import to_json_value
from ockham.record.durable_io import atomic_path
from ockham.record.evidence import read_evidence
from ockham.record.run_folder import RunFolder, list_runs
from ockham.record.segment_reader import read_complete_lines
from ockham.record.verify.run import own_keys
from ockham.text_safety import escape_formula

# Format of exported DuckDB files, which every later DuckDB reads.
STORAGE_VERSION = "v1.0.0"
_DICTIONARY = """
select * replace (if(type = 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', type) as type) from data_dictionary
"""


def export_views(
    runs: str | Path,
    to: Path,
    kind: str,
    only: Sequence[str] | None = None,
    odr_tables: Mapping[str, pa.Table] | None = None,
) -> int:
    """Write all views and a manifest, and return the number of rows. A failed export leaves no files.

    Args:
        runs: Folder of runs.
        to: New DuckDB file or new folder.
        kind: `duckdb`, `parquet` or `csv`.
        only: IDs of the runs to export. None exports all.
        odr_tables: Tables of decision records, see `Catalog`.

    Raises:
        BadInputError: If *to* exists or cannot be written.

    """
    if to.exists():
        raise BadInputError(f"{to} exists; export to a new path")
    catalog = Catalog(runs, odr_tables, run_ids=only)
    manifest = _manifest(Path(runs), only)
    names = [row["view"] for row in catalog.rows("select distinct view from data_dictionary order by view")]
    tables = {name: _set_utc(catalog.sql(f'select * from "{name}"')) for name in names}
    tables["data_dictionary"] = catalog.sql(_DICTIONARY)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(to) as temporary:
            if kind == "duckdb":
                _to_duckdb(temporary, tables, manifest)
            else:
                _to_folder(temporary, tables, manifest, kind)
    except OSError as error:
        raise BadInputError(f"cannot write {to}: {error.strerror or error}") from None
    except duckdb.Error as error:
        raise BadInputError(f"cannot write {to}: {str(error).splitlines()[0]}") from None
    return sum(table.num_rows for table in tables.values())


def _set_utc(table: pa.Table) -> pa.Table:
    """Return *table* with the zone UTC in its times.

    The catalog computes in UTC. Another program computes in the zone of its machine, and would read a time
    without a zone as local time.
    """
    types = {field.name: field.type for field in table.schema}
    zoned = {
        name: pa.timestamp(kind.unit, "UTC") if pa.types.is_timestamp(kind) else kind
        for name, kind in types.items()
    }
    return table.cast(pa.schema(zoned.items())) if zoned != types else table


def _manifest(runs: Path, only: Sequence[str] | None) -> dict[str, Any]:
    """Return the manifest: for each log its number of complete and of signed lines, and their SHA-256."""
    logs = []
    for run_id in list_runs(runs):
        if only is not None and run_id not in only:
            continue
        folder = RunFolder(runs, run_id)
        evidence = read_evidence(folder, own_keys(folder))
        for attempt, rank in folder.logs():
            digest, events = hashlib.sha256(), 0
            for segment in folder.segments(attempt, rank):
                lines, _ = read_complete_lines(segment)
                events += len(lines)
                for line in lines:
                    digest.update(line + b"\n")
            log = {"run_id": run_id, "attempt": attempt, "rank": rank, "events": events}
            known = evidence.logs.get((attempt, rank))
            signed = 0 if known is None else known.signed
            logs.append({**log, "signed": signed, "sha256": digest.hexdigest()})
    return {"manifest": 1, "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "logs": logs}


def _to_duckdb(path: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)
    log = path.with_name(f"{path.name}.wal")
    try:
        _write_duckdb(path, tables, manifest)
        if log.exists():
            raise BadInputError(f"{path}: not all rows could be written into the file; free disk space")
    finally:
        log.unlink(missing_ok=True)


def _write_duckdb(path: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    with duckdb.connect() as connection:
        name = str(path).replace("'", "''")
        connection.execute(f"attach '{name}' as export (storage_version '{STORAGE_VERSION}')")
        connection.execute("use export")
        for name, table in tables.items():
            connection.register("source", table)
            connection.execute(f'create table "{name}" as select * from source')
            connection.unregister("source")
        connection.execute("create table manifest as select ? as manifest", [json.dumps(manifest)])
        # Raises if the disk is full. Closing ignores that.
        connection.execute("checkpoint")


def _to_folder(folder: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any], kind: str) -> None:
    folder.mkdir()
    for name, table in tables.items():
        if kind == "parquet":
            statistics = columns_with_statistics(table.schema)
            path = folder / f"{name}.parquet"
            pq.write_table(table, path, compression="zstd", write_statistics=statistics)
        else:
            pyarrow.csv.write_csv(_flatten_nested_columns(table), folder / f"{name}.csv")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _flatten_nested_columns(table: pa.Table) -> pa.Table:
    """Return *table* for CSV: lists and maps as JSON, and text that looks like a formula escaped."""
    columns = []
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_nested(field.type):
            values = [
                None if value is None else json.dumps(to_json_value(value), default=str)
                for value in column_values(column)
            ]
            column = pa.chunked_array([pa.array(values, pa.string())])
        elif pa.types.is_string(field.type) and pc.any(pc.match_substring_regex(column, "^[=+@-]")).as_py():
            texts = [None if text is None else escape_formula(text) for text in column_values(column)]
            column = pa.chunked_array([pa.array(texts, pa.string())])
        columns.append(column)
    return pa.table(columns, names=table.column_names)
