"""`ockham export`: all views, or the evidence of one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    RunOption,
    RunsOption,
    odr_tables,
    resolve_run_id,
    run_filter,
)
from ockham.cli.output import EventCounter, print_note, progress_line
from ockham.errors import BadInputError, UnverifiableError

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder


def export(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .duckdb file; a folder for Parquet or CSV; a .zip file for --evidence.",
        ),
    ],
    output_format: Annotated[
        Literal["duckdb", "parquet", "csv"] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="duckdb, parquet or csv. Default: by the name of the output.",
            show_default=False,
        ),
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence", help="Export the log of --run and a verifier in one file, as a zip archive."
        ),
    ] = False,
    run: RunOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Export all views, or the evidence of one run.

    Views are exported as one DuckDB file, or as Parquet or CSV files, with a manifest of their logs.
    --evidence exports the log with its proofs, policies, schemas and a verifier that needs only Python.

    Examples:
      ockham export -o night-1.duckdb --run night-1

      ockham export -o shared/ -f csv
    """
    if evidence:
        _export_evidence(runs, run, output)
        return
    from ockham.catalog.export import export_views
    from ockham.catalog.object_store import sync_to_local

    if output.suffix == ".zip":
        raise BadInputError(f"-o {output}: an archive requires --evidence; pass a .duckdb file or a folder")
    if output_format is None and output.suffix in (".csv", ".parquet"):
        raise BadInputError(f"-o {output}: views are several files; pass a folder, with -f csv or -f parquet")
    default_format = "duckdb" if output.suffix in (".duckdb", ".db") else "parquet"
    chosen = output_format or default_format
    runs = sync_to_local(runs, run)
    count = export_views(runs, output, chosen, run_filter(runs, run), odr_tables(runs))
    manifest = "the table manifest" if chosen == "duckdb" else "manifest.json"
    print_note(f"{output}: {count} rows of {chosen}; {manifest} lists the logs and their sizes")


def _export_evidence(runs: Path, run: str, output: Path) -> None:
    from ockham.record.evidence_archive import write_archive
    from ockham.record.run_folder import RunFolder

    if not run:
        raise BadInputError("--evidence requires --run RUN")
    folder = RunFolder(runs, resolve_run_id(runs, run))
    count = write_archive(folder, output, progress_line("packed", "files"))
    print_note(f"{output}: {count} files; unpack it, read verify.py, and run `python verify.py .`")
    if not _is_sound(folder):
        print_note(
            f"{folder.run_id}: the run does not verify and was packed unchanged; "
            f"`ockham verify {folder.run_id}` lists the findings"
        )


def _is_sound(folder: RunFolder) -> bool:
    """Return True if the log of a run verifies."""
    from ockham.record.verify.run import verify_run

    try:
        with EventCounter() as counter:
            return verify_run(folder, parquet=False, jobs=None, progress=counter).sound
    except UnverifiableError:
        return False
