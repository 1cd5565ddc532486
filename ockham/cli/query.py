"""`ockham query`, `ask` and `schema`: query the log. `export` is in a separate module."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    KeyFileOption,
    KeyOption,
    RunOption,
    RunsOption,
    odr_tables,
    read_trusted_keys,
    run_filter,
)
from ockham.cli.output import FormatOption, OutputOption, print_note, write_rows, write_table, write_text
from ockham.errors import (
    BadInputError,
    MissingParameterError,
    QueryError,
    QuerySyntaxError,
    suggest_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ockham.cli.output import Format

ENGINES = ("duckdb", "spark")
SETTINGS_TOPIC = "settings"
_DUCKDB_PREFIX = re.compile(r"^(?:Binder|Catalog|Conversion|Invalid Input) Error: ")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_LOCATION = re.compile(r"Line (\d+), Col: (\d+)")
ParametersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="Value of $NAME in the SQL; may be repeated.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from ockham.cli.export import export

    for command in (query, ask, schema, export):
        app.command()(command)


def query(
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="One SELECT on the audit views, or DESCRIBE VIEW. - reads it from stdin."
        ),
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read the SQL from this file.", show_default=False),
    ] = None,
    parameters: ParametersOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Maximum number of rows. A note reports omitted rows.")
    ] = 100_000,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Maximum duration.")
    ] = 30.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the query plan instead of the rows.")
    ] = False,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe", help="Disable the guard: the SQL may do everything that DuckDB can. Refused in CI."
        ),
    ] = False,
    verified: Annotated[
        bool,
        typer.Option(
            "--verified",
            help="Check signatures and roots first, and read only signed lines. Slow on long runs.",
        ),
    ] = False,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    run: RunOption = "",
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Query the log with SQL.

    `ockham schema` lists the views and their columns. The column `signed` is false for events that no tree
    head covers. Times are UTC. SQL that reads the clock, such as now(), has another result each time.

    Examples:
      ockham query "select reason_code, count(*) n from decisions group by all order by n desc"

      ockham query "select * from gate_decisions where run_id = $run limit 5" -p run=night-1 -f json

      ockham query --file question.sql -o answer.parquet

      ockham query "select val_loss from evaluations" --verified --run night-1 --key-file trusted.pub
    """
    from ockham.catalog.object_store import sync_to_local
    from ockham.record.run_folder import list_runs
    from ockham.record.run_identity import list_renamed

    if (key or key_file) and not verified:
        raise BadInputError("--key and --key-file require --verified")

    text = _read_sql(sql, file)
    values = _parse_parameters(parameters)
    _check_parameter_use(values, text)
    keys = read_trusted_keys(key, key_file)
    runs = sync_to_local(runs, run, lines=verified)
    run_ids = run_filter(runs, run)
    if run_ids is None:
        for problem in list_renamed(runs, list_runs(runs)).values():
            print_note(f"not read: {problem}")
    if verified and not keys:
        print_note("only each run itself names the key that signs it; pass a trusted key with --key")
    options: dict[str, Any] = {"verified": verified, "keys": keys}
    if unsafe:
        write_table(_query_unguarded(text, values, runs, run_ids, options), output_format, output)
        return
    from ockham.guard import Guard

    with Guard(runs, odr_tables(runs), only=run_ids, timeout=timeout, limit=limit, **options) as guard:
        try:
            answer = guard.query(text, values, explain=explain)
        except MissingParameterError as error:
            raise QueryError(f"{error}; set each with -p NAME=VALUE") from None
        except QuerySyntaxError as error:
            raise QueryError(_describe_syntax_error(text, error)) from None
        except QueryError as error:
            raise type(error)(_DUCKDB_PREFIX.sub("", str(error))) from None
    if explain:
        write_text(answer.table.column(answer.table.num_columns - 1)[0].as_py(), output)
        return
    write_table(answer.table, output_format, output)
    if answer.truncated:
        print_note(f"truncated: more than {limit} rows; a higher --limit returns more")


def ask(
    name: Annotated[
        str, typer.Argument(metavar="QUESTION", help="Name of a saved question. Without it, list all.")
    ] = "",
    parameters: ParametersOption = None,
    run: RunOption = "",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="duckdb, or spark for many runs (extra `spark` and Java 17).",
        ),
    ] = "duckdb",
    master: Annotated[
        str, typer.Option("--master", metavar="URL", help="Spark master, for --engine spark.")
    ] = "local[*]",
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Answer a saved question; without a name, list all.

    Examples:
      ockham ask

      ockham ask refusals --run night-1

      ockham ask update_rate --engine spark --master spark://host:7077
    """
    if engine not in ENGINES:
        raise BadInputError(f"--engine: {engine!r} is not an engine; accepted: {', '.join(ENGINES)}")
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local
    from ockham.catalog.views import load_question

    if not name:
        _list_questions(output_format, output)
        return
    question = load_question(name)
    values = _parse_parameters(parameters)
    _check_parameter_names(name, question.parameters, values)
    runs = sync_to_local(runs, run)
    run_ids = run_filter(runs, run)
    if run_ids and "run" in question.parameters:
        values = {"run": run_ids[0], **values}
    missing = [key for key in question.parameters if key not in values]
    if missing:
        meaning = question.parameters[missing[0]]
        raise QueryError(f"question {name!r} requires -p {missing[0]}=VALUE: {meaning}")
    print_note(question.question)
    if engine == "duckdb":
        answer = Catalog(runs, odr_tables(runs), run_ids=run_ids).ask(name, **values)
        write_table(answer, output_format, output)
        return
    from ockham.spark_catalog import SparkCatalog

    spark = SparkCatalog(runs, odr_tables(runs), run_ids=run_ids, master=master)
    try:
        write_table(spark.ask(name, **values), output_format, output)
    finally:
        spark.close()


def _list_questions(output_format: Format | None, output: Path | None) -> None:
    from ockham.catalog.views import load_question, question_names

    rows = []
    for name in question_names():
        question = load_question(name)
        parameters = ", ".join(f"{key}: {meaning}" for key, meaning in question.parameters.items())
        rows.append((question.name, question.question, parameters))
    write_rows(("name", "question", "parameters"), rows, output_format, output)


def _check_parameter_names(question: str, accepted: Mapping[str, str], values: Mapping[str, Any]) -> None:
    unknown = sorted(set(values) - set(accepted))
    if unknown:
        names = ", ".join(accepted) or "none"
        raise QueryError(
            f"-p {unknown[0]}: question {question!r} has no parameter {unknown[0]!r}; accepted: {names}"
        )


def schema(
    view: Annotated[
        str,
        typer.Argument(
            metavar="VIEW",
            help="Name of a view, or `settings` for those of --set. Without it, list all views.",
        ),
    ] = "",
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the views, the columns of one, or all settings.

    Examples:
      ockham schema

      ockham schema gate_decisions

      ockham schema settings
    """
    from ockham.catalog import Catalog
    from ockham.catalog.views import LIST_COLUMNS, LIST_VIEWS

    if view == SETTINGS_TOPIC:
        write_rows(("setting", "default", "meaning"), _list_settings(), output_format, output)
        return
    catalog = Catalog(runs, run_ids=[])
    if not view:
        write_table(catalog.sql(LIST_VIEWS), output_format, output)
        return
    names = [row["view"] for row in catalog.rows("select distinct view from data_dictionary")]
    if view not in names:
        raise BadInputError(f"no view {view!r}{suggest_name(view, [*names, SETTINGS_TOPIC])}")
    write_table(catalog.sql(LIST_COLUMNS, {"view": view}), output_format, output)


def _list_settings() -> list[tuple[str, Any, str]]:
    """Return name, default and meaning of the trainer's settings and of the settings of preset balanced."""
    import dataclasses
    import inspect

    from ockham.nano.config import Settings
    from ockham.policy.document import read_policy

    meanings: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2].splitlines():
        match = re.match(r"    (\w+): (.+)", line)
        if match:
            name = match[1]
            meanings[name] = match[2]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    rows: list[tuple[str, Any, str]] = [
        (field.name, field.default, meanings.get(field.name, "")) for field in dataclasses.fields(Settings)
    ]
    plugins = read_policy("balanced").plugins
    for plugin, settings in plugins.items():
        rows += [
            (f"{plugin}.{setting}", value, f"plugin {plugin}, preset balanced")
            for setting, value in settings.items()
        ]
    return rows


def _read_sql(sql: str, file: Path | None) -> str:
    if (not sql) == (file is None):
        raise BadInputError("SQL: missing; pass it as an argument, with --file FILE, or - to read stdin")
    if file is None:
        return sys.stdin.read() if sql == "-" else sql
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadInputError(f"--file {file}: not UTF-8 text") from None
    except OSError as error:
        raise BadInputError(f"--file {file}: cannot be read: {error.strerror}") from None


def _describe_syntax_error(text: str, error: QuerySyntaxError) -> str:
    """Return the parser's message with the word at its location."""
    from ockham.guard.sql_allowlist import STARTS

    location = _LOCATION.search(error.detail)
    if location is None:
        return str(error)
    first_word = (_COMMENT.sub(" ", text).split(maxsplit=1) or [""])[0]
    if first_word.upper() not in STARTS:
        return f"SQL: starts with {first_word!r:.80}; accepted: {', '.join(STARTS)}"
    lines = text.splitlines()
    line_number, column = int(location[1]), int(location[2])
    if line_number > len(lines):
        return str(error)
    words = [match for match in re.finditer(r"\S+", lines[line_number - 1]) if match.end() >= column]
    word = words[0][0] if words else lines[line_number - 1].split()[-1]
    place = f"line {line_number}, column {column}"
    return f"SQL: not understood near {word!r} ({place}); `ockham schema` lists the views"


def _parse_parameters(parameters: list[str] | None) -> dict[str, Any]:
    """Parse `name=value`. Numbers are converted, so that comparisons work."""
    values: dict[str, Any] = {}
    for text in parameters or []:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise BadInputError(f"-p {text!r}: not a parameter; write name=value")
        values[name] = _parse_number(value)
    return values


def _check_parameter_use(values: Mapping[str, Any], text: str) -> None:
    """Check that the SQL uses each parameter. Raises QueryError."""
    for name in values:
        if not re.search(rf"\${name}\b", text):
            raise QueryError(
                f"-p {name}: the SQL has no parameter ${name}; use it in the SQL or leave it out"
            )


def _parse_number(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _query_unguarded(
    text: str, values: dict[str, Any], runs: Path, run_ids: list[str] | None, options: dict[str, Any]
) -> Any:
    if os.environ.get("CI"):
        raise BadInputError("--unsafe: refused in CI; leave it out")
    from ockham.catalog import Catalog

    return Catalog(runs, odr_tables(runs), run_ids=run_ids, **options).sql(text, values or None)
