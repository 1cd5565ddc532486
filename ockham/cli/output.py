"""Results on stdout in the requested format, notes and progress on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, Self

import typer

from ockham.arrow_values import column_values, columns_with_statistics
from ockham.errors import BadInputError
from ockham.formatting import format_cell, to_strict_json
from ockham.record.durable_io import atomic_write
from ockham.text_safety import escape_control_characters, escape_formula

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["table", "json", "jsonl", "csv", "tsv", "md", "parquet"]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="table, json, jsonl, csv, tsv, md or parquet. Default: by the name of the output file, "
        "else table on a terminal and tsv in a pipe.",
        show_default=False,
    ),
]
TextFormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="table, json, jsonl, csv, tsv or md. Default: text, also in a pipe.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
MAX_TERMINAL_ROWS = 200
MAX_TABLE_WIDTH = 400
MAX_HIDDEN_COLUMNS_SHOWN = 4
# Columns with sentences; a table wraps them to fit the terminal.
TEXT_COLUMNS = frozenset(
    {"meaning", "message", "parameters", "question", "title", "derivation", "event", "text"}
)
MIN_TEXT_WIDTH = 20
PROGRESS_DELAY_SECONDS = 2
_LINE_END = re.compile(r"(?:\s|\x1b\[[\d;]*m)+$")


class _Verbosity:
    """The state of --quiet and --verbose in this process."""

    quiet = False
    verbose = False


def reset_verbosity() -> None:
    """Restore the defaults: notes, no details."""
    _Verbosity.quiet = False
    _Verbosity.verbose = False


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Enable --quiet or --verbose; an option that was set earlier stays set."""
    _Verbosity.quiet = _Verbosity.quiet or quiet
    _Verbosity.verbose = _Verbosity.verbose or verbose


def is_quiet() -> bool:
    """Return True if --quiet was given."""
    return _Verbosity.quiet


def is_verbose() -> bool:
    """Return True if --verbose was given."""
    return _Verbosity.verbose


def print_note(text: str) -> None:
    """Print one line to stderr, unless --quiet was given."""
    if not _Verbosity.quiet:
        typer.echo(escape_control_characters(text), err=True)


def print_renamed_runs(catalog: Any) -> None:
    """Print a note for each run folder that *catalog* does not read, because its name is not its run ID."""
    for problem in catalog.renamed_runs.values():
        print_note(f"not read: {problem}")


def shows_progress() -> bool:
    """Return True if stderr is a terminal and --quiet was not given."""
    return sys.stderr.isatty() and not _Verbosity.quiet


def style_result(text: str, *, good: bool) -> str:
    """Return a word in green or red on a terminal, unchanged in a pipe or with NO_COLOR."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, fg="green" if good else "red", bold=True)


def pluralize(count: int, noun: str) -> str:
    """Return `1 policy` or `2 policies`; *noun* is the plural.

    Args:
        count: Number of things.
        noun: Plural, with a regular singular.

    """
    singular = noun.removesuffix("ies") + "y" if noun.endswith("ies") else noun.removesuffix("s")
    return f"{count:,} {singular}" if count == 1 else f"{count:,} {noun}"


def write_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    output_format: Format | None = None,
    path: Path | None = None,
    droppable_columns: Sequence[str] = (),
) -> None:
    """Write rows in a format. A file is replaced atomically.

    Args:
        columns: Names of the columns.
        rows: Rows with one value for each column.
        output_format: None selects the format by the name of the file, else a table on a terminal and
            TSV in a pipe.
        path: Output file. None writes to stdout.
        droppable_columns: Columns that a table omits, from the first, until it fits the terminal.

    Raises:
        BadInputError: If the file cannot be written.

    """
    default_format: Format = "table" if path is None and sys.stdout.isatty() else "tsv"
    chosen = output_format or _format_from_suffix(path) or default_format
    if chosen == "parquet":
        raise BadInputError(
            "-f parquet: not available here; `query`, `ask`, `runs` and `schema` write Parquet"
        )
    if path is None:
        _write(chosen, columns, rows, sys.stdout, droppable_columns)
        return
    text = io.StringIO()
    _write(chosen, columns, rows, text)
    write_file(path, text.getvalue().encode())


def write_table(table: Any, output_format: Format | None = None, path: Path | None = None) -> None:
    """Write an Arrow table in a format, Parquet included.

    Raises:
        BadInputError: If the file cannot be written.

    """
    if (output_format or _format_from_suffix(path)) == "parquet":
        if path is None:
            raise BadInputError("-f parquet: requires -o FILE")
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        try:
            pq.write_table(
                table, sink, compression="zstd", write_statistics=columns_with_statistics(table.schema)
            )
        except pa.ArrowException as error:
            raise BadInputError(f"-f parquet: {error}; cast the column to another type") from None
        write_file(path, sink.getvalue().to_pybytes())
        return
    columns = table.column_names
    write_rows(
        columns,
        zip(*(column_values(table.column(i)) for i in range(len(columns))), strict=True),
        output_format,
        path,
    )


def write_file(path: Path, data: bytes) -> None:
    """Replace a file of the user atomically.

    Raises:
        BadInputError: If the file cannot be written.

    """
    try:
        atomic_write(path, data, durable=False)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written: {error.strerror}") from None


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout; on a terminal as text without control characters."""
    if sys.stdout.isatty():
        sys.stdout.write(escape_control_characters(data.decode("utf-8", "backslashreplace")))
    else:
        sys.stdout.buffer.write(data)


def write_text(text: str, path: Path | None = None) -> None:
    """Write text to a file, or to stdout for None.

    Raises:
        BadInputError: If the file cannot be written.

    """
    if path is None:
        typer.echo(text)
    else:
        write_file(path, f"{text}\n".encode())


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
        objects = [dict(zip(columns, map(to_strict_json, row), strict=True)) for row in rows]
        out.write(
            escape_control_characters(json.dumps(objects, ensure_ascii=False, allow_nan=False, indent=2))
            + "\n"
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
    shown_columns = list(columns)
    for name in (*droppable_columns, None):
        indexes = [columns.index(column) for column in shown_columns]
        cells = [[row[index] for index in indexes] for row in rows[:MAX_TERMINAL_ROWS]]
        table = _make_table(shown_columns, cells)
        width = console.measure(table, options=console.options.update(width=MAX_TABLE_WIDTH)).maximum
        if width <= console.width or name is None:
            break
        shown_columns.remove(name)
    texts = [name for name in shown_columns if name in TEXT_COLUMNS]
    if width > console.width and not (texts and _fits_wrapped(table, console.width, len(texts))):
        # A long line is easier to read than a folded table.
        console.width = min(width, MAX_TABLE_WIDTH)
    with console.capture() as capture:
        console.print(table)
    out.write("".join(f"{_strip_end(line)}\n" for line in capture.get().splitlines()))
    hidden = [name for name in columns if name not in shown_columns]
    if hidden:
        more = len(hidden) - MAX_HIDDEN_COLUMNS_SHOWN
        suffix = f" and {more} more" if more > 0 else ""
        names = ", ".join(hidden[:MAX_HIDDEN_COLUMNS_SHOWN])
        print_note(f"hidden columns: {names}{suffix}; -f tsv shows all")
    if len(rows) > MAX_TERMINAL_ROWS:
        print_note(f"{MAX_TERMINAL_ROWS} of {len(rows):,} rows are shown; -f tsv shows all")


def _fits_wrapped(table: Table, width: int, text_columns: int) -> bool:
    """Return True if the columns without sentences leave room for the wrapped ones."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=MAX_TABLE_WIDTH)
    used = 0
    for column in table.columns:
        if column.header not in TEXT_COLUMNS:
            sizes = [Measurement.get(console, console.options, cell).maximum for cell in column.cells]
            used += max([len(str(column.header)), *sizes])
    padding = 3 * len(table.columns)
    return used + padding + MIN_TEXT_WIDTH * text_columns <= width


def _strip_end(line: str) -> str:
    """Remove spaces at the end of a line, also before the codes that end a style."""
    return _LINE_END.sub(lambda match: "".join(match[0].split()), line)


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
        wraps = name in TEXT_COLUMNS
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=not wraps)
    for row in rows:
        table.add_row(*(Text(_format_number(value)) for value in row))
    return table


def _format_number(value: Any) -> str:
    """Return a number with six digits; the other formats are exact."""
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


class EventCounter:
    """Context manager that counts events, and shows the count of work that takes over two seconds."""

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._shown = False
        self._events = 0
        return self

    def __call__(self, events: int) -> None:
        """Add the number of events of a finished part."""
        self._events += events
        if shows_progress() and time.monotonic() - self._start > PROGRESS_DELAY_SECONDS:
            self._shown = True
            sys.stderr.write(f"\r{self._events:,} events")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def progress_line(verb: str, noun: str) -> Callable[[int, int], None]:
    """Return a function that shows `replayed 3 of 12 chunks` on a terminal and removes it at the end."""

    def show(done: int, total: int) -> None:
        if shows_progress() and total > 1:
            sys.stderr.write("\r\x1b[K" if done == total else f"\r{verb} {done} of {total} {noun}")
            sys.stderr.flush()

    return show
