"""`ockham odr register, evidence, pack`: what ties a record to the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.odr_options import DEFAULT_ODR_DIR, Folder, RecordArgument
from ockham.cli.options import RunsOption
from ockham.errors import BadInputError


def add_commands(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (register, evidence, pack):
        app.command()(verb)


def register(
    record: RecordArgument, folder: Folder = DEFAULT_ODR_DIR, runs: RunsOption = Path("runs")
) -> None:
    """Fix the constraints of a record in the ledger.

    Before the candidate run begins; `ockham odr check` then proves the order.

    Then train the candidate, and name it with `ockham odr evidence`.

    Examples:
      ockham odr register 12
    """
    from ockham.odr.lifecycle import write_records
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record
    from ockham.odr.registration import register as registered

    found = find_record(lint_folder(folder), record)
    write_records({found.file: registered(found, runs)})


def evidence(
    record: RecordArgument,
    candidate: Annotated[str, typer.Option(help="Run with the change.")],
    baseline: Annotated[str | None, typer.Option(help="Run to compare with.")] = None,
    folder: Folder = DEFAULT_ODR_DIR,
    runs: RunsOption = Path("runs"),
) -> None:
    """Pin runs as the evidence of a draft.

    Or of a proposal: their logs up to now, with root and accepting decision, in place of what stood there.

    Examples:
      ockham odr evidence 12 --baseline night-1 --candidate night-2
    """
    from ockham.odr.lifecycle import write_records
    from ockham.odr.pinning import pin_sides, set_evidence
    from ockham.odr.records_folder import find_record, read_folder

    found = find_record(read_folder(folder), record)
    stood = found.claims.baseline
    if stood is not None and baseline is None:
        told = f"{found.claims.id} has a baseline, {stood.run}: pin both sides, --baseline {stood.run} or another"
        raise BadInputError(told)
    write_records({found.file: set_evidence(found, pin_sides(runs, baseline, candidate))})


def pack(
    wanted: Annotated[list[str] | None, typer.Argument(help="Only these: id, number or file name.")] = None,
    folder: Folder = DEFAULT_ODR_DIR,
    runs: RunsOption = Path("runs"),
) -> None:
    """Copy the pinned logs beside the records.

    Compressed, into evidence/: so they can be checked anywhere.

    Examples:
      ockham odr pack 12

      ockham odr pack
    """
    from ockham.odr.pinning import pack_record
    from ockham.odr.records_folder import find_record, read_folder

    records = read_folder(folder)
    chosen = [find_record(records, name) for name in wanted] if wanted else records
    for file in dict.fromkeys(file for record in chosen for file in pack_record(record, runs)):
        print(file)
