"""The views and saved questions under Spark, for more runs than one machine can read.

Both engines use one definition: the SQL of `ockham/sql/` is DuckDB's and is translated here by sqlglot. A few
expressions that sqlglot does not translate are rewritten. Files are listed as for DuckDB, so a run filter
removes them before Spark reads anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from ockham.catalog.raw_views import plugin_kind_views
from ockham.catalog.run_reader import RunReader
from ockham.catalog.schemas import ODR_SCHEMAS
from ockham.catalog.views import load_question, load_views
from ockham.errors import BadInputError, QueryError, install_command
from ockham.record.parquet.tables import SCHEMAS

_CUTS = """
select a.run_id, a.attempt, min(r.iter_num) as iter_num from raw_attempts a
join (select run_id, attempt, (data ->> '$.iter_num')::bigint as iter_num from lines_events
      where type = 'ockham.run.resumed.v1' and attempt > 1 and signed) r
    on r.run_id = a.run_id and r.attempt > a.attempt
group by all
"""
_SIGNED = """
select x.*, coalesce(x.sequence < s.size, false) as signed from files_{kind} x
left join log_sizes s on s.run_id = x.run_id and s.attempt = x.attempt and s.`rank` = x.`rank`
"""
_SUPERSEDED = """
select x.*, coalesce(x.iter_num >= c.iter_num, false) as superseded
from lines_{kind} x left join attempt_cuts c on c.run_id = x.run_id and c.attempt = x.attempt
"""
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    # As in DuckDB, an index past the end and a division by zero return null.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
}
_JSON_PATH_OF_LIST = re.compile(r"(\$.*)\[\*\]\.(\w+)")


class SparkCatalog:
    """The audit views in a Spark session. Close it after use.

    Args:
        runs: Folder of runs, the same path on every worker.
        odr_tables: Tables of decision records, as for `Catalog`.
        run_ids: Run IDs. None means all.
        master: Address of the Spark master, such as `local[2]`.
        settings: Further settings of the session.

    Raises:
        BadInputError: If Spark is not installed or cannot start.

    """

    def __init__(
        self,
        runs: str | Path = "runs",
        odr_tables: Mapping[str, pa.Table] | None = None,
        *,
        run_ids: Sequence[str] | None = None,
        master: str = "local[*]",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.session = _session(master, {**_SETTINGS, **(settings or {})})
        root = Path(runs).resolve()
        reader = RunReader(root, run_ids)
        files = reader.read()
        run_tables, tails = reader.load_tables(files)
        tables = {
            **run_tables,
            **{name: schema.empty_table() for name, schema in ODR_SCHEMAS.items()},
            **(odr_tables or {}),
        }
        for name, table in tables.items():
            self._frame(table).createOrReplaceTempView(name)
        for kind, tail in tails.items():
            frame = self._frame(tail)
            if files.listing.parquet[kind]:
                paths = [file.path for file in files.listing.parquet[kind]]
                schema = frame.drop("signed").schema
                self.session.read.schema(schema).parquet(*paths).createOrReplaceTempView(f"files_{kind}")
                frame = self.session.sql(_SIGNED.format(kind=kind)).unionByName(frame)
            frame.createOrReplaceTempView(f"lines_{kind}")
        self._view("attempt_cuts", _CUTS)
        for kind in SCHEMAS:
            self._view(f"raw_{kind}", _SUPERSEDED.format(kind=kind))
        for name, select in plugin_kind_views(tables["plugin_uses"], tables["plugin_clashes"]).items():
            self._view(name, select)
        for view in load_views():
            self._view(view.name, view.select)

    def ask(self, name: str, **parameters: Any) -> pa.Table:
        """Return the answer to a saved question.

        Raises:
            QueryError: If the question does not exist, or the parameters are not those of the question.

        """
        question = load_question(name)
        if set(parameters) != set(question.parameters):
            known = ", ".join(question.parameters) or "none"
            raise QueryError(f"question {name!r} takes these parameters: {known}")
        return self.sql(question.sql, parameters)

    def sql(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the answer to SQL in DuckDB's dialect. Parameters are written `$name`.

        Raises:
            QueryError: If Spark cannot answer it. The message is Spark's.

        """
        try:
            table: pa.Table = self.session.sql(spark_sql(text), args=dict(parameters or {})).toArrow()
        except Exception as error:
            raise QueryError(" ".join(str(error).split())[:600]) from None
        return table

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
    """Return SQL of DuckDB's dialect in Spark's dialect.

    Raises:
        QueryError: If the SQL cannot be parsed.

    """
    try:
        parsed = sqlglot.parse_one(text, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise QueryError(f"this SQL is not understood: {str(error).splitlines()[0]:.300}") from None
    return parsed.transform(_rewrite_node).sql(dialect="spark")


def _rewrite_node(node: exp.Expr) -> exp.Expr:
    """Rewrite one expression that sqlglot leaves in DuckDB's dialect."""
    if isinstance(node, exp.PercentileCont) and node.expression is not None:
        return exp.func("percentile", node.this, node.expression)
    if isinstance(node, exp.Median):
        # Spark accepts no frame for MEDIAN.
        return exp.func("percentile", node.this, exp.Literal.number("0.5"))
    if isinstance(node, exp.TimeToUnix):
        # UNIX_TIMESTAMP of Spark has whole seconds.
        return exp.Paren(this=_spark(f"unix_micros(timestamp({node.this.sql(dialect='spark')})) / 1e6"))
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        # In Spark, NaN is greater than infinity.
        if name == "isfinite":
            return exp.Paren(
                this=exp.LT(this=exp.Abs(this=node.expressions[0]), expression=_spark("double('Infinity')"))
            )
        if name == "list_sum":
            return _rewrite_list_sum(node)
    return node


def _rewrite_list_sum(node: exp.Anonymous) -> exp.Expr:
    """Rewrite `list_sum((data -> '$.files[*].bytes')::bigint[])`, a sum over a JSON list of objects."""
    path = next(node.find_all(exp.JSONExtract))
    named = _JSON_PATH_OF_LIST.fullmatch(path.expression.sql(dialect="duckdb").strip("'"))
    if named is None:
        raise QueryError(f"{node.sql(dialect='duckdb')!r:.100} has no equivalent in Spark")
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
        raise BadInputError(
            f"pyspark is not installed; run {install_command('spark')} and install Java 17"
        ) from None
    builder = SparkSession.builder.master(master).appName("ockham")
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise BadInputError(f"Spark cannot start at {master!r}: {str(error).splitlines()[0]:.300}") from None
    session.sparkContext.setLogLevel("ERROR")
    return session
