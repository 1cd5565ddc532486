"""Taking the record elsewhere: export, of all views or of one run's evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ockham.cli.options import RunOption, RunsOption, odr_tables, resolve_run_id, run_filter
from ockham.errors import BadInputError, UnverifiableError

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder

RUNS = Path("runs")


def export(
    to: Annotated[Path, typer.Option("--to", help="A .duckdb file, or a folder for Parquet or CSV.")],
    form: Annotated[Literal["duckdb", "parquet", "csv"] | None, typer.Option("--format", "-f", help="Default: by the name.", show_default=False)] = None,
    evidence: Annotated[bool, typer.Option("--evidence", help="The log of --run itself, with a verifier that is one file (zip).")] = False,
    run: RunOption = "",
    runs: RunsOption = RUNS,
) -> None:  # fmt: skip
    """Export all views, or the evidence of one run.

    As one DuckDB file, or as Parquet or CSV files, with a manifest of the logs they come from. With --evidence: the log,
    its proofs, policies and schemas, and a verifier for somebody who has nothing of ours.

    Examples:
      ockham export --to night-1.duckdb --run night-1

      ockham export --to shared/ -f csv
    """
    if evidence:
        _evidence(runs, run, to)
        return
    from ockham.catalog.export import export_views
    from ockham.catalog.object_store import sync_to_local

    if to.suffix == ".zip":
        raise BadInputError(f"{to}: an archive is of --evidence; views go to a .duckdb file or a folder")
    if form is None and to.suffix in (".csv", ".parquet"):
        raise BadInputError(f"{to}: all views are many files: --to FOLDER, and -f csv or -f parquet")
    chosen = form or ("duckdb" if to.suffix in (".duckdb", ".db") else "parquet")
    runs = sync_to_local(runs, run)
    count = export_views(runs, to, chosen, run_filter(runs, run), odr_tables())
    manifest = "its table manifest" if chosen == "duckdb" else "manifest.json"
    typer.echo(f"{to}: {count} rows of {chosen}; {manifest} names the logs and where they stood", err=True)


def _evidence(runs: Path, run: str, to: Path) -> None:
    from ockham.cli.progress import progress_line
    from ockham.record.evidence_archive import write_archive
    from ockham.record.run_folder import RunFolder

    if not run:
        raise BadInputError("--evidence is of one run: say which with --run ID")
    folder = RunFolder(runs, resolve_run_id(runs, run))
    count = write_archive(folder, to, progress_line("packed", "files"))
    typer.echo(f"{to}: {count} files; unpack it, read verify.py, and run `python verify.py .`", err=True)
    if not _is_sound(folder):
        told = (
            f"run {folder.run_id} does not verify; packed as it is: `ockham verify {folder.run_id}` says why"
        )
        typer.echo(told, err=True)


def _is_sound(folder: RunFolder) -> bool:
    from ockham.cli.progress import EventCounter
    from ockham.record.verify.run import verify_run

    try:
        with EventCounter() as counter:
            return verify_run(folder, parquet=False, jobs=None, progress=counter).sound
    except UnverifiableError:
        return False
