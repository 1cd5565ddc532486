"""`ockham odr new`, `list`, `show`, `status`, `supersede`, `renumber` and `upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.odr_evidence import AblationOption, BaselineOption, CandidateOption, pin_named_sides
from ockham.cli.odr_options import RecordArgument, repeatable
from ockham.cli.options import DEFAULT_ODR_DIR, DEFAULT_RUNS, OdrDirOption, RunsOption
from ockham.cli.output import (
    FormatOption,
    OutputOption,
    TextFormatOption,
    print_note,
    write_rows,
    write_text,
)
from ockham.errors import BadInputError, suggest_name
from ockham.formatting import today
from ockham.text_safety import escape_control_characters

if TYPE_CHECKING:
    from ockham.odr.record import DecisionRecord

STATUSES = ("draft", "proposed", "accepted", "rejected", "superseded", "retired")
MAX_TITLE_CHARACTERS = 120
COLUMNS = ("id", "status", "verdict", "date", "title")
OwnerOption = Annotated[
    list[str] | None,
    repeatable("--owner", "NAME", "Owner of the record", " Default: the current user."),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_records)
    for command in (new, show, status, supersede, renumber, upgrade):
        app.command()(command)


def new(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="The decision, in one line.")],
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    owner: OwnerOption = None,
    tag: Annotated[list[str] | None, repeatable("--tag", "TAG", "Tag")] = None,
    supersedes: Annotated[
        list[str] | None, repeatable("--supersedes", "RECORD", "Record that the new one replaces")
    ] = None,
    baseline: BaselineOption = None,
    candidate: CandidateOption = None,
    constraint: Annotated[
        list[str] | None,
        repeatable(
            "--constraint",
            "NAME=VALUE",
            "Named constraint, see `ockham odr constraints`",
            " Options after a comma: `judge=mean`, `severity=warn`, `min_n=N`.",
        ),
    ] = None,
    ablation: AblationOption = "",
    runs: RunsOption = DEFAULT_RUNS,
    number: Annotated[
        int | None, typer.Option("--number", help="Number; default: the next free one.", show_default=False)
    ] = None,
) -> None:
    """Write a draft with the next free number.

    With two runs, it contains their evidence and measured values. Without --constraint, the loss may be at
    most 1 % above the baseline's.

    Examples:
      ockham odr new "Move to preset tight"

      ockham odr new "Move to preset tight" --baseline night-1 --candidate night-2 --owner alice

      ockham odr new "Lower the target" --baseline a-1,a-2,a-3 --candidate b-1,b-2,b-3

      ockham odr new "Drop the compressor" --ablation study-1 --candidate without-compressor

      ockham odr new "Lower the target" --constraint loss_at_most_above=2% --constraint no_rollbacks

      ockham odr new "Lower the target" --constraint loss_at_most_above=2%,judge=mean,severity=warn
    """
    from ockham.odr.lifecycle import new_record
    from ockham.odr.pinning import measure_constraints
    from ockham.odr.records_folder import SCHEMA, find_record, read_folder
    from ockham.odr.template import (
        DEFAULT_CONSTRAINTS,
        NewRecord,
        describe_constraint,
        parse_constraints,
        render_record,
    )

    records = read_folder(odr_dir) if odr_dir.is_dir() else []
    superseded_ids = [find_record(records, name).claims.id for name in supersedes or []]
    owners = owner or [_user_name()]
    _check_title(title)
    requested = parse_constraints(constraint or [])
    sides = pin_named_sides(runs, baseline, candidate, ablation)
    constraints = measure_constraints(requested or DEFAULT_CONSTRAINTS, sides, runs) or requested

    def render(record_id: str) -> str:
        record = NewRecord(record_id, title, owners, today(), tag or [], superseded_ids, sides, constraints)
        return render_record(record._replace(schema=SCHEMA if (odr_dir / SCHEMA).is_file() else ""))

    file = new_record(odr_dir, title, render, number)
    for one in constraints:
        print_note(describe_constraint(one))
    typer.echo(file)


def list_records(
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    status: Annotated[list[str] | None, repeatable("--status", "STATUS", "Only this status")] = None,
    tag: Annotated[list[str] | None, repeatable("--tag", "TAG", "Only records with this tag")] = None,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the records with ID, status, verdict, date and title.

    Examples:
      ockham odr list

      ockham odr list --status accepted --status proposed
    """
    from ockham.odr.record_rules import claimed_verdict
    from ockham.odr.records_folder import read_folder

    for name in status or []:
        if name not in STATUSES:
            raise BadInputError(f"--status {name[:40]!r}: unknown status{suggest_name(name, STATUSES)}")
    rows = []
    for record in read_folder(odr_dir):
        claims = record.claims
        if status and claims.status not in status:
            continue
        if tag and not set(tag) & set(claims.tags):
            continue
        record_id = claims.id or record.file.name
        rows.append((record_id, claims.status, claimed_verdict(record) or "-", claims.date, claims.title))
    write_rows(COLUMNS, rows, output_format, output, ("date",))


def show(
    record: RecordArgument,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Print one record.

    Examples:
      ockham odr show 12
    """
    from ockham.odr.records_folder import find_record, read_folder

    found = find_record(read_folder(odr_dir), record)
    text = "\n".join(found.lines).rstrip("\n")
    if output_format is None:
        write_text(escape_control_characters(text), output)
        return
    claims = found.claims
    row = (claims.id, claims.status, claims.verdict, claims.date, claims.title, text)
    write_rows((*COLUMNS, "text"), [row], output_format, output)


def status(
    record: RecordArgument,
    to: Annotated[
        str, typer.Argument(metavar="STATUS", help="proposed, accepted, rejected, retired or draft.")
    ],
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Set the status and the date of a record.

    `accepted` and `rejected` check the record first, and refuse one with errors. From then on it is locked.

    Exit status: 0 changed, 1 the check found errors, 2 bad input.

    Examples:
      ockham odr status 12 proposed

      ockham odr status 12 accepted
    """
    from ockham.odr.lifecycle import reread, set_status, write_records
    from ockham.odr.records_folder import find_record, read_folder

    if to == "superseded":
        raise BadInputError(
            "status superseded: set by the superseding record; use `ockham odr supersede OLD --by NEW`"
        )
    records = read_folder(odr_dir)
    found = find_record(records, record)
    text = set_status(found, to, today())
    if to in {"accepted", "rejected"}:
        changed = reread(found, text.splitlines())
        _require_no_errors(changed, [changed if other is found else other for other in records], runs)
    write_records({found.file: text})
    print_note(f"{found.display_path}: {to}")


def _require_no_errors(changed: DecisionRecord, records: list[DecisionRecord], runs: Path) -> None:
    """Lint and check a record as it will be written. Exit with status 1 if it has errors, and print them."""
    from ockham.odr.check import check
    from ockham.odr.lint import lint
    from ockham.odr.output_formats import format_text
    from ockham.odr.query import guarded_queries

    lint(records, today())
    result = check(changed, [runs], guarded_queries, today())
    errors = [finding for finding in sorted(changed.findings) if finding.severity == "error"]
    if errors:
        text = format_text(errors, [changed], {changed.display_path: result})
        typer.echo(escape_control_characters(text))
        print_note(f"{changed.display_path}: not {changed.claims.status}; fix the errors first")
        raise typer.Exit(1)


def supersede(
    record: RecordArgument,
    by: Annotated[str, typer.Option("--by", metavar="RECORD", help="The accepted record that replaces it.")],
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
) -> None:
    """Mark a record as superseded by another one.

    Both records are changed.

    Examples:
      ockham odr supersede 12 --by 17
    """
    from ockham.odr.lifecycle import supersede as supersede_record
    from ockham.odr.lifecycle import write_records
    from ockham.odr.records_folder import find_record, read_folder

    records = read_folder(odr_dir)
    old, new_record = find_record(records, record), find_record(records, by)
    write_records(supersede_record(old, new_record, today()))
    print_note(f"{old.display_path}: superseded by {new_record.claims.id}")


def renumber(
    record: RecordArgument,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    number: Annotated[
        int | None, typer.Option("--number", help="Number; default: the next free one.", show_default=False)
    ] = None,
) -> None:
    """Change the number of a draft or proposed record.

    Changes the file name, ID, heading and links. Use it after two branches used the same number.

    Examples:
      ockham odr renumber odr/0012-skip-two-batches.md

      ockham odr renumber 12 --number 20
    """
    from ockham.odr.lifecycle import renumber as renumber_record
    from ockham.odr.lifecycle import used_numbers, write_records
    from ockham.odr.records_folder import find_record, next_number, read_folder

    records = read_folder(odr_dir)
    found = find_record(records, record)
    used = used_numbers(odr_dir)
    new_number = next_number(used) if number is None else number
    if new_number in used:
        raise BadInputError(
            f"--number {new_number}: used in this folder or on another branch; use a free number"
        )
    texts = renumber_record(found, records, new_number)
    write_records(texts)
    found.file.unlink()
    typer.echo(next(iter(texts)))


def upgrade(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Record in the old format: heading, four sections, checkboxes."),
    ],
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    owner: OwnerOption = None,
) -> None:
    """Convert a record of the old format to a draft.

    The old file is not changed.

    Examples:
      ockham odr upgrade old/0003-use-adamw.md --owner alice
    """
    from ockham.odr.lifecycle import new_record, used_numbers
    from ockham.odr.upgrade import parse_legacy_record, render_upgraded

    try:
        legacy = parse_legacy_record(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise BadInputError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read: {error.strerror}") from None
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}") from None
    number = legacy.number if legacy.number and legacy.number not in used_numbers(odr_dir) else None
    owners = owner or [_user_name()]

    def render(record_id: str) -> str:
        return render_upgraded(legacy, record_id, owners, today())

    typer.echo(new_record(odr_dir, legacy.title, render, number))


def _user_name() -> str:
    """Return the name of the current user."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _check_title(title: str) -> None:
    """Raise BadInputError if a title is not one printable line."""
    if not title.strip() or len(title) > MAX_TITLE_CHARACTERS or not title.isprintable():
        raise BadInputError(
            f"TITLE {title[:60]!r}: not allowed; use one line of 1 to 120 printable characters"
        )
