"""The verbs: one file for each group, thin. Heavy imports happen inside the verb that needs them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ockham.cli.options import EXTRAS, RUNS_VARIABLE
from ockham.cli.options import RunsOption as RunsOption
from ockham.cli.summary import print_complete as print_complete
from ockham.cli.summary import print_summary as print_summary
from ockham.errors import BadInputError, MissingExtraError, OckhamError
from ockham.text_safety import escape_control_characters

GROUPS = (
    "train",
    "adapt",
    "tokenize",
    "sample",
    "runs",
    "query",
    "verify",
    "lineage",
    "replay",
    "odr",
    "dashboard",
    "doctor",
)
INTERRUPTED = 130
INTERRUPTED_QUERY = "Query interrupted"  # the RuntimeError in which DuckDB ends a query at Ctrl-C


def build_app() -> typer.Typer:
    """The whole command line."""
    wide = {"max_content_width": 120}  # so that a terminal that is wide shows whole sentences
    app = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=wide
    )

    @app.callback()
    def ockham(
        context: typer.Context,
        runs: Annotated[
            Path | None, typer.Option("--runs", help="Folder of all runs, before or after the verb.")
        ] = None,
        _version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Train GPTs with every decision logged; ask the log, prove it, keep the answer."""
        if runs is not None:
            context.call_on_close(partial(_restore_runs_variable, os.environ.get(RUNS_VARIABLE)))
            os.environ[RUNS_VARIABLE] = str(runs)  # read by every verb's own --runs

    for group in GROUPS:
        if importlib.util.find_spec(f"ockham.cli.{group}") is not None:
            importlib.import_module(f"ockham.cli.{group}").register(app)
    _keep_examples(app)
    return app


def _restore_runs_variable(runs: str | None) -> None:
    """Leave the environment as it was: who calls verbs inside one process has more than one folder."""
    os.environ.pop(RUNS_VARIABLE, None)
    if runs is not None:
        os.environ[RUNS_VARIABLE] = runs


def _print_version(wanted: bool) -> None:
    if wanted:
        from ockham import __version__

        typer.echo(f"ockham {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Entry point of the `ockham` command."""
    _run_with_exit_codes(build_app)


def run(function: Callable[..., Any]) -> NoReturn:
    """Run one function as a command line of its own, with the same errors and exit statuses."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command()(function)
    _keep_examples(app)
    _run_with_exit_codes(lambda: app)


def _keep_examples(app: typer.Typer) -> None:
    """Leave example lines in the help as they are written: wrapped ones cannot be copied."""
    for command in app.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        text = text.replace("Examples:\n", "Examples:\n\n")
        command.help = re.sub(r"\n\n+(?=  +ockham )", "\n\n\b\n", text)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _keep_examples(group.typer_instance)


def _run_with_exit_codes(app_factory: Callable[[], typer.Typer]) -> NoReturn:
    """One clear line for every error that is ours, the status that its class says, and 130 for Ctrl-C."""
    os.environ["PYTHONSAFEPATH"] = (
        "1"  # or each Python process begun from here looks into the working folder first
    )
    try:
        try:
            app_factory()()
        finally:
            sys.stdout.flush()
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        sys.exit(0)  # typer leaves with 1, which would be findings
    except OckhamError as error:
        rank = int(os.environ.get("RANK", "0"))
        if rank == 0 or not isinstance(
            error, BadInputError
        ):  # what stops one rank is told to all, and rank 0 says it
            typer.echo(
                escape_control_characters(f"ockham: {f'rank {rank}: ' if rank else ''}{error}"), err=True
            )
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        extra = next((name for name, packages in EXTRAS.items() if error.name in packages), None)
        if extra is None:
            raise
        typer.echo(f"ockham: {MissingExtraError(error.name or '', extra)}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, RuntimeError) as error:
        if not isinstance(error, KeyboardInterrupt) and str(error) != INTERRUPTED_QUERY:
            raise
        typer.echo("ockham: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)
