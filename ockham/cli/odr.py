"""`ockham odr`: decision records of people, checked against decisions of the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.odr_evidence import add_commands as add_evidence_to
from ockham.cli.odr_lifecycle import add_commands
from ockham.cli.odr_options import (
    DEFAULT_ODR_DIR,
    FailOn,
    FailOnOption,
    Folder,
    Format,
    FormatOfFindings,
    Graph,
    Ignore,
    Output,
    Select,
)
from ockham.cli.options import RunsOption
from ockham.formatting import today
from ockham.text_safety import escape_control_characters

if TYPE_CHECKING:
    from ockham.odr.codes import Finding
    from ockham.odr.output_formats import Judgements
    from ockham.odr.record import DecisionRecord

app = typer.Typer(no_args_is_help=True, help="Occam Decision Records: write, lint and check them.")
add_commands(app)
add_evidence_to(app)


def register(parent: typer.Typer) -> None:
    """Hang `odr` under the tree of verbs."""
    parent.add_typer(app, name="odr")


@app.command()
def lint(
    wanted: Annotated[list[str] | None, typer.Argument(help="Only these: id, number or file name; the others are read for links.")] = None,
    folder: Folder = DEFAULT_ODR_DIR,
    form: FormatOfFindings = Format.text,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: FailOnOption = FailOn.error,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is marked [*] first.")] = False,
    output: Output = None,
) -> None:  # fmt: skip
    """Check form, links and claims, without a log.

    Examples:
      ockham odr lint

      ockham odr lint 12 --fix

      ockham odr lint -f github --fail-on warning
    """
    from ockham.odr.fix import fix_folder
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record

    records = lint_folder(folder)
    if fix:
        for record in fix_folder(folder, today(), [find_record(records, name).file for name in wanted or []]):
            print(f"mended {record.display_path}", file=sys.stderr)
        records = lint_folder(folder)
    records = [find_record(records, name) for name in wanted] if wanted else records
    _finish(records, {}, form, select or [], ignore or [], fail_on, output)


@app.command()
def check(
    wanted: Annotated[list[str] | None, typer.Argument(help="Only these: id, number or file name.")] = None,
    folder: Folder = DEFAULT_ODR_DIR,
    runs: RunsOption = Path("runs"),
    form: FormatOfFindings = Format.text,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: FailOnOption = FailOn.error,
    fix: Annotated[bool, typer.Option("--fix", help="In drafts: tick the boxes, and fill in a missing outcome, as they came out.")] = False,
    attest: Annotated[bool, typer.Option("--attest", help="Write what came out, signed, into the ledger beside the runs.")] = False,
    output: Output = None,
) -> None:  # fmt: skip
    """Lint, then recompute what the records claim.

    From the log: values, quotients, verdicts.

    Exit status: 0 clean, 1 findings, 2 bad input, 3 cannot judge.

    Examples:
      ockham odr check

      ockham odr check 12 --fix

      ockham odr check -f sarif -o odr.sarif
    """
    from ockham.odr.check import check as checked
    from ockham.odr.fix import update_checkboxes
    from ockham.odr.lint import lint_folder
    from ockham.odr.query import guarded_queries
    from ockham.odr.records_folder import find_record

    records = lint_folder(folder)
    chosen = [find_record(records, name) for name in wanted] if wanted else records
    judged = {}
    for at, record in enumerate(chosen):
        _print_progress(at, len(chosen), record.display_path)
        judged[record.display_path] = checked(record, [runs], guarded_queries, today())
    _print_progress(len(chosen), len(chosen), "")
    if fix:
        for record in update_checkboxes(chosen, judged):
            print(f"mended {record.display_path}", file=sys.stderr)
    if attest:
        from ockham.odr.pinning import attest as write_check

        for event_id in (write_check(record, judged[record.display_path], runs) for record in chosen):
            print(
                f"attested as {event_id}" if event_id else "nothing was judged: nothing to attest",
                file=sys.stderr,
            )
    _finish(chosen, judged, form, select or [], ignore or [], fail_on, output)


def _print_progress(done: int, whole: int, name: str) -> None:
    """On a terminal, which record is being judged: each takes about a second."""
    if sys.stderr.isatty() and whole > 1:
        sys.stderr.write("\r\x1b[K" + (f"{done + 1} of {whole} {name}" if name else ""))
        sys.stderr.flush()


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A code such as ODR304, or its beginning.")]) -> None:
    """Say what a code means and how to mend it.

    Examples:
      ockham odr explain ODR304

      ockham odr explain ODR5
    """
    from ockham.odr.codes import expand_codes, explain

    print("\n\n".join(explain(known) for known in sorted(expand_codes([code]))))


def _finish(
    records: Sequence[DecisionRecord],
    judged: Judgements,
    form: Format,
    select: Sequence[str],
    ignore: Sequence[str],
    fail_on: FailOn,
    output: Path | None,
) -> None:
    """Write the findings and leave with 1 if one weighs enough."""
    from ockham.odr import output_formats
    from ockham.odr.codes import expand_codes
    from ockham.odr.lint import filter_findings, sorted_findings

    findings = filter_findings(sorted_findings(records), expand_codes(select), expand_codes(ignore))
    _write(output_formats.FORMATS[form.value](findings, records, judged), output)
    if form is Format.github and (step := os.environ.get("GITHUB_STEP_SUMMARY")):
        with Path(step).open("a", encoding="utf-8") as file:
            file.write(output_formats.github_summary(findings))
    print(output_formats.summary(findings, records), file=sys.stderr)
    if any(_fails(finding, fail_on) for finding in findings):
        raise typer.Exit(1)


def _fails(finding: Finding, fail_on: FailOn) -> bool:
    return finding.severity == "error" or fail_on is FailOn.warning


def _write(text: str, output: Path | None) -> None:
    from ockham.errors import BadInputError
    from ockham.record.run_folder import atomic_write

    if output is None:
        if text:
            print(escape_control_characters(text))
        return
    try:
        atomic_write(output, f"{text}\n".encode())
    except OSError as error:
        raise BadInputError(f"{output} cannot be written: {error.strerror}") from None


@app.command()
def index(
    folder: Folder = DEFAULT_ODR_DIR,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; 1 if it is old.")] = False,
) -> None:
    """Write the list of all records into README.md.

    The one of their folder, between two marks.

    Examples:
      ockham odr index

      ockham odr index --check
    """
    from ockham.errors import BadInputError
    from ockham.odr.graph import render_index as indexed
    from ockham.odr.records_folder import INDEX, read_folder, write_record

    file = folder / INDEX
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{file} cannot be read: {error}") from None
    text = indexed(read_folder(folder), before)
    if text != before and check:
        print(f"{file}:1:1: ODR801 [*] index is out of date: `ockham odr index` writes it")
        raise typer.Exit(1)
    if text != before:
        write_record(file, text)


@app.command()
def graph(
    folder: Folder = DEFAULT_ODR_DIR,
    form: Annotated[Graph, typer.Option("--format", "-f", help="How it is written.")] = Graph.mermaid,
) -> None:
    """Show who superseded whom.

    Examples:
      ockham odr graph

      ockham odr graph -f dot
    """
    from ockham.odr.graph import GRAPHS
    from ockham.odr.records_folder import read_folder

    print(escape_control_characters(GRAPHS[form.value](read_folder(folder))))
