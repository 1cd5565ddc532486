"""`ockham odr`: decision records of people, checked against decisions of the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.odr_evidence import add_to as add_evidence_to
from ockham.cli.odr_life import add_to
from ockham.cli.odr_options import (
    HERE,
    FailFrom,
    FailOn,
    Folder,
    Format,
    FormatOfFindings,
    Graph,
    Ignore,
    Output,
    Select,
    today,
)
from ockham.cli.options import RunsOption
from ockham.text import plain

if TYPE_CHECKING:
    from ockham.odr.codes import Finding
    from ockham.odr.record import Record
    from ockham.odr.report import Judgements

app = typer.Typer(no_args_is_help=True, help="Occam Decision Records: write, lint and check them.")
add_to(app)
add_evidence_to(app)


def register(parent: typer.Typer) -> None:
    """Hang `odr` under the tree of verbs."""
    parent.add_typer(app, name="odr")


@app.command()
def lint(
    wanted: Annotated[list[str] | None, typer.Argument(help="Only these: id, number or file name; the others are read for links.")] = None,
    folder: Folder = HERE,
    form: FormatOfFindings = Format.text,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: FailFrom = FailOn.error,
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
    from ockham.odr.folder import find
    from ockham.odr.lint import lint_folder

    records = lint_folder(folder)
    if fix:
        for record in fix_folder(folder, today(), [find(records, name).file for name in wanted or []]):
            print(f"mended {record.shown}", file=sys.stderr)
        records = lint_folder(folder)
    records = [find(records, name) for name in wanted] if wanted else records
    _finish(records, {}, form, select or [], ignore or [], fail_on, output)


@app.command()
def check(
    wanted: Annotated[list[str] | None, typer.Argument(help="Only these: id, number or file name.")] = None,
    folder: Folder = HERE,
    runs: RunsOption = Path("runs"),
    form: FormatOfFindings = Format.text,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: FailFrom = FailOn.error,
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
    from ockham.odr.ask import guarded
    from ockham.odr.check import check as checked
    from ockham.odr.fix import tick_all
    from ockham.odr.folder import find
    from ockham.odr.lint import lint_folder

    records = lint_folder(folder)
    chosen = [find(records, name) for name in wanted] if wanted else records
    judged = {}
    for at, record in enumerate(chosen):
        _told(at, len(chosen), record.shown)
        judged[record.shown] = checked(record, [runs], guarded, today())
    _told(len(chosen), len(chosen), "")
    if fix:
        for record in tick_all(chosen, judged):
            print(f"mended {record.shown}", file=sys.stderr)
    if attest:
        from ockham.odr.measure import attest as write_check

        for event_id in (write_check(record, judged[record.shown], runs) for record in chosen):
            print(
                f"attested as {event_id}" if event_id else "nothing was judged: nothing to attest",
                file=sys.stderr,
            )
    _finish(chosen, judged, form, select or [], ignore or [], fail_on, output)


def _told(done: int, whole: int, name: str) -> None:
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
    from ockham.odr.codes import expand, explain

    print("\n\n".join(explain(known) for known in sorted(expand([code]))))


def _finish(
    records: Sequence[Record],
    judged: Judgements,
    form: Format,
    select: Sequence[str],
    ignore: Sequence[str],
    fail_on: FailOn,
    output: Path | None,
) -> None:
    """Write the findings and leave with 1 if one weighs enough."""
    from ockham.odr import report
    from ockham.odr.codes import expand
    from ockham.odr.lint import chosen, findings_of

    findings = chosen(findings_of(records), expand(select), expand(ignore))
    _write(report.FORMATS[form.value](findings, records, judged), output)
    if form is Format.github and (step := os.environ.get("GITHUB_STEP_SUMMARY")):
        with Path(step).open("a", encoding="utf-8") as file:
            file.write(report.github_summary(findings))
    print(report.summary(findings, records), file=sys.stderr)
    if any(_weighs(finding, fail_on) for finding in findings):
        raise typer.Exit(1)


def _weighs(finding: Finding, fail_on: FailOn) -> bool:
    return finding.severity == "error" or fail_on is FailOn.warning


def _write(text: str, output: Path | None) -> None:
    from ockham.errors import BadInputError
    from ockham.record.folder import write_durably

    if output is None:
        if text:
            print(plain(text))
        return
    try:
        write_durably(output, f"{text}\n".encode())
    except OSError as error:
        raise BadInputError(f"{output} cannot be written: {error.strerror}") from None


@app.command()
def index(
    folder: Folder = HERE,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; 1 if it is old.")] = False,
) -> None:
    """Write the list of all records into README.md.

    The one of their folder, between two marks.

    Examples:
      ockham odr index

      ockham odr index --check
    """
    from ockham.errors import BadInputError
    from ockham.odr.folder import INDEX, read_folder, write_record
    from ockham.odr.graph import index as indexed

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
    folder: Folder = HERE,
    form: Annotated[Graph, typer.Option("--format", "-f", help="How it is written.")] = Graph.mermaid,
) -> None:
    """Show who superseded whom.

    Examples:
      ockham odr graph

      ockham odr graph -f dot
    """
    from ockham.odr.folder import read_folder
    from ockham.odr.graph import GRAPHS

    print(plain(GRAPHS[form.value](read_folder(folder))))
