"""Raw views, one per kind of row: Parquet files of sealed segments and lines without Parquet, as one view.

The columns `signed` and `superseded` are constants for most files. Only files of an attempt from which a
later attempt resumed at an earlier iteration are joined with `attempt_cuts`. Only files that end after the
newest tree head are joined with `log_sizes`. A join for every row doubled the time of most questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ockham.catalog.file_index import FileListing, ParquetFile
from ockham.catalog.packs import PackStore
from ockham.catalog.tails import LogSize
from ockham.catalog.views import load_views
from ockham.record.parquet.file_check import LogKey
from ockham.record.parquet.tables import SCHEMAS

_USES = ("gate", "compressor", "limiter", "memory")
_ATTEMPT_CUTS_SQL = """
create or replace table attempt_cuts as
select a.run_id, a.attempt, min(r.iter_num) as iter_num
from raw_attempts a
join (select run_id, attempt, (data ->> '$.iter_num')::bigint as iter_num from ({resumed})
      where type = 'ockham.run.resumed.v1' and signed) r on r.run_id = a.run_id and r.attempt > a.attempt
group by all
"""
# How the column `signed` of a group of Parquet files is computed.
_SIGNED_SQL = {"all": "true", "none": "false", "part": 'coalesce(x."sequence" < s.size, false)'}


def create_raw_views(
    connection: Any,
    listing: FileListing,
    tails: Mapping[str, pa.Table],
    sizes: Mapping[LogKey, LogSize],
    *,
    packs: PackStore | None = None,
    version: int = 0,
    sandboxed: bool,
) -> None:
    """Create or replace `attempt_cuts`, `raw_contexts`, `raw_decisions` and `raw_events`.

    Only a signed `run.resumed` supersedes rows of earlier attempts.

    Args:
        connection: DuckDB connection with the tables `raw_attempts` and `log_sizes`.
        listing: Files to read.
        tails: Rows of the segments without Parquet files, with the column `signed`.
        sizes: Size of each log.
        packs: Packs that are read in place of many small files. None reads each file.
        version: Number of this version of the files. Arrow datasets of other versions are kept.
        sandboxed: Read Parquet files with Arrow, because DuckDB has no file access.

    """
    read = _arrow_source if sandboxed else _duckdb_source
    for kind, tail in tails.items():
        load_table(connection, f"raw_{kind}_tail", tail)
    later = [file for file in listing.parquet["events"] if file.log[1] > 1]
    parts = [_select_rows("events", "raw_events_tail", "x.signed", cut=False)]
    for state, files in _group_by_signed(later, sizes).items():
        source = read(
            connection, f"raw_events_later_{state}_{version}", "events", [file.path for file in files]
        )
        parts.append(_select_rows("events", source, _SIGNED_SQL[state], cut=False))
    connection.execute(_ATTEMPT_CUTS_SQL.format(resumed=" union all ".join(parts)))
    cuts = set(connection.execute("select run_id, attempt from attempt_cuts").fetchall())
    for kind in SCHEMAS:
        # Without a UNION, DuckDB can count rows from the Parquet footers.
        has_tail = tails[kind].num_rows > 0 or not listing.parquet[kind]
        parts = [_select_rows(kind, f"raw_{kind}_tail", "x.signed", cut=bool(cuts))] if has_tail else []
        for cut, group in ((False, "uncut"), (True, "cut")):
            chosen = [file for file in listing.parquet[kind] if (file.log[:2] in cuts) == cut]
            for state, files in _group_by_signed(chosen, sizes).items():
                paths = [file.path for file in files]
                if packs is not None and not cut and state == "all":
                    paths = packs.replace_members(kind, files)
                source = read(connection, f"raw_{kind}_{group}_{state}_{version}", kind, paths)
                parts.append(_select_rows(kind, source, _SIGNED_SQL[state], cut=cut))
        connection.execute(f"create or replace view raw_{kind} as {' union all '.join(parts)}")


def _group_by_signed(
    files: Iterable[ParquetFile], sizes: Mapping[LogKey, LogSize]
) -> dict[str, list[ParquetFile]]:
    """Return the files of which all rows, a part of the rows, or no row is signed."""
    groups: dict[str, list[ParquetFile]] = {}
    for file in files:
        signed = sizes[file.log].signed
        state = "part"
        if file.end <= signed:
            state = "all"
        elif file.first >= signed:
            state = "none"
        groups.setdefault(state, []).append(file)
    return groups


def drop_arrow_sources(connection: Any, version: int) -> None:
    """Drop the Arrow datasets of all versions but *version*."""
    names = connection.execute(
        "select view_name from duckdb_views() where temporary and view_name similar to 'raw_.*_[0-9]+'"
    ).fetchall()
    for (name,) in names:
        if not name.endswith(f"_{version}"):
            connection.unregister(name)


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


def _select_rows(kind: str, source: str, signed: str, *, cut: bool) -> str:
    """Return a SELECT of the rows of *source* with the columns `signed` and `superseded`."""
    superseded = "coalesce(x.iter_num >= c.iter_num, false)" if cut else "false"
    select = f"select {_column_list(kind)}, {signed} as signed, {superseded} as superseded from {source} x"
    if cut:
        select += " left join attempt_cuts c on c.run_id = x.run_id and c.attempt = x.attempt"
    if signed == _SIGNED_SQL["part"]:
        select += (
            ' left join log_sizes s on s.run_id = x.run_id and s.attempt = x.attempt and s."rank" = x."rank"'
        )
    return select


def _column_list(kind: str) -> str:
    """Return the columns, a narrow one first, because DuckDB reads the first column to count rows."""
    names = sorted(SCHEMAS[kind].names, key=lambda name: name != "rank")
    return ", ".join(f'x."{name}"' for name in names)


def _duckdb_source(_connection: Any, _name: str, _kind: str, paths: Sequence[str]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{quoted}], hive_partitioning = false)"


def _arrow_source(connection: Any, name: str, kind: str, paths: Sequence[str]) -> str:
    import pyarrow.dataset as ds

    connection.register(name, ds.dataset(list(paths), format="parquet", schema=SCHEMAS[kind]))
    return name
