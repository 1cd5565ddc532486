"""`ockham note`, `intervene`, `stop`, `approve` and `waive`: signed events of people."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.odr_options import RecordArgument
from ockham.cli.options import (
    DEFAULT_ODR_DIR,
    DEFAULT_RUNS,
    OdrDirOption,
    RunArgument,
    RunsOption,
    resolve_run_id,
)
from ockham.cli.output import print_note
from ockham.errors import BadInputError, RunError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ockham.record.requests import SignedRequest
    from ockham.record.run_folder import RunFolder

POLL_SECONDS = 0.05
MAX_ITERATION = 2**53 - 1
REFUSED = 1
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="NAME", help="Name of the person; default: the user name.", show_default=False
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, in one line.")]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait until a running training has recorded it.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (note, intervene, stop, approve, waive):
        app.command()(command)


def note(
    run: RunArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note, in one line.")],
    iteration: Annotated[
        int | None,
        typer.Option(
            "--iter", metavar="N", min=0, max=MAX_ITERATION, help="Iteration of the note.", show_default=False
        ),
    ] = None,
    by: ByOption = None,
    wait: WaitOption = 10.0,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Add a signed note to a run.

    A running training records it in its own log after the present step. Otherwise it is recorded in the
    ledger. Exit status: 0 recorded, 1 refused or not recorded in time, 2 bad input.

    Examples:
      ockham note night-1 "the data of this hour has broken line ends" --iter 120
    """
    folder = _open_run(runs, run)
    _submit(folder, _sign(folder, "NOTE", by, text, iter_num=iteration), wait, needs_live=False)


def intervene(
    run: RunArgument,
    reason: ReasonOption,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=VALUE", help="Setting of the policy; may be repeated."),
    ],
    by: ByOption = None,
    wait: WaitOption = 10.0,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Change the policy of a running training.

    The change is signed, and has an effect from the next step on. A resume keeps it. Plugins keep their
    state. Exit status: 0 applied, 1 refused or not applied in time, 2 bad input.

    Examples:
      ockham intervene night-1 --set gate.target=0.5 --reason "the new data is harder"
    """
    from ockham.policy.document import parse_override

    for override in settings:
        parse_override(override)
    folder = _open_run(runs, run)
    _submit(folder, _sign(folder, "INTERVENE", by, reason, settings=tuple(settings)), wait, needs_live=True)


def stop(
    run: RunArgument,
    reason: ReasonOption,
    by: ByOption = None,
    wait: WaitOption = 10.0,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """End a running training after its present step.

    The run ends with the reason STOPPED_BY_USER, and --resume continues it. Exit status: 0 recorded,
    1 refused or not recorded in time, 2 bad input.

    Examples:
      ockham stop night-1 --reason "the loss does not fall any more"
    """
    folder = _open_run(runs, run)
    _submit(folder, _sign(folder, "STOP", by, reason), wait, needs_live=True)


def approve(
    checkpoint: Annotated[
        str, typer.Argument(metavar="RUN/CHECKPOINT", help="Run and checkpoint, or unique prefixes of them.")
    ],
    reason: ReasonOption,
    by: ByOption = None,
    wait: WaitOption = 10.0,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Approve the weights of a checkpoint.

    The approval contains the digest of the weights, and `lineage` shows it for each copy of them. Exit
    status: 0 recorded, 1 refused or not recorded in time, 2 bad input.

    Examples:
      ockham approve night-1/accepted-00000599 --reason "evaluated on the test set"
    """
    from ockham.cli.checkpoint_lookup import find_checkpoint

    run, separator, name = checkpoint.partition("/")
    if not separator or not name:
        raise BadInputError(f"{checkpoint!r:.100}: write the run and the checkpoint as RUN/CHECKPOINT")
    folder = _open_run(runs, run)
    found = find_checkpoint(runs, folder.run_id, name)
    signed = _sign(folder, "APPROVE", by, reason, target=found.snapshot_id, digest=found.weights_sha256)
    _submit(folder, signed, wait, needs_live=False)
    print_note(f"{found.snapshot_id}: approved, weights sha256 {found.weights_sha256}")


def waive(
    record: RecordArgument,
    constraint: Annotated[
        str, typer.Argument(metavar="CONSTRAINT", help="ID of the constraint, such as C1.")
    ],
    reason: ReasonOption,
    until: Annotated[
        str, typer.Option("--until", metavar="DATE", help="Last day of the waiver, YYYY-MM-DD.")
    ],
    by: ByOption = None,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Waive a constraint of a decision record until a date.

    Signs an event in the ledger, and writes the waiver into the record.

    Examples:
      ockham waive 12 C1 --until 2027-03-31 --reason "the second seed is still running"
    """
    import datetime as dt

    from ockham.odr.records_folder import find_record, read_folder, write_record
    from ockham.odr.waiver import add_waiver

    try:
        last_day = dt.date.fromisoformat(until)
    except ValueError:
        raise BadInputError(f"--until {until!r:.40}: not a date; write it as YYYY-MM-DD") from None
    found = find_record(read_folder(odr_dir), record)
    event_id, text = add_waiver(found, constraint, last_day, _resolve_name(by), reason, runs)
    write_record(found.file, text)
    print_note(f"{found.display_path}: {constraint} waived until {until}, event {event_id} of the ledger")


def _open_run(runs: Path, run: str) -> RunFolder:
    from ockham.record.run_folder import RunFolder

    return RunFolder(runs, resolve_run_id(runs, run)).require_own_name()


def _sign(folder: RunFolder, action: Any, by: str | None, text: str, **fields: Any) -> SignedRequest:
    from ockham.record.requests import make_request, sign_request
    from ockham.record.tlog.note import load_or_create_signer

    request = make_request(folder, action, _resolve_name(by), text, **fields)
    return sign_request(request, load_or_create_signer())


def _submit(folder: RunFolder, signed: SignedRequest, wait: float, *, needs_live: bool) -> None:
    """Pass a request to the running training and wait for its answer, or record it in the ledger."""
    from ockham.record.request_folder import write_request

    if not _is_running(folder):
        if needs_live:
            raise RunError(
                f"{folder.run_id}: is not running; only a running training can be changed or stopped"
            )
        _record_in_ledger(folder, signed)
        return
    path = write_request(folder, signed)
    answer = _wait_for_answer(folder, path, wait)
    if answer is not None:
        _print_answer(folder, *answer)
    elif _is_running(folder):
        print_note(f"{folder.run_id}: has not read the request yet; it will after its present step")
        if wait:
            raise typer.Exit(REFUSED)
    else:
        path.unlink(missing_ok=True)
        if needs_live:
            raise RunError(f"{folder.run_id}: ended before it has read the request")
        _record_in_ledger(folder, signed)


def _is_running(folder: RunFolder) -> bool:
    from ockham.record.log_status import is_locked

    return is_locked(folder.log_dir(folder.last_attempt(), 0) / "lock")


def _record_in_ledger(folder: RunFolder, signed: SignedRequest) -> None:
    from ockham.record.ledger import append_entry
    from ockham.record.requests import event_fields

    event_id = append_entry(folder.runs, *event_fields(signed))
    print_note(f"{folder.run_id}: recorded as event {event_id} of the ledger")


def _wait_for_answer(folder: RunFolder, path: Path, wait: float) -> tuple[str, Mapping[str, Any]] | None:
    """Return the event that answers a request. None if the training has not read it in time."""
    from ockham.record.request_answers import find_answer

    end = time.monotonic() + wait
    while True:
        # The training removes the file when the event is signed.
        if not path.exists():
            return find_answer(folder, path.stem)
        if time.monotonic() >= end or not _is_running(folder):
            return None
        time.sleep(POLL_SECONDS)


def _print_answer(folder: RunFolder, kind: str, data: Mapping[str, Any]) -> None:
    if kind == "request.refused":
        message = format_cell(data["message"])
        typer.echo(f"{folder.run_id}: refused, {data['reason_code']}: {message}", err=True)
        raise typer.Exit(REFUSED)
    if kind == "intervention.applied":
        for change in data["changes"]:
            print_note(f"{folder.run_id}: {change['setting']} {change['before']} -> {change['after']}")
        print_note(f"{folder.run_id}: applied from iteration {data['iter_num']} on")
    elif kind == "stop.requested":
        print_note(f"{folder.run_id}: ends after iteration {data['iter_num']}; --resume continues it")
    else:
        print_note(f"{folder.run_id}: recorded in its log")


def _resolve_name(by: str | None) -> str:
    """Return the name of `--by`, or of the current user without it. An empty name is not replaced."""
    return _user_name() if by is None else by


def _user_name() -> str:
    """Return the name of the current user."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
