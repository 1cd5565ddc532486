"""`ockham dashboard`: the audit pages, on this machine alone unless told otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.options import RunsOption
from ockham.errors import MissingExtraError

RUNS = Path("runs")
STREAMLIT_BOOTSTRAP = """
try:
    from streamlit.web.cli import main
    main(prog_name="streamlit")
except KeyboardInterrupt:
    raise SystemExit(130)
"""  # as `-m streamlit`, whose import takes seconds in which Ctrl-C would be a traceback
THEME = {"primaryColor": "#1C83CC", "headingFontSizes": '["1.9rem", "1.35rem", "1.15rem"]'}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(dashboard)


def dashboard(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine can only come if you name one.")] = "127.0.0.1",
    show: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    odr: Annotated[Path, typer.Option("--odr", help="Folder of the decision records.")] = Path("odr"),
    runs: RunsOption = RUNS,
) -> None:  # fmt: skip
    """Show the audit pages in a browser.

    Runs, decisions, gate, memory and OQ, SQL, integrity. Ctrl-C ends it.

    Examples:
      ockham dashboard

      ockham --runs /data/runs dashboard --port 0 --open
    """
    import importlib.util

    from ockham import resources

    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("streamlit", "dashboard")
    root = resources.data_root()
    command = [
        sys.executable, "-P", "-c", STREAMLIT_BOOTSTRAP, "run", str(root / "dashboard" / "app.py"), f"--server.address={host}",
        f"--server.port={port}", f"--server.headless={'false' if show else 'true'}", "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none", "--client.toolbarMode=minimal", "--server.enableStaticServing=false", "--server.maxUploadSize=1", "--client.showErrorLinks=false", "--theme.metricValueFontSize=1.75rem",
        *(f"--theme.{scheme}.{name}={value}" for scheme in ("light", "dark") for name, value in THEME.items()),
    ]  # fmt: skip
    paths = [str(root), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    env = {
        **os.environ,
        "OCKHAM_RUNS": str(runs.resolve()),
        "OCKHAM_ODR": str(odr.resolve()),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    if not runs.is_dir():
        typer.echo(f"{runs} is not there yet; the pages fill as soon as a run writes into it", err=True)
    os.chdir(
        root
    )  # Streamlit reads settings and secrets from `.streamlit` in the working folder: a stranger's, perhaps
    sys.stdout.flush()
    os.execve(sys.executable, command, env)  # noqa: S606 - our own words; in our place, so that a signal ends it
