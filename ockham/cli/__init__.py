"""The command line: one module for each group of commands. Heavy imports happen inside the commands."""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, NoReturn, TextIO

import typer

from ockham import resources
from ockham.cli.options import DEFAULT_RUNS as DEFAULT_RUNS
from ockham.cli.options import EXTRAS, RUNS_VARIABLE, GlobalRunsOption, QuietOption, VerboseOption
from ockham.cli.options import DeviceOption as DeviceOption
from ockham.cli.options import KeyFileOption as KeyFileOption
from ockham.cli.options import KeyOption as KeyOption
from ockham.cli.options import ResumeFromOption as ResumeFromOption
from ockham.cli.options import RunsOption as RunsOption
from ockham.cli.options import TrustKeyOption as TrustKeyOption
from ockham.cli.options import read_trusted_keys as read_trusted_keys
from ockham.cli.output import is_quiet as is_quiet
from ockham.cli.output import print_note, reset_verbosity, set_verbosity
from ockham.cli.parser import HELP_SETTINGS, PanelGroup, configure_commands
from ockham.cli.streams import discard_output, protect_streams
from ockham.cli.summary import print_complete as print_complete
from ockham.cli.summary import print_skipped_checkpoints as print_skipped_checkpoints
from ockham.cli.summary import print_summary as print_summary
from ockham.errors import BadInputError, MissingExtraError, OckhamError, OckhamWarning
from ockham.text_safety import escape_control_characters

GROUPS = (
    "adapt",
    "sample",
    "runs",
    "query",
    "verify",
    "lineage",
    "replay",
    "odr",
    "dashboard",
    "doctor",
    "people",
    "manage",
)
INTERRUPTED = 130
# DuckDB ends a query at Ctrl-C with a RuntimeError that contains this text.
INTERRUPTED_QUERY = "Query interrupted"


class RootGroup(PanelGroup):
    """The `ockham` command."""

    panels: ClassVar = {
        "Train": ("train", "adapt", "tokenize", "sample", "weights"),
        "Manage": ("tag", "archive", "rename", "rm"),
        "Look": ("runs", "show", "why", "tail", "dashboard", "doctor"),
        "Query": ("query", "ask", "schema", "export", "forward"),
        "Prove": ("verify", "replay", "prove", "pin", "lineage", "repair", "keygen"),
        "Study": ("whatif", "compare", "roi", "ablate"),
        "Intervene": ("note", "intervene", "stop", "approve", "waive"),
        "Decide": ("odr",),
    }


def build_app() -> typer.Typer:
    """Build the command line with all commands."""
    app = typer.Typer(
        cls=RootGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP_SETTINGS,
    )
    _add_global_options(app)
    app.command("train")(_load_train())
    for group in GROUPS:
        if importlib.util.find_spec(f"ockham.cli.{group}") is not None:
            importlib.import_module(f"ockham.cli.{group}").register(app)
    configure_commands(app)
    return app


def _add_global_options(app: typer.Typer) -> None:
    @app.callback()
    def ockham(
        context: typer.Context,
        runs: GlobalRunsOption = None,
        quiet: QuietOption = False,
        verbose: VerboseOption = False,
        _version: Annotated[
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
        ] = False,
    ) -> None:
        """Train GPTs and log every decision; query, verify and replay the log.

        `ockham COMMAND --help` describes a command. --runs, -q and -v may follow the command.

        Examples:
          ockham train --size demo --run night-1

          ockham runs

          ockham why night-1 120

          ockham verify night-1
        """
        reset_verbosity()
        set_verbosity(quiet=quiet, verbose=verbose)
        if runs is not None:
            context.call_on_close(partial(_restore_runs_variable, os.environ.get(RUNS_VARIABLE)))
            # The --runs option of each command reads this variable.
            os.environ[RUNS_VARIABLE] = str(runs)


def _load_train() -> Callable[..., Any]:
    """Return the main function of train.py, at the top of the checkout or in the wheel."""
    path = resources.data_root() / "train.py"
    function: Callable[..., Any] = runpy.run_path(str(path), run_name="ockham_train")["main"]
    return function


def _restore_runs_variable(runs: str | None) -> None:
    """Restore the environment: a process that calls several commands uses several folders."""
    os.environ.pop(RUNS_VARIABLE, None)
    if runs is not None:
        os.environ[RUNS_VARIABLE] = runs


def _print_version(requested: bool) -> None:
    if requested:
        from ockham import __version__

        typer.echo(f"ockham {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the `ockham` command."""
    _run_with_exit_codes(build_app)


def run(function: Callable[..., Any]) -> NoReturn:
    """Run one function as a separate command line, with the same errors and exit statuses."""
    app = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings=HELP_SETTINGS,
    )
    app.command()(function)
    configure_commands(app)
    _run_with_exit_codes(lambda: app)


def _run_with_exit_codes(app_factory: Callable[[], typer.Typer]) -> NoReturn:
    """Print one line for each known error and exit with its status, or with 130 after Ctrl-C."""
    # Otherwise each Python process that is started from here imports from the working folder first.
    os.environ["PYTHONSAFEPATH"] = "1"
    warnings.showwarning = _print_warning
    protect_streams()
    try:
        try:
            app_factory()()
        finally:
            sys.stdout.flush()
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        # Typer exits with status 1 here, which would mean findings.
        sys.exit(0)
    except OckhamError as error:
        _print_error(error)
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
    except BrokenPipeError:
        # A reader such as `head` closed the pipe.
        discard_output(sys.stdout)
        sys.exit(0)
    sys.exit(0)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of Ockham as one line, by rank 0 only, and each other warning as Python does."""
    if not issubclass(category, OckhamWarning):
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
    elif os.environ.get("RANK", "0") == "0":
        print_note(f"warning: {message}")


def _print_error(error: OckhamError) -> None:
    """Print an error; one that stops all ranks is printed by rank 0 only."""
    rank = int(os.environ.get("RANK", "0"))
    if rank and isinstance(error, BadInputError):
        return
    prefix = f"rank {rank}: " if rank else ""
    typer.echo(escape_control_characters(f"ockham: {prefix}{error}"), err=True)
