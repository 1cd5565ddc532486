"""The verbs: one file for each group, thin. Heavy imports happen inside the verb that needs them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ockham.cli.options import RunsOption as RunsOption
from ockham.cli.summary import print_summary as print_summary
from ockham.errors import OckhamError

GROUPS = ("train", "live", "ask", "proofs", "studies", "odr", "serve")
INTERRUPTED = 130


def application() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback()
    def ockham(
        runs: Annotated[
            Path | None, typer.Option("--runs", help="Folder of all runs, before or after the verb.")
        ] = None,
        _version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Train GPTs with every decision logged; ask the log, prove it, keep the answer."""
        if runs is not None:
            os.environ["OCKHAM_RUNS"] = str(runs)  # read by every verb's own --runs

    for group in GROUPS:
        if importlib.util.find_spec(f"ockham.cli.{group}") is not None:
            importlib.import_module(f"ockham.cli.{group}").register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from ockham import __version__

        typer.echo(f"ockham {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Entry point of the `ockham` command."""
    _guarded(application())


def run(function: Callable[..., Any]) -> NoReturn:
    """Run one function as a command line of its own, with the same errors and exit statuses."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command()(function)
    _guarded(app)


def _guarded(app: typer.Typer) -> NoReturn:
    """One clear line for every error that is ours, the status that its class says, and 130 for Ctrl-C."""
    try:
        app()
    except OckhamError as error:
        typer.echo(f"ockham: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        typer.echo("ockham: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)
