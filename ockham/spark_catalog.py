"""The same views and saved questions under Spark, for a fleet that one machine can't read any more.

One definition for both engines: the SQL of `ockham/sql/` is DuckDB's and is translated here by sqlglot, with the few words
rewritten that it leaves as they are. Files are listed as for DuckDB, so a run filter prunes them before Spark hears of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from ockham.catalog.file_index import FileIndex
from ockham.catalog.raw_views import plugin_kind_views
from ockham.catalog.run_tables import (
    attempts_table,
    name_conflicts_table,
    policies_tables,
    read_tail,
    reason_codes_table,
    runs_table,
)
from ockham.catalog.schemas import ODR_SCHEMAS
from ockham.catalog.views import load_question, load_views
from ockham.errors import BadInputError, QueryError
from ockham.record.parquet.tables import SCHEMAS
from ockham.record.run_folder import RunFolder, list_runs

_CUTS = """
select a.run_id, a.attempt, min(r.iter_num) as iter_num from raw_attempts a
join (select run_id, attempt, (data ->> '$.iter_num')::bigint as iter_num from lines_events
      where type = 'ockham.run.resumed.v1' and attempt > 1) r on r.run_id = a.run_id and r.attempt > a.attempt
group by all
"""
_SUPERSEDED = """
select x.*, coalesce(x.iter_num >= c.iter_num, false) as superseded
from lines_{kind} x left join attempt_cuts c on c.run_id = x.run_id and c.attempt = x.attempt
"""
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",  # an index past the end and a division by zero are null, as in DuckDB
    "spark.sql.shuffle.partitions": "8",
}
_JSON_PATH_OF_LIST = re.compile(r"(\$.*)\[\*\]\.(\w+)")


class SparkCatalog:
    """The audit views on a Spark session of its own; close it.

    Args:
        runs: the folder of runs, the same path on every worker.
        odr_tables: as for `Catalog`.
        only: run IDs; None: all.
        master: where Spark runs, `local[2]` for example.
        settings: further settings of the session.

    Raises:
        BadInputError: if Spark is not installed, or can't start.

    """

    def __init__(
        self, runs: str | Path = "runs", odr_tables: Mapping[str, pa.Table] | None = None, *,
        only: Sequence[str] | None = None, master: str = "local[*]", settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.session = _session(master, {**_SETTINGS, **(settings or {})})
        root = Path(runs).resolve()
        folders = [RunFolder(root, name) for name in list_runs(root) if only is None or name in only]
        found = FileIndex().scan(folders)
        tails = [read_tail(path, None).tables for path in found.segments]
        policies, uses = policies_tables(folders)
        clashes = name_conflicts_table(uses)
        own = {"raw_runs": runs_table(folders), "raw_policies": policies, "plugin_uses": uses, "plugin_clashes": clashes, "raw_reason_codes": reason_codes_table(),
               "raw_attempts": attempts_table(found.attempts),
               **{name: schema.empty_table() for name, schema in ODR_SCHEMAS.items()}, **(odr_tables or {})}  # fmt: skip
        for name, table in own.items():
            self._frame(table).createOrReplaceTempView(name)
        for kind, schema in SCHEMAS.items():
            frame = self._frame(pa.concat_tables([schema.empty_table(), *(tail[kind] for tail in tails)]))
            if found.parquet[kind]:
                paths = [file.path for file in found.parquet[kind]]
                frame = self.session.read.schema(frame.schema).parquet(*paths).unionByName(frame)
            frame.createOrReplaceTempView(f"lines_{kind}")
        self._view("attempt_cuts", _CUTS)
        for kind in SCHEMAS:
            self._view(f"raw_{kind}", _SUPERSEDED.format(kind=kind))
        for name, select in plugin_kind_views(uses, clashes).items():
            self._view(name, select)
        for view in load_views():
            self._view(view.name, view.select)

    def ask(self, name: str, **parameters: Any) -> pa.Table:
        """The answer to a saved question.

        Raises:
            QueryError: if there is no such question, or a parameter is missing or not its own.

        """
        asked = load_question(name)
        if set(parameters) != set(asked.parameters):
            known = ", ".join(asked.parameters) or "none"
            raise QueryError(f"question {name!r} takes these parameters: {known}")
        return self.sql(asked.sql, parameters)

    def sql(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer to SQL in DuckDB's words; parameters are written `$name`.

        Raises:
            QueryError: in Spark's words, if it can't be answered.

        """
        try:
            found: pa.Table = self.session.sql(spark_sql(text), args=dict(parameters or {})).toArrow()
        except Exception as error:
            raise QueryError(" ".join(str(error).split())[:600]) from None
        return found

    def close(self) -> None:
        """End the session."""
        self.session.stop()

    def _view(self, name: str, select: str) -> None:
        self.session.sql(spark_sql(select)).createOrReplaceTempView(name)

    def _frame(self, table: pa.Table) -> Any:
        from pyspark.sql.pandas.types import from_arrow_schema

        schema = from_arrow_schema(table.schema, prefer_timestamp_ntz=True)
        return self.session.createDataFrame(table, schema=schema)


def spark_sql(text: str) -> str:
    """SQL of DuckDB's dialect in Spark's.

    Raises:
        QueryError: if it can't be read.

    """
    try:
        parsed = sqlglot.parse_one(text, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise QueryError(f"this SQL is not understood: {str(error).splitlines()[0]:.300}") from None
    return parsed.transform(_rewrite_node).sql(dialect="spark")


def _rewrite_node(node: exp.Expr) -> exp.Expr:
    """The words that sqlglot leaves as DuckDB says them."""
    if isinstance(node, exp.PercentileCont) and node.expression is not None:
        return exp.func("percentile", node.this, node.expression)
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        if name == "isfinite":  # Spark's NaN is greater than infinity
            return exp.Paren(
                this=exp.LT(this=exp.Abs(this=node.expressions[0]), expression=_spark("double('Infinity')"))
            )
        if name == "list_sum":
            return _rewrite_list_sum(node)
    return node


def _rewrite_list_sum(node: exp.Anonymous) -> exp.Expr:
    """`list_sum((data -> '$.files[*].bytes')::bigint[])`: the sum of one number of each object of a JSON list."""
    path = next(node.find_all(exp.JSONExtract))
    named = _JSON_PATH_OF_LIST.fullmatch(path.expression.sql(dialect="duckdb").strip("'"))
    if named is None:
        raise QueryError(f"{node.sql(dialect='duckdb')!r:.100} has no word in Spark")
    outer, inner = named.groups()
    data = path.this.sql(dialect="spark")
    objects = f"from_json(get_json_object({data}, '{outer}'), 'array<struct<{inner}:bigint>>').{inner}"
    return _spark(f"aggregate({objects}, 0L, (a, b) -> a + b)")


def _spark(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read="spark")


def _session(master: str, settings: Mapping[str, str]) -> Any:
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise BadInputError("Spark is not installed: pip install 'ockham[spark]', and Java 17") from None
    builder = SparkSession.builder.master(master).appName("ockham")
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise BadInputError(f"Spark cannot start at {master!r}: {str(error).splitlines()[0]:.300}") from None
    session.sparkContext.setLogLevel("ERROR")
    return session
