"""Options of the commands for decision records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


def repeatable(flag: str, metavar: str, text: str, more: str = "") -> Any:
    """Return an option that may be repeated. Its help contains this."""
    return typer.Option(flag, metavar=metavar, help=f"{text}; may be repeated.{more}", show_default=False)


OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
SelectOption = Annotated[
    list[str] | None, repeatable("--select", "CODE", "Only codes that start with this, such as ODR5")
]
IgnoreOption = Annotated[list[str] | None, repeatable("--ignore", "CODE", "No codes that start with this")]
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
