"""`ockham tag`, `archive`, `rename` and `rm`: order in many runs, by signed events in the ledger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import (
    DEFAULT_ODR_DIR,
    DEFAULT_RUNS,
    ODR_DIR_VARIABLE,
    RunArgument,
    RunsOption,
    list_names,
    resolve_run_id,
)
from ockham.cli.output import print_note
from ockham.errors import BadInputError

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder

BYTES_PER_MEGABYTE = 1_000_000
MAX_LISTED_REFERENCES = 8
PersonOption = Annotated[
    str,
    typer.Option(
        "--by", metavar="NAME", help="Name of the person; default: the user name.", show_default=False
    ),
]
WhyOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, in one line.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (tag, archive, rename):
        app.command()(command)
    app.command("rm")(remove)


def tag(
    run: RunArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags, such as baseline or paper:1.")],
    is_removed: Annotated[bool, typer.Option("--remove", help="Remove the tags instead.")] = False,
    by: PersonOption = "",
    reason: WhyOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Add tags to a run, or remove them.

    `ockham runs --tag TAG` lists the runs that have a tag.

    Examples:
      ockham tag night-1 baseline paper:1

      ockham tag night-1 paper:1 --remove
    """
    from ockham.record.run_labels import read_labels, set_tags

    folder = _open_run(runs, run)
    event_id = set_tags(folder, tags, by or _user_name(), reason, remove=is_removed)
    labels = read_labels(runs).get(folder.run_id)
    listed = ", ".join(sorted(labels.tags)) if labels and labels.tags else "none"
    print_note(f"{folder.run_id}: tags: {listed}; event {event_id} of the ledger")


def archive(
    run: RunArgument,
    undo: Annotated[bool, typer.Option("--undo", help="List the run again.")] = False,
    by: PersonOption = "",
    reason: WhyOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Leave a run out of `ockham runs`.

    No file of the run is changed, and every other command still accepts it. `ockham runs --archived` lists
    archived runs too.

    Examples:
      ockham archive night-1 --reason "wrong learning rate"
    """
    from ockham.record.run_labels import set_archived

    folder = _open_run(runs, run)
    event_id = set_archived(folder, by or _user_name(), reason, archived=not undo)
    state = "listed again" if undo else "archived"
    print_note(f"{folder.run_id}: {state}; event {event_id} of the ledger")


def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name. Empty removes the name.")],
    by: PersonOption = "",
    reason: WhyOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Give a run a name that commands accept besides its ID.

    The ID and the folder stay, because every tree head is signed under the ID.

    Examples:
      ockham rename night-1 baseline-large
    """
    from ockham.record.run_labels import set_name

    folder = _open_run(runs, run)
    event_id = set_name(folder, name or None, by or _user_name(), reason)
    state = f"named {name}" if name else "has no name"
    print_note(f"{folder.run_id}: {state}; event {event_id} of the ledger")


def remove(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Complete run ID. A prefix is not accepted.")],
    force: Annotated[
        bool, typer.Option("--force", help="Remove the run although something refers to it.")
    ] = False,
    by: PersonOption = "",
    reason: WhyOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Remove a run, and leave a signed tombstone in the ledger.

    The tombstone contains size and root of each log, so that a copy of the run can still be checked. A run
    that a decision record, a pin in a git tag, an attestation or another run refers to needs --force.

    Examples:
      ockham rm night-1 --reason "wrong data"
    """
    from ockham.odr.records_folder import read_folder
    from ockham.odr.run_references import find_references
    from ockham.record.run_labels import remove_run

    folder = _open_run(runs, run)
    if run != folder.run_id:
        raise BadInputError(f"{run}: pass the complete run ID, {folder.run_id}")
    records = Path(os.environ.get(ODR_DIR_VARIABLE, str(DEFAULT_ODR_DIR)))
    references = find_references(folder, read_folder(records) if records.is_dir() else [])
    if references and not force:
        listed = list_names(references, MAX_LISTED_REFERENCES)
        raise BadInputError(f"{folder.run_id}: {listed}; --force removes it nevertheless")
    event_id, size = remove_run(folder, by or _user_name(), reason)
    megabytes = size / BYTES_PER_MEGABYTE
    print_note(f"{folder.run_id}: removed, {megabytes:,.1f} MB; tombstone {event_id} of the ledger")


def _open_run(runs: Path, run: str) -> RunFolder:
    from ockham.record.run_folder import RunFolder

    return RunFolder(runs, resolve_run_id(runs, run))


def _user_name() -> str:
    """Return the name of the current user."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
