"""Options of the commands for decision records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="CODE",
        help="Only codes that start with this, such as ODR5; may be repeated.",
        show_default=False,
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="CODE", help="No codes that start with this; may be repeated.", show_default=False
    ),
]
RecordArgument = Annotated[str, typer.Argument(metavar="RECORD", help="ID, number or file name of a record.")]
RecordsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="RECORD", help="Only these records: ID, number or file name."),
]


class FindingFormat(StrEnum):
    """Format of findings."""

    text = "text"
    json = "json"
    github = "github"
    sarif = "sarif"
    junit = "junit"


class GraphFormat(StrEnum):
    """Format of a graph."""

    mermaid = "mermaid"
    dot = "dot"
    json = "json"


class FailOn(StrEnum):
    """Lowest severity that gives exit status 1."""

    error = "error"
    warning = "warning"


FindingFormatOption = Annotated[
    FindingFormat,
    typer.Option(
        "--format", "-f", metavar="FORMAT", help="Output format: text, json, github, sarif or junit."
    ),
]
FailOnOption = Annotated[FailOn, typer.Option("--fail-on", help="Lowest severity that gives exit status 1.")]
