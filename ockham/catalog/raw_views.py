"""The raw views, one for each kind of row: Parquet of sealed segments and lines without one, under one name and schema.

Whether a row is superseded is known of whole files: only those of an attempt that a later one went back behind are joined
with the place of the cut; for all others it is a constant. A join for every row doubled the time of most questions.
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
    connection: Any, found: FileListing, tails: Iterable[Mapping[str, pa.Table]], *, sandboxed: bool
) -> None:
    """Make `raw_contexts`, `raw_decisions` and `raw_events` anew, and `attempt_cuts` before them.

    Args:
        connection: DuckDB's, with a table `raw_attempts`.
        found: what there is to read.
        tails: tables of the segments without Parquet.
        locked: read Parquet by way of Arrow, because DuckDB may open no file.

    """
    read = _by_arrow if sandboxed else _by_duckdb
    tail_tables = list(tails)
    lines: dict[str, int] = {}
    for kind, schema in SCHEMAS.items():
        tail = pa.concat_tables([schema.empty_table(), *(tables[kind] for tables in tail_tables)])
        load_table(connection, f"raw_{kind}_tail", tail)
        lines[kind] = tail.num_rows
    later = [file for file in found.parquet["events"] if file.attempt > 1]
    parts = [f"select {_names('events')} from raw_events_tail"]
    if later:
        parts.append(f"select {_names('events')} from {read(connection, 'events', 'later', later)}")
    connection.execute(_ATTEMPT_CUTS_SQL.format(resumed=" union all ".join(parts)))
    cuts = set(connection.execute("select run_id, attempt from attempt_cuts").fetchall())
    for kind in SCHEMAS:
        whole = [file for file in found.parquet[kind] if (file.run_id, file.attempt) not in cuts]
        cut = [file for file in found.parquet[kind] if (file.run_id, file.attempt) in cuts]
        # Without a UNION DuckDB counts rows by the footers alone.
        tail_too = lines[kind] > 0 or not found.parquet[kind]
        parts = [_rows(kind, f"raw_{kind}_tail", bool(cuts))] if tail_too else []
        for files, name in ((whole, "whole"), (cut, "cut")):
            if files:
                parts.append(_rows(kind, read(connection, kind, name, files), name == "cut"))
        connection.execute(f"create or replace view raw_{kind} as {' union all '.join(parts)}")


def plugin_kind_views(uses: pa.Table, clashes: pa.Table) -> dict[str, str]:
    """The decisions of each kind of plugin, as SELECTs by the name of their view.

    The names that policies give to such plugins stand in the SQL itself: a scan filters by them before it reads the other
    columns, where a join with the policies took a third longer. A name that means another plugin in another policy is
    looked up for each row.
    """
    decisions = next(view.select for view in load_views() if view.name == "decisions")
    selects = {}
    for use in _USES:
        names = sorted({row["plugin"] for row in uses.to_pylist() if row["use"] == use and row["plugin"]})
        listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
        where = f"d.plugin in ({listed})" if names else "false"
        if set(names) & set(clashes.column("plugin").to_pylist()):
            where += (
                f" and not exists (select 1 from plugin_clashes c where c.use <> '{use}' and c.run_id = d.run_id"
                " and c.policy_revision = d.policy_revision and c.plugin = d.plugin)"
            )
        selects[f"raw_{use}_decisions"] = f"select d.* from ({decisions}) d where {where}"
    return selects


def load_table(connection: Any, name: str, table: pa.Table) -> None:
    """An Arrow table as a table of DuckDB's own."""
    connection.register("arriving", table)
    connection.execute(f"create or replace table {name} as select * from arriving")
    connection.unregister("arriving")


def _rows(kind: str, source: str, cut: bool) -> str:
    """The rows of a source, each with whether it is superseded."""
    if not cut:
        return f"select {_names(kind)}, false as superseded from {source}"
    return (
        f"select {_names(kind, 'x.')}, coalesce(x.iter_num >= c.iter_num, false) as superseded from {source} x "
        "left join attempt_cuts c on c.run_id = x.run_id and c.attempt = x.attempt"
    )


def _names(kind: str, before: str = "") -> str:
    """Columns, a narrow one first: it is the one that DuckDB reads where rows are only counted."""
    names = sorted(SCHEMAS[kind].names, key=lambda name: name != "rank")
    return ", ".join(f'{before}"{name}"' for name in names)


def _by_duckdb(_connection: Any, _kind: str, _name: str, files: Sequence[ParquetFile]) -> str:
    paths = ", ".join("'" + str(Path(file.path)).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def _by_arrow(connection: Any, kind: str, name: str, files: Sequence[ParquetFile]) -> str:
    import pyarrow.dataset as ds

    view = f"raw_{kind}_{name}"
    connection.register(
        view, ds.dataset([file.path for file in files], format="parquet", schema=SCHEMAS[kind])
    )
    return view
