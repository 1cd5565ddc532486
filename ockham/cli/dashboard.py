"""`ockham dashboard`: start the audit pages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.options import DEFAULT_ODR_DIR, DEFAULT_RUNS, OdrDirOption, RunsOption
from ockham.cli.output import print_note
from ockham.errors import MissingExtraError

# Like `-m streamlit`, whose import takes seconds; without the handler, Ctrl-C then shows a traceback.
STREAMLIT_BOOTSTRAP = """
try:
    from streamlit.web.cli import main
    main(prog_name="streamlit")
except KeyboardInterrupt:
    raise SystemExit(130)
"""
THEME = {"primaryColor": "#1C83CC", "headingFontSizes": '["1.9rem", "1.2rem", "1.05rem"]'}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(dashboard)


def dashboard(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port to listen on. 0 selects a free port.")
    ] = 8501,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen on. Other machines can connect only if another address is given.",
        ),
    ] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Show the audit pages in a browser.

    The pages show runs, decisions, gate, memory and OQ, SQL, and integrity. Ctrl-C ends the server.

    Examples:
      ockham dashboard

      ockham --runs /data/runs dashboard --port 0 --open
    """
    import importlib.util

    from ockham import resources

    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("streamlit", "dashboard")
    root = resources.data_root()
    command = _build_command(root / "dashboard" / "server.py", host, port, open_browser=open_browser)
    paths = [str(root), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    env = {
        **os.environ,
        "OCKHAM_RUNS": str(runs.resolve()),
        "OCKHAM_ODR": str(odr_dir.resolve()),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    if not runs.is_dir():
        print_note(f"{runs}: folder does not exist yet; the pages show runs as soon as one is written")
    if port:
        print_note(f"dashboard: http://{host}:{port} (Ctrl-C ends it)")
    # Streamlit reads settings and secrets from `.streamlit` in the working folder, which may be untrusted.
    os.chdir(root)
    sys.stdout.flush()
    # Replace this process, so that a signal reaches Streamlit.
    os.execve(sys.executable, command, env)  # noqa: S606 - the words are constants and checked options


def _build_command(page: Path, host: str, port: int, *, open_browser: bool) -> list[str]:
    options = [
        f"--server.address={host}",
        f"--server.port={port}",
        f"--server.headless={str(not open_browser).lower()}",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
        "--client.toolbarMode=minimal",
        "--server.enableStaticServing=false",
        "--server.enableWebsocketCompression=true",
        "--server.maxUploadSize=1",
        "--client.showErrorLinks=false",
        "--theme.metricValueFontSize=1.75rem",
    ]
    for scheme in ("light", "dark"):
        options += [f"--theme.{scheme}.{name}={value}" for name, value in THEME.items()]
    return [sys.executable, "-P", "-c", STREAMLIT_BOOTSTRAP, "run", str(page), *options]
