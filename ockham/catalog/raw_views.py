"""Raw views, one per kind of row: Parquet files of sealed segments and lines without Parquet, as one view.

The column `superseded` is a constant for most files. Only files of an attempt from which a later attempt
resumed at an earlier iteration are joined with `attempt_cuts`. A join for every row doubled the time of most
questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ockham.catalog.file_index import FileListing, ParquetFile
from ockham.catalog.views import load_views
from ockham.record.parquet.tables import SCHEMAS

_USES = ("gate", "compressor", "limiter", "memory")
_ATTEMPT_CUTS_SQL = """
create or replace table attempt_cuts as
select a.run_id, a.attempt, min(r.iter_num) as iter_num
from raw_attempts a
join (select run_id, attempt, (data ->> '$.iter_num')::bigint as iter_num from ({resumed})
      where type = 'ockham.run.resumed.v1') r on r.run_id = a.run_id and r.attempt > a.attempt
group by all
"""


def create_raw_views(
    connection: Any, listing: FileListing, tails: Iterable[Mapping[str, pa.Table]], *, sandboxed: bool
) -> None:
    """Create or replace `attempt_cuts`, `raw_contexts`, `raw_decisions` and `raw_events`.

    Args:
        connection: DuckDB connection with a table `raw_attempts`.
        listing: Files to read.
        tails: Tables of the segments without Parquet files.
        sandboxed: Read Parquet files with Arrow, because DuckDB has no file access.

    """
    read = _arrow_source if sandboxed else _duckdb_source
    tail_tables = list(tails)
    tail_rows: dict[str, int] = {}
    for kind, schema in SCHEMAS.items():
        tail = pa.concat_tables([schema.empty_table(), *(tables[kind] for tables in tail_tables)])
        load_table(connection, f"raw_{kind}_tail", tail)
        tail_rows[kind] = tail.num_rows
    later = [file for file in listing.parquet["events"] if file.attempt > 1]
    parts = [f"select {_column_list('events')} from raw_events_tail"]
    if later:
        parts.append(f"select {_column_list('events')} from {read(connection, 'events', 'later', later)}")
    connection.execute(_ATTEMPT_CUTS_SQL.format(resumed=" union all ".join(parts)))
    cuts = set(connection.execute("select run_id, attempt from attempt_cuts").fetchall())
    for kind in SCHEMAS:
        uncut_files = [file for file in listing.parquet[kind] if (file.run_id, file.attempt) not in cuts]
        cut_files = [file for file in listing.parquet[kind] if (file.run_id, file.attempt) in cuts]
        # Without a UNION, DuckDB can count rows from the Parquet footers.
        has_tail = tail_rows[kind] > 0 or not listing.parquet[kind]
        parts = [_select_rows(kind, f"raw_{kind}_tail", bool(cuts))] if has_tail else []
        for files, name in ((uncut_files, "uncut"), (cut_files, "cut")):
            if files:
                parts.append(_select_rows(kind, read(connection, kind, name, files), name == "cut"))
        connection.execute(f"create or replace view raw_{kind} as {' union all '.join(parts)}")


def plugin_kind_views(uses: pa.Table, conflicts: pa.Table) -> dict[str, str]:
    """Return view name -> SELECT for the decisions of each kind of plugin.

    The SQL contains the plugin names of all policies, so a scan can filter before it reads other columns.
    A join with the policies took a third longer. Names that refer to different plugins in different policies
    are looked up for each row.
    """
    decisions = next(view.select for view in load_views() if view.name == "decisions")
    selects = {}
    for use in _USES:
        names = sorted({row["plugin"] for row in uses.to_pylist() if row["use"] == use and row["plugin"]})
        quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
        where = f"d.plugin in ({quoted})" if names else "false"
        if set(names) & set(conflicts.column("plugin").to_pylist()):
            where += (
                f" and not exists (select 1 from plugin_clashes c where c.use <> '{use}'"
                " and c.run_id = d.run_id and c.policy_revision = d.policy_revision and c.plugin = d.plugin)"
            )
        selects[f"raw_{use}_decisions"] = f"select d.* from ({decisions}) d where {where}"
    return selects


def load_table(connection: Any, name: str, table: pa.Table) -> None:
    """Copy an Arrow table into a DuckDB table."""
    connection.register("source", table)
    connection.execute(f"create or replace table {name} as select * from source")
    connection.unregister("source")


def _select_rows(kind: str, source: str, cut: bool) -> str:
    """Return a SELECT of the rows of *source* with the column `superseded`."""
    if not cut:
        return f"select {_column_list(kind)}, false as superseded from {source}"
    return (
        f"select {_column_list(kind, 'x.')}, coalesce(x.iter_num >= c.iter_num, false) as superseded "
        f"from {source} x left join attempt_cuts c on c.run_id = x.run_id and c.attempt = x.attempt"
    )


def _column_list(kind: str, prefix: str = "") -> str:
    """Return the columns, a narrow one first, because DuckDB reads the first column to count rows."""
    names = sorted(SCHEMAS[kind].names, key=lambda name: name != "rank")
    return ", ".join(f'{prefix}"{name}"' for name in names)


def _duckdb_source(_connection: Any, _kind: str, _name: str, files: Sequence[ParquetFile]) -> str:
    paths = ", ".join("'" + str(Path(file.path)).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def _arrow_source(connection: Any, kind: str, name: str, files: Sequence[ParquetFile]) -> str:
    import pyarrow.dataset as ds

    view = f"raw_{kind}_{name}"
    connection.register(
        view, ds.dataset([file.path for file in files], format="parquet", schema=SCHEMAS[kind])
    )
    return view
