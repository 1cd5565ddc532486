"""`ockham odr new, list, show, status, supersede, renumber, upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.odr_options import DEFAULT_ODR_DIR, Folder, RecordArgument
from ockham.cli.options import RunsOption
from ockham.formatting import today
from ockham.text_safety import escape_control_characters

STATUSES = ("draft", "proposed", "accepted", "rejected", "superseded", "retired")


def add_commands(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("list")(list_records)
    for verb in (new, show, status, supersede, renumber, upgrade):
        app.command()(verb)


def new(
    title: Annotated[str, typer.Argument(help="What is decided, on one line.")],
    folder: Folder = DEFAULT_ODR_DIR,
    owner: Annotated[list[str] | None, typer.Option(help="Who answers for it; may be given again.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be given again.")] = None,
    supersedes: Annotated[
        list[str] | None, typer.Option(help="Record that it will take the place of.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Run to compare with.")] = None,
    candidate: Annotated[str | None, typer.Option(help="Run with the change.")] = None,
    runs: RunsOption = Path("runs"),
    number: Annotated[int | None, typer.Option(help="Another number than the next.")] = None,
) -> None:
    """Write a draft under the next free number.

    With two runs, their evidence and measured values are filled in.

    Examples:
      ockham odr new "Move to preset tight"

      ockham odr new "Move to preset tight" --baseline night-1 --candidate night-2 --owner alice
    """
    from ockham.odr.lifecycle import new_record
    from ockham.odr.pinning import measure_default_constraints, pin_sides
    from ockham.odr.records_folder import find_record, read_folder
    from ockham.odr.template import render_record

    records = read_folder(folder) if folder.is_dir() else []
    old = [find_record(records, name).claims.id for name in supersedes or []]
    owners = owner or [_user()]
    _check_title(title)
    sides = pin_sides(runs, baseline, candidate)
    constraints = measure_default_constraints(sides, runs)

    def write(identity: str) -> str:
        return render_record(
            identity, title, owners, today(), tags=tag or [], supersedes=old, sides=sides, constraints=constraints
        )  # fmt: skip

    print(new_record(folder, title, write, number))


def list_records(
    folder: Folder = DEFAULT_ODR_DIR,
    status: Annotated[list[str] | None, typer.Option(help="Only these; may be given again.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only records with one of these tags.")] = None,
) -> None:
    """List the records: id, status, verdict, day, title.

    Examples:
      ockham odr list

      ockham odr list --status accepted --status proposed
    """
    from ockham.errors import BadInputError, suggest_name
    from ockham.odr.records_folder import read_folder

    for name in status or []:
        if name not in STATUSES:
            raise BadInputError(f"no status {name!r:.40}{suggest_name(name, STATUSES)}")
    for record in read_folder(folder):
        claims = record.claims
        if (status and claims.status not in status) or (tag and not set(tag) & set(claims.tags)):
            continue
        cells = (
            claims.id or record.file.name,
            claims.status,
            claims.verdict or "-",
            claims.date,
            claims.title,
        )
        print("\t".join(cell if cell.isprintable() else repr(cell) for cell in cells))


def show(record: RecordArgument, folder: Folder = DEFAULT_ODR_DIR) -> None:
    """Print one record.

    Examples:
      ockham odr show 12
    """
    from ockham.odr.records_folder import find_record, read_folder

    print(escape_control_characters("\n".join(find_record(read_folder(folder), record).lines).rstrip("\n")))


def status(
    record: RecordArgument,
    to: Annotated[str, typer.Argument(help="proposed, accepted, rejected, retired or draft.")],
    folder: Folder = DEFAULT_ODR_DIR,
) -> None:
    """Give a record another status, and its day.

    From acceptance on it gets a lock too.

    Examples:
      ockham odr status 12 proposed

      ockham odr status 12 accepted
    """
    from ockham.errors import BadInputError
    from ockham.odr.lifecycle import set_status, write_records
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record

    if to == "superseded":
        raise BadInputError("a record is superseded by another one: `ockham odr supersede OLD --by NEW`")
    found = find_record(lint_folder(folder), record)
    fault = next((f for f in found.findings if f.severity == "error"), None)
    if to in {"accepted", "rejected"} and fault is not None:
        raise BadInputError(
            f"{found.display_path}:{fault.line}: {fault.code} {fault.message}: mend that before it is locked"
        )
    write_records({found.file: set_status(found, to, today())})


def supersede(
    record: RecordArgument,
    by: Annotated[str, typer.Option(help="The accepted record that takes its place.")],
    folder: Folder = DEFAULT_ODR_DIR,
) -> None:
    """Let one record take the place of another.

    It is written on both sides.

    Examples:
      ockham odr supersede 12 --by 17
    """
    from ockham.odr.lifecycle import supersede as superseded
    from ockham.odr.lifecycle import write_records
    from ockham.odr.records_folder import find_record, read_folder

    records = read_folder(folder)
    write_records(superseded(find_record(records, record), find_record(records, by), today()))


def renumber(
    record: RecordArgument,
    folder: Folder = DEFAULT_ODR_DIR,
    number: Annotated[int | None, typer.Option(help="Another number than the next.")] = None,
) -> None:
    """Give a draft or proposed record another number.

    In its file's name, id, heading and links.

    After two branches took the same number; without --number it takes the next free one.

    Examples:
      ockham odr renumber odr/0012-skip-two-batches.md

      ockham odr renumber 12 --number 20
    """
    from ockham.errors import BadInputError
    from ockham.odr.lifecycle import renumber as renumbered
    from ockham.odr.lifecycle import used_numbers, write_records
    from ockham.odr.records_folder import find_record, next_number, read_folder

    records = read_folder(folder)
    found = find_record(records, record)
    taken = used_numbers(folder)
    chosen = next_number(taken) if number is None else number
    if chosen in taken:
        raise BadInputError(f"the number {chosen} is taken, here or on another branch")
    texts = renumbered(found, records, chosen)
    write_records(texts)
    found.file.unlink()
    print(next(iter(texts)))


def upgrade(
    file: Annotated[Path, typer.Argument(help="A bare record: heading, four sections, checkboxes.")],
    folder: Folder = DEFAULT_ODR_DIR,
    owner: Annotated[list[str] | None, typer.Option(help="Who answers for it; may be given again.")] = None,
) -> None:
    """Make a draft of a bare record.

    One in the style of the old documents; the old file stays.

    Examples:
      ockham odr upgrade old/0003-use-adamw.md --owner alice
    """
    from ockham.errors import BadInputError
    from ockham.odr.lifecycle import new_record, used_numbers
    from ockham.odr.upgrade import parse_legacy_record, render_upgraded

    try:
        bare = parse_legacy_record(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{file} cannot be read: {error}") from None
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}") from None
    number = bare.number if bare.number and bare.number not in used_numbers(folder) else None
    owners = owner or [_user()]
    print(
        new_record(
            folder, bare.title, lambda identity: render_upgraded(bare, identity, owners, today()), number
        )
    )


def _user() -> str:
    """Who is logged in, by the system's word."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _check_title(title: str) -> None:
    from ockham.errors import BadInputError

    if not title.strip() or len(title) > 120 or not title.isprintable():
        raise BadInputError(
            f"the title {title!r:.60} is not allowed: one line of 1 to 120 printable characters"
        )
