"""Options of the verbs about decision records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Option("--dir", envvar="OCKHAM_ODR", help="Folder of the records.", show_default=True)
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of stdout.")]
Select = Annotated[
    list[str] | None, typer.Option(help="Only this code, or beginning of codes (ODR5); may be given again.")
]
Ignore = Annotated[
    list[str] | None, typer.Option(help="Not this code, or beginning of codes; may be given again.")
]
RecordArgument = Annotated[str, typer.Argument(help="Its id, number or file name.")]
DEFAULT_ODR_DIR = Path("odr")


class Format(StrEnum):
    """How findings are written."""

    text = "text"
    json = "json"
    github = "github"
    sarif = "sarif"
    junit = "junit"


class Graph(StrEnum):
    """How a graph is written."""

    mermaid = "mermaid"
    dot = "dot"
    json = "json"


class FailOn(StrEnum):
    """From which weight on a finding gives exit status 1."""

    error = "error"
    warning = "warning"


FormatOfFindings = Annotated[Format, typer.Option("--format", "-f", help="How findings are written.")]
FailOnOption = Annotated[FailOn, typer.Option(help="From which weight on a finding gives exit status 1.")]
