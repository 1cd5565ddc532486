"""Asking the log: query, ask, schema; export stands in a file of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ockham.cli.options import RunOption, RunsOption, odr_tables, run_filter
from ockham.cli.output import FormatOption, OutputOption, write_rows, write_table
from ockham.errors import BadInputError, MissingParameterError, QueryError

RUNS = Path("runs")
_VIEWS = "select view, any_value(view_comment) as meaning, count(*) as columns from data_dictionary group by view order by view"
_COLUMNS = 'select "column", type, comment as meaning from data_dictionary where view = $view'
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of $NAME in the SQL; may be repeated.", show_default=False),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    from ockham.cli.export import export

    for verb in (query, ask, schema, export):
        app.command()(verb)


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the audit views; - reads it from stdin.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Read the SQL from this file.", show_default=False)] = None,
    parameters: Parameters = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most; more are said to be there.")] = 100_000,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds at most.")] = 30.0,
    explain: Annotated[bool, typer.Option("--explain", help="Show the plan instead of the rows.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="No guard: all that DuckDB can do, on this machine. Refused in CI.")] = False,
    run: RunOption = "",
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Ask the log with SQL. `ockham schema` lists the views and their columns.

    Examples:
      ockham query "select reason_code, count(*) n from decisions group by all order by n desc"

      ockham query "select * from gate_decisions where run_id = $run limit 5" -p run=night-1 -f json

      ockham query --file question.sql -o answer.parquet
    """
    from ockham.catalog.object_store import sync_to_local

    text = _text(sql, file)
    values = _values(parameters)
    runs = sync_to_local(runs, run)
    only = run_filter(runs, run)
    if unsafe:
        write_table(_unsafe(text, values, runs, only), form, output)
        return
    from ockham.guard import Guard

    with Guard(runs, odr_tables(), only=only, timeout=timeout, limit=limit) as guard:
        try:
            answer = guard.query(text, values, explain=explain)
        except MissingParameterError as error:
            raise QueryError(f"{error}; say each with -p NAME=VALUE") from None
    if explain:
        typer.echo(answer.table.column(answer.table.num_columns - 1)[0].as_py())
        return
    write_table(answer.table, form, output)
    if answer.truncated:
        typer.echo(f"truncated: more than {limit} rows; --limit gives more", err=True)


def ask(
    name: Annotated[str, typer.Argument(help="Name of a saved question; none lists them.")] = "",
    parameters: Parameters = None,
    run: RunOption = "",
    engine: Annotated[
        str, typer.Option(help="duckdb, or spark for many runs (extra `spark` and Java 17).")
    ] = "duckdb",
    master: Annotated[str, typer.Option(help="Where Spark runs.")] = "local[*]",
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Ask a saved question; without a name, list them.

    Examples:
      ockham ask

      ockham ask refusals --run night-1

      ockham ask update_rate --engine spark --master spark://host:7077
    """
    if engine not in ("duckdb", "spark"):
        raise BadInputError(f"--engine {engine!r}: duckdb or spark")
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local
    from ockham.catalog.views import load_question, question_names

    if not name:
        known = [load_question(each) for each in question_names()]
        rows = [(q.name, q.question, ", ".join(f"{k}: {v}" for k, v in q.parameters.items())) for q in known]
        write_rows(("name", "question", "parameters"), rows, form, output)
        return
    asked = load_question(name)
    runs = sync_to_local(runs, run)
    only = run_filter(runs, run)
    values = {**({"run": only[0]} if only and "run" in asked.parameters else {}), **_values(parameters)}
    missing = [key for key in asked.parameters if key not in values]
    if missing:
        raise QueryError(f"question {name!r} wants -p {missing[0]}=VALUE: {asked.parameters[missing[0]]}")
    typer.echo(asked.question, err=True)
    if engine == "duckdb":
        write_table(Catalog(runs, odr_tables(), run_ids=only).ask(name, **values), form, output)
        return
    from ockham.spark_catalog import SparkCatalog

    fleet = SparkCatalog(runs, odr_tables(), run_ids=only, master=master)
    try:
        write_table(fleet.ask(name, **values), form, output)
    finally:
        fleet.close()


def schema(
    view: Annotated[str, typer.Argument(help="A view; none lists all.")] = "",
    runs: RunsOption = RUNS,
    form: FormatOption = None,
) -> None:
    """List the views, or the columns of one.

    Examples:
      ockham schema

      ockham schema gate_decisions
    """
    from ockham.catalog import Catalog
    from ockham.errors import suggest_name

    catalog = Catalog(runs, run_ids=[])
    if not view:
        write_table(catalog.sql(_VIEWS), form)
        return
    names = [row["view"] for row in catalog.rows("select distinct view from data_dictionary")]
    if view not in names:
        raise BadInputError(f"no view {view!r}{suggest_name(view, names)}")
    write_table(catalog.sql(_COLUMNS, {"view": view}), form)


def _text(sql: str, file: Path | None) -> str:
    if (not sql) == (file is None):
        raise BadInputError("give the SQL as an argument, with --file FILE, or - to read it from stdin")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read {file}: {error}") from None
    return sys.stdin.read() if sql == "-" else sql


def _values(parameters: list[str] | None) -> dict[str, Any]:
    """`name=value`; a number where it reads as one, so that comparisons work."""
    values: dict[str, Any] = {}
    for text in parameters or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise BadInputError(f"-p {text!r}: a parameter is written name=value")
        values[name] = _number(value)
    return values


def _number(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _unsafe(text: str, values: dict[str, Any], runs: Path, only: list[str] | None) -> Any:
    if os.environ.get("CI"):
        raise BadInputError("--unsafe is refused in CI")
    from ockham.catalog import Catalog

    return Catalog(runs, odr_tables(), run_ids=only).sql(text, values or None)
