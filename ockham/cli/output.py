"""Results on stdout in the form that was asked for: a table on a terminal, untruncated TSV in a pipe."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer

from ockham.errors import BadInputError
from ockham.formatting import format_cell, to_strict_json
from ockham.text_safety import escape_control_characters, escape_formula

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["table", "json", "jsonl", "csv", "tsv", "md", "parquet"]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="Default: table on a terminal, tsv in a pipe.", show_default=False),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file.", show_default=False)
]
TERMINAL_ROWS = 200
MAX_TABLE_WIDTH = 400


def write_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    output_format: Format | None = None,
    path: Path | None = None,
    droppable_columns: Sequence[str] = (),
) -> None:
    """Write rows in a form; a file is written whole or not at all.

    Args:
        columns: their names.
        rows: a value for each column.
        form: None: a table on a terminal, TSV in a pipe, or by the name of the file.
        path: a file instead of stdout.
        less: columns that a table leaves out, from the first on, until it fits the terminal.

    Raises:
        BadInputError: if the file can't be written.

    """
    chosen: Format = (
        output_format
        or _format_from_suffix(path)
        or ("table" if path is None and sys.stdout.isatty() else "tsv")
    )
    if chosen == "parquet":
        raise BadInputError("-f parquet is for `query` and `ask`, with -o FILE")
    if path is None:
        _write(chosen, columns, rows, sys.stdout, droppable_columns)
        return
    text = io.StringIO()
    _write(chosen, columns, rows, text)
    write_file(path, text.getvalue().encode())


def write_table(table: Any, output_format: Format | None = None, path: Path | None = None) -> None:
    """Write an Arrow table; the only one that can become Parquet."""
    if (output_format or _format_from_suffix(path)) == "parquet":
        if path is None:
            raise BadInputError("-f parquet needs -o FILE")
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_file(path, sink.getvalue().to_pybytes())
        return
    columns = table.column_names
    write_rows(
        columns,
        zip(*(table.column(i).to_pylist() for i in range(len(columns))), strict=True),
        output_format,
        path,
    )


def write_file(path: Path, data: bytes) -> None:
    """Write a file that a person named, by way of a temporary one.

    Raises:
        BadInputError: if it can't be written.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadInputError(f"cannot write {path}: {error.strerror}") from None


def write_bytes(data: bytes) -> None:
    """Bytes on stdout as they are; on a terminal as text."""
    if sys.stdout.isatty():
        sys.stdout.write(escape_control_characters(data.decode("utf-8", "backslashreplace")))
    else:
        sys.stdout.buffer.write(data)


def _write(
    output_format: Format,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    out: IO[str],
    droppable_columns: Sequence[str] = (),
) -> None:
    if output_format == "table":
        _table(columns, list(rows), out, droppable_columns)
    elif output_format == "json":
        found = [dict(zip(columns, map(to_strict_json, row), strict=True)) for row in rows]
        out.write(
            escape_control_characters(json.dumps(found, ensure_ascii=False, allow_nan=False, indent=2)) + "\n"
        )
    elif output_format == "jsonl":
        for row in rows:
            line = dict(zip(columns, map(to_strict_json, row), strict=True))
            out.write(escape_control_characters(json.dumps(line, ensure_ascii=False, allow_nan=False)) + "\n")
    elif output_format == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([escape_formula(format_cell(name)) for name in columns])
        writer.writerows([escape_formula(format_cell(value)) for value in row] for row in rows)
    elif output_format == "tsv":
        out.write("\t".join(columns) + "\n")
        for row in rows:
            out.write("\t".join(format_cell(value) for value in row) + "\n")
    else:
        out.write("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns) + "\n")
        for row in rows:
            out.write("| " + " | ".join(format_cell(value).replace("|", "\\|") for value in row) + " |\n")


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], out: IO[str], droppable_columns: Sequence[str]
) -> None:
    from rich.console import Console

    console = Console(file=out, highlight=False)
    kept = list(columns)
    for name in (*droppable_columns, None):
        table = _make_table(
            kept, [[row[columns.index(each)] for each in kept] for row in rows[:TERMINAL_ROWS]]
        )
        natural = console.measure(table, options=console.options.update(width=MAX_TABLE_WIDTH)).maximum
        if natural <= console.width or name is None:
            break
        kept.remove(name)
    console.width = max(
        console.width, min(natural, MAX_TABLE_WIDTH)
    )  # a folded table cannot be read; a long line can
    console.print(table)
    if len(kept) < len(columns):
        left_out = ", ".join(name for name in columns if name not in kept)
        sys.stderr.write(f"left out, to fit the terminal: {left_out}; -f tsv shows all\n")
    if len(rows) > TERMINAL_ROWS:
        sys.stderr.write(f"{TERMINAL_ROWS} of {len(rows)} rows are shown; -f tsv shows all\n")


def _make_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    numeric = [
        any(isinstance(row[i], (int, float)) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(columns))
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_format_number(value)) for value in row))
    return table


def _format_number(value: Any) -> str:
    """A number as a person reads it; everything is exact in the other forms."""
    return f"{value:.6g}" if isinstance(value, float) else format_cell(value)


def _format_from_suffix(path: Path | None) -> Format | None:
    endings: dict[str, Format] = {
        ".json": "json",
        ".jsonl": "jsonl",
        ".csv": "csv",
        ".tsv": "tsv",
        ".md": "md",
        ".parquet": "parquet",
    }
    return None if path is None else endings.get(path.suffix)
