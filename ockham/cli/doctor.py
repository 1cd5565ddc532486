"""`ockham doctor`: the environment and the state of the logs. Reads only."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from ockham import __version__
from ockham.cli.options import DEFAULT_RUNS, EXTRAS, RunsOption
from ockham.cli.output import (
    FormatOption,
    OutputOption,
    is_verbose,
    pluralize,
    print_note,
    write_rows,
)
from ockham.errors import BadInputError, UnverifiableError, install_command

if TYPE_CHECKING:
    from ockham.record.log_status import LogStatus
    from ockham.record.run_folder import RunFolder

LOW_DISK_MB = 1_000
GUARD_TIMEOUT_SECONDS = 30
COLUMNS = ("what", "state", "message")
_UNFINISHED_MESSAGE = "ended without run.finished; continue with `ockham train --resume`"
_LANDLOCK_CHECK = (
    "import sys; from ockham.guard.landlock import forbid_writing; sys.exit(not forbid_writing())"
)


class DoctorRow(NamedTuple):
    """The state of one subject."""

    subject: str
    state: Literal["ok", "note", "problem"]
    message: str
    writing: bool = False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Check the environment and the end of each log.

    Finds what is missing, unfinished or unsigned. On a terminal, -v also lists healthy runs. Exit status:
    0 no problem, 1 a problem. Signatures are not checked; `ockham verify RUN` does that.

    Examples:
      ockham doctor

      ockham --runs /data/runs doctor -f json
    """
    is_table = output_format == "table" or (output_format is None and output is None and sys.stdout.isatty())
    log_rows = _check_logs(runs, list_healthy_runs=is_verbose() or not is_table)
    rows = [*_check_environment(), *_check_disk(runs), *log_rows]
    write_rows(COLUMNS, [row[: len(COLUMNS)] for row in rows], output_format, output)
    problems = sum(row.state == "problem" for row in rows)
    if problems:
        print_note(pluralize(problems, "problems"))
        raise typer.Exit(1)


def _check_environment() -> Iterator[DoctorRow]:
    from importlib import metadata

    python = platform.python_version()
    yield DoctorRow("ockham", "ok", f"{__version__}, Python {python}, {platform.system()}")
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            yield DoctorRow(
                extra, "note", f"not installed: {', '.join(missing)}; optional, {install_command(extra)}"
            )
        else:
            versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
            yield DoctorRow(extra, "ok", versions)
    yield _check_key()
    yield _check_guard()


def _check_key() -> DoctorRow:
    from ockham.record.tlog.note import KEY_FILE, key_dir
    from ockham.record.tlog.private_file import describe_link, require_private

    path = key_dir() / KEY_FILE
    try:
        require_private(path)
    except BadInputError as error:
        return DoctorRow("signing key", "problem", str(error))
    except FileNotFoundError:
        return DoctorRow("signing key", "note", f"missing; the first run creates {path}")
    except OSError as error:
        return DoctorRow("signing key", "problem", f"{path}: {error.strerror}")
    return DoctorRow("signing key", "ok", describe_link(path))


def _check_guard() -> DoctorRow:
    """Test Landlock in a child process, because a process cannot remove its restrictions again."""
    import subprocess

    command = [sys.executable, "-P", "-c", _LANDLOCK_CHECK]
    done = subprocess.run(command, check=False, timeout=GUARD_TIMEOUT_SECONDS)  # noqa: S603 - constant words
    if done.returncode == 0:
        return DoctorRow("guard", "ok", "the kernel forbids writing during user SQL (Landlock)")
    return DoctorRow("guard", "note", "no Landlock: user SQL is read through Arrow, slower")


def _check_disk(runs: Path) -> Iterator[DoctorRow]:
    parents = (runs.absolute(), *runs.absolute().parents)
    folder = next((path for path in parents if path.is_dir()), Path("/"))
    if not os.access(folder, os.W_OK | os.X_OK):
        yield DoctorRow("runs folder", "note", f"not writable: {folder}; runs can only be read")
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < LOW_DISK_MB:
        message = f"{free_mb:,.0f} MB free; runs halt on a full disk: {folder}"
        yield DoctorRow("disk", "problem", message)
    else:
        yield DoctorRow("disk", "ok", f"{free_mb:,.0f} MB free")


def _check_logs(runs: Path, *, list_healthy_runs: bool) -> Iterator[DoctorRow]:
    """Yield a row for each note and problem of the runs, and optionally one for each healthy run."""
    from ockham.catalog.file_index import FileIndex
    from ockham.record.run_folder import RunFolder, list_runs
    from ockham.record.run_identity import describe_renamed

    run_ids = list_runs(runs)
    if not run_ids:
        yield DoctorRow("runs", "ok", f"none in {runs}; start one with `ockham train`")
        return
    rows: list[DoctorRow] = []
    healthy = 0
    index = FileIndex()
    for run_id in run_ids:
        folder = RunFolder(runs, run_id)
        if (problem := describe_renamed(folder)) is not None:
            rows.append(DoctorRow(run_id, "problem", problem))
            continue
        run_rows = list(_check_run(folder))
        segments = len(index.scan([folder]).segments)
        if segments and not any(row.writing for row in run_rows):
            message = f"{segments} segments without Parquet; `ockham repair {run_id}`"
            run_rows.append(DoctorRow(run_id, "note", message))
        if not run_rows:
            healthy += 1
            if list_healthy_runs:
                message = f"complete and signed; check with `ockham verify {run_id}`"
                run_rows.append(DoctorRow(run_id, "ok", message))
        rows += run_rows
    yield DoctorRow("runs", "ok", f"{healthy} of {pluralize(len(run_ids), 'runs')} without notes or problems")
    yield from rows


def _check_run(folder: RunFolder) -> Iterator[DoctorRow]:
    """Yield the notes and problems of one run."""
    from ockham.record.log_status import read_log_status

    last_attempt = folder.last_attempt()
    if not last_attempt:
        yield DoctorRow(folder.run_id, "problem", "no log; --resume begins the run again")
    for attempt, rank in folder.logs():
        subject = f"{folder.run_id} {attempt}-{rank}"
        try:
            status = read_log_status(folder, attempt, rank)
        except UnverifiableError as error:
            yield DoctorRow(subject, "problem", str(error))
            continue
        if status.writing:
            yield DoctorRow(subject, "note", f"being written, {status.events} events so far", writing=True)
            continue
        yield from _check_end(subject, status, is_last_attempt=attempt == last_attempt)
        if status.torn_bytes:
            message = f"{status.torn_bytes} bytes of an unfinished line; a resume moves them aside"
            yield DoctorRow(subject, "note", message)
        unsigned = status.events - (status.signed_events or 0)
        if unsigned > 0:
            yield DoctorRow(subject, "note", f"{unsigned} of {status.events} events are not signed")


def _check_end(subject: str, status: LogStatus, *, is_last_attempt: bool) -> Iterator[DoctorRow]:
    """Yield a row if a log did not end with a completed run."""
    if status.last == "log.halted" and is_last_attempt:
        message = f"log halted ({status.reason_code}); remove the cause, then resume"
        yield DoctorRow(subject, "problem", message)
    elif status.last == "log.halted":
        yield DoctorRow(subject, "note", f"log halted ({status.reason_code}); a later attempt continued")
    elif not status.finished and is_last_attempt:
        yield DoctorRow(subject, "problem", _UNFINISHED_MESSAGE)
    elif status.finished and status.reason_code != "COMPLETED" and is_last_attempt:
        yield DoctorRow(subject, "note", f"ended with {status.reason_code}")
