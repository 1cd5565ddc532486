"""`ockham odr`: decision records of people, checked against the decisions in the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ockham.cli.odr_evidence import add_commands as add_evidence_commands
from ockham.cli.odr_lifecycle import add_commands as add_lifecycle_commands
from ockham.cli.odr_options import (
    FailOn,
    FailOnOption,
    FindingFormat,
    FindingFormatOption,
    GraphFormat,
    IgnoreOption,
    OutputOption,
    RecordsArgument,
    SelectOption,
)
from ockham.cli.options import DEFAULT_ODR_DIR, DEFAULT_RUNS, OdrDirOption, RunsOption
from ockham.cli.output import FormatOption, print_note, shows_progress, write_rows
from ockham.cli.parser import PanelGroup
from ockham.errors import BadInputError
from ockham.formatting import today
from ockham.text_safety import escape_control_characters

if TYPE_CHECKING:
    from ockham.odr.codes import Finding
    from ockham.odr.evidence_store import EvidenceStore
    from ockham.odr.output_formats import Judgements
    from ockham.odr.record import DecisionRecord
    from ockham.odr.verdict import CheckResult


class OdrGroup(PanelGroup):
    """The `ockham odr` command."""

    panels: ClassVar = {
        "Write": (
            "new",
            "list",
            "show",
            "status",
            "supersede",
            "renumber",
            "upgrade",
            "index",
            "graph",
            "schema",
        ),
        "Evidence": ("register", "evidence", "pack"),
        "Check": ("lint", "check", "constraints", "explain"),
    }


app = typer.Typer(cls=OdrGroup, no_args_is_help=True)
add_lifecycle_commands(app)
add_evidence_commands(app)


@app.callback()
def odr() -> None:
    """Write Occam Decision Records and check them.

    Examples:
      ockham odr new "Move to preset tight" --baseline night-1 --candidate night-2

      ockham odr check
    """


def register(parent: typer.Typer) -> None:
    """Add the group."""
    parent.add_typer(app, name="odr")


@app.command()
def lint(
    records: RecordsArgument = None,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    output_format: FindingFormatOption = FindingFormat.text,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    fail_on: FailOnOption = FailOn.error,
    fix: Annotated[bool, typer.Option("--fix", help="Fix the findings marked [*] first.")] = False,
    output: OutputOption = None,
) -> None:
    """Check format, links and claims of records without a log.

    All records of the folder are read, to check the links. Without RECORD, the index in README.md is checked
    too, if it has one.

    Examples:
      ockham odr lint

      ockham odr lint 12 --fix

      ockham odr lint -f github --fail-on warning
    """
    from ockham.odr.fix import fix_folder
    from ockham.odr.graph import check_index
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record

    all_records = lint_folder(odr_dir)
    if fix:
        files = [find_record(all_records, name).file for name in records or []]
        for record in fix_folder(odr_dir, today(), files):
            print_note(f"fixed {record.display_path}")
        all_records = lint_folder(odr_dir)
    selected = [find_record(all_records, name) for name in records] if records else all_records
    if not records:
        selected = [*selected, *check_index(odr_dir, all_records)]
    _finish(selected, {}, output_format, select or [], ignore or [], fail_on, output)


@app.command()
def check(
    records: RecordsArgument = None,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FindingFormatOption = FindingFormat.text,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    fail_on: FailOnOption = FailOn.error,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="In drafts: tick the boxes, and add a missing verdict, as computed."),
    ] = False,
    attest: Annotated[
        bool,
        typer.Option("--attest", help="Write the signed results to the ledger in the folder of all runs."),
    ] = False,
    output: OutputOption = None,
) -> None:
    """Lint records and recompute their claims from the log.

    Recomputes values, quotients and verdicts.

    Exit status: 0 clean, 1 findings, 2 bad input, 3 runs are missing, so that records cannot be checked.

    Examples:
      ockham odr check

      ockham odr check 12 --fix

      ockham odr check -f sarif -o odr.sarif
    """
    from ockham.odr.evidence_store import EvidenceStore
    from ockham.odr.fix import complete_drafts
    from ockham.odr.query import guarded_queries
    from ockham.odr.registration import find_deleted_records

    with EvidenceStore([runs], guarded_queries) as store:
        selected, results = _check_records(odr_dir, records or [], store)
        written = complete_drafts(selected, results) if fix else []
        for record in written:
            print_note(f"fixed {record.display_path}")
        if written:
            # The output describes the files as they are now.
            selected, results = _check_records(odr_dir, records or [], store)
    if attest:
        from ockham.odr.pinning import attest as write_attestation

        for record in selected:
            event_id = write_attestation(record, results[record.display_path], runs)
            print_note(f"attested as {event_id}" if event_id else "no claims were checked; nothing to attest")
    if not records:
        selected = [*selected, *find_deleted_records(odr_dir, selected, [runs])]
    _finish(selected, results, output_format, select or [], ignore or [], fail_on, output)


def _check_records(
    odr_dir: Path, names: Sequence[str], store: EvidenceStore
) -> tuple[list[DecisionRecord], dict[str, CheckResult]]:
    """Return the named records of a folder, or all, with their findings and results by display path."""
    from ockham.odr.check import check_in_store, evidence_order
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record

    all_records = lint_folder(odr_dir)
    selected = [find_record(all_records, name) for name in names] if names else all_records
    results = {}
    # Records with the same evidence share a query process.
    for index, record in enumerate(sorted(selected, key=evidence_order)):
        _print_progress(index, len(selected), record.display_path)
        results[record.display_path] = check_in_store(record, store, today())
    _print_progress(len(selected), len(selected), "")
    return selected, results


def _print_progress(done: int, total: int, name: str) -> None:
    """Show on a terminal which record is being checked; one takes about a second."""
    if shows_progress() and total > 1:
        text = f"{done + 1} of {total} {name}" if name else ""
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


@app.command()
def schema(odr_dir: OdrDirOption = DEFAULT_ODR_DIR) -> None:
    """Write the JSON Schema of records into their folder.

    From then on, `ockham odr new` names it in the second line of each record.

    Examples:
      ockham odr schema
    """
    from ockham import resources
    from ockham.odr.records_folder import SCHEMA, write_record

    odr_dir.mkdir(parents=True, exist_ok=True)
    text = (resources.schemas_dir() / SCHEMA).read_text(encoding="utf-8")
    write_record(odr_dir / SCHEMA, text)
    typer.echo(odr_dir / SCHEMA)


@app.command()
def constraints(
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the named constraints with an example.

    Write one in a record as `- {id: C1, name: NAME, value: VALUE}`, or pass it to `ockham odr new`.

    Examples:
      ockham odr constraints

      ockham odr constraints --format json
    """
    from ockham.odr.constraint_library import load_library, parse_constraint_argument, resolve_constraint

    rows = []
    for named in load_library().values():
        resolved = resolve_constraint(parse_constraint_argument(named.example))
        assert resolved is not None
        parameters = "; ".join(parameter.accepted for parameter in named.parameters)
        rows.append((named.example, resolved.text, named.use, parameters, named.min_n, resolved.sql))
    columns = ("constraint", "text", "use", "parameters", "min_n", "sql")
    shown = 2 if output_format is None else len(columns)
    write_rows(columns[:shown], [row[:shown] for row in rows], output_format, output)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="A code such as ODR304, or its start.")],
) -> None:
    """Explain a code and how to fix its finding.

    Examples:
      ockham odr explain ODR304

      ockham odr explain ODR5
    """
    from ockham.odr.codes import CODES, expand_codes, explain

    if not any(name.startswith(code.upper()) for name in CODES):
        groups = ", ".join(sorted({name[:4] for name in CODES}))
        raise BadInputError(f"{code!r}: not a code; `ockham odr explain ODR5` lists a group: {groups}")
    typer.echo("\n\n".join(explain(name) for name in sorted(expand_codes([code]))))


def _finish(
    records: Sequence[DecisionRecord],
    results: Judgements,
    output_format: FindingFormat,
    select: Sequence[str],
    ignore: Sequence[str],
    fail_on: FailOn,
    output: Path | None,
) -> None:
    """Write the findings, and exit with status 1 if one reaches the severity of --fail-on.

    Exit with status 3 if missing runs are the only errors.
    """
    from ockham.odr import output_formats
    from ockham.odr.codes import expand_codes
    from ockham.odr.lint import filter_findings, sorted_findings

    findings = filter_findings(sorted_findings(records), expand_codes(select), expand_codes(ignore))
    shown = findings
    if output_format is FindingFormat.junit and fail_on is FailOn.warning:
        # JUnit has no warnings, and fails where the exit status does.
        shown = [finding._replace(severity="error") for finding in findings]
    _write(output_formats.FORMATS[output_format.value](shown, records, results), output)
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if output_format is FindingFormat.github and step_summary:
        with Path(step_summary).open("a", encoding="utf-8") as file:
            file.write(output_formats.github_summary(findings))
    print_note(output_formats.summary(findings, records))
    if failures := [finding for finding in findings if _is_failure(finding, fail_on)]:
        raise typer.Exit(3 if output_formats.is_evidence_missing(failures) else 1)


def _is_failure(finding: Finding, fail_on: FailOn) -> bool:
    """Return True if a finding reaches the severity of --fail-on."""
    return finding.severity == "error" or fail_on is FailOn.warning


def _write(text: str, output: Path | None) -> None:
    from ockham.record.durable_io import atomic_write

    if output is None:
        if text:
            typer.echo(escape_control_characters(text))
        return
    try:
        atomic_write(output, f"{text}\n".encode())
    except OSError as error:
        raise BadInputError(f"{output}: cannot be written: {error.strerror}") from None


@app.command()
def index(
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with status 1 if the index is out of date."),
    ] = False,
) -> None:
    """Write the list of all records into README.md.

    Replaces the part between two marks in the README.md of the records' folder.

    Examples:
      ockham odr index

      ockham odr index --check
    """
    from ockham.odr.graph import render_index
    from ockham.odr.records_folder import INDEX, read_folder, write_record

    file = odr_dir / INDEX
    try:
        current = file.read_text(encoding="utf-8") if file.exists() else ""
    except UnicodeDecodeError:
        raise BadInputError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read: {error.strerror}") from None
    text = render_index(read_folder(odr_dir), current)
    if text != current and check:
        typer.echo(f"{file}:1:1: ODR801 index is out of date: `ockham odr index` writes it")
        raise typer.Exit(1)
    if text != current:
        write_record(file, text)
        print_note(f"{file}: written")


@app.command()
def graph(
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    output_format: Annotated[
        GraphFormat,
        typer.Option("--format", "-f", metavar="FORMAT", help="Output format: mermaid, dot or json."),
    ] = GraphFormat.mermaid,
    output: OutputOption = None,
) -> None:
    """Show which records supersede others.

    Examples:
      ockham odr graph

      ockham odr graph -f dot
    """
    from ockham.odr.graph import GRAPHS
    from ockham.odr.records_folder import read_folder

    _write(GRAPHS[output_format.value](read_folder(odr_dir)), output)
