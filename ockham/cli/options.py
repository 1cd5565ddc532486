"""Options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="OCKHAM_RUNS", help="Folder of all runs.", show_default=True)
]
