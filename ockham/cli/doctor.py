"""`ockham doctor`: the environment, and the health of the logs; it looks, and changes nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from ockham import __version__
from ockham.cli.options import EXTRAS, RunsOption
from ockham.cli.output import FormatOption, OutputOption, write_rows
from ockham.errors import UnverifiableError, install_command

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder

RUNS = Path("runs")
LOW_DISK_MB = 1_000
_NO_END_MESSAGE = "its process is gone without an end: go on with `ockham train --resume`"


class DoctorRow(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "problem"]
    message: str
    writing: bool = False


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(doctor)


def doctor(runs: RunsOption = RUNS, form: FormatOption = None, output: OutputOption = None) -> None:
    """Look at the environment and the end of each log.

    What is missing, torn, unsigned, or stopped without an end. Exit status 1 where there is a problem. It proves nothing: `ockham verify RUN` does.

    Examples:
      ockham doctor

      ockham --runs /data/runs doctor -f json
    """
    rows = [*_environment(), *_disk(runs), *_logs(runs)]
    write_rows(DoctorRow._fields[:3], [row[:3] for row in rows], form, output)
    problems = sum(row.state == "problem" for row in rows)
    if problems:
        typer.echo(f"{problems} problem{'s' * (problems > 1)}", err=True)
        raise typer.Exit(1)


def _environment() -> Iterator[DoctorRow]:
    yield DoctorRow(
        "ockham",
        "ok",
        f"{__version__} on Python {platform.python_version()}, {platform.platform()}",
    )
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            message = f"not installed: {', '.join(missing)}; optional, {install_command(extra)}"
            yield DoctorRow(extra, "note", message)
        else:
            yield DoctorRow(extra, "ok", ", ".join(f"{name} {metadata.version(name)}" for name in packages))
    yield _key()
    yield _guard()


def _key() -> DoctorRow:
    from ockham.record.tlog.note import KEY_FILE, key_dir

    path = key_dir() / KEY_FILE
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        return DoctorRow("signing key", "note", f"none yet; the first run makes {path}")
    except OSError as error:
        return DoctorRow("signing key", "problem", f"{path}: {error.strerror}")
    if mode & 0o077:
        return DoctorRow(
            "signing key", "problem", f"{path} can be read by others (mode {mode:o}): chmod 600 it"
        )
    return DoctorRow("signing key", "ok", str(path))


def _guard() -> DoctorRow:
    """Asked of a child, because what Landlock takes from a process it never gives back."""
    import subprocess

    code = "import sys; from ockham.guard.landlock import forbid_writing; sys.exit(not forbid_writing())"
    held = subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=30).returncode == 0  # noqa: S603 - our own words
    if held:
        return DoctorRow("guard", "ok", "the kernel forbids writing while a stranger's SQL runs (Landlock)")
    return DoctorRow(
        "guard", "note", "no Landlock here: a stranger's SQL is read through Arrow, as safe and slower"
    )


def _disk(runs: Path) -> Iterator[DoctorRow]:
    folder = next((path for path in (runs.absolute(), *runs.absolute().parents) if path.is_dir()), Path("/"))
    if not os.access(folder, os.W_OK | os.X_OK):
        yield DoctorRow("runs folder", "note", f"{folder} can be read and not written: no training into it")
    free = shutil.disk_usage(folder).free / 1e6
    low = free < LOW_DISK_MB
    yield DoctorRow(
        "disk",
        "problem" if low else "ok",
        f"{free:,.0f} MB free at {folder}"
        + (" : a run halts where its log cannot be written" if low else ""),
    )


def _logs(runs: Path) -> Iterator[DoctorRow]:
    from ockham.catalog.file_index import FileIndex
    from ockham.record.run_folder import RunFolder, list_runs

    known = list_runs(runs)
    yield DoctorRow(
        "runs", "ok", f"{len(known)} in {runs}" if known else f"none in {runs}; `ockham train` makes one"
    )
    listing = FileIndex()
    for run_id in known:
        folder = RunFolder(runs, run_id)
        told = list(_log_rows(folder))
        slow = len(listing.scan([folder]).segments)
        writing = any(row.writing for row in told)
        if slow and not writing:
            told.append(
                DoctorRow(
                    run_id,
                    "note",
                    f"{slow} segments without Parquet: questions read their lines; `ockham repair {run_id}` makes it",
                )
            )
        looked = f"ended with a whole line, and its newest tree head counts it; not checked: `ockham verify {run_id}`"
        yield from told or [DoctorRow(run_id, "ok", looked)]


def _log_rows(folder: RunFolder) -> Iterator[DoctorRow]:
    from ockham.record.log_status import read_log_status

    last = folder.last_attempt()
    if not last:
        yield DoctorRow(folder.run_id, "problem", "no log: its first event was never written")
    for attempt, rank in folder.logs():
        where = f"{folder.run_id} {attempt}-{rank}"
        try:
            found = read_log_status(folder, attempt, rank)
        except UnverifiableError as error:
            yield DoctorRow(where, "problem", str(error))
            continue
        if found.writing:
            yield DoctorRow(where, "note", f"being written, {found.events} events so far", writing=True)
            continue
        if found.last == "log.halted" and attempt == last:
            yield DoctorRow(
                where, "problem", f"its log stopped ({found.reason_code}): free the cause, then resume"
            )
        elif found.last == "log.halted":
            yield DoctorRow(where, "note", f"its log stopped ({found.reason_code}); a later attempt went on")
        elif found.last != "run.finished" and attempt == last:
            yield DoctorRow(where, "problem", _NO_END_MESSAGE)
        elif found.last == "run.finished" and found.reason_code != "COMPLETED" and attempt == last:
            yield DoctorRow(where, "note", f"ended with {found.reason_code}")
        if found.torn_bytes:
            yield DoctorRow(
                where,
                "note",
                f"{found.torn_bytes} bytes of an unfinished line, as a crash leaves them; a resume keeps them aside",
            )
        if found.signed_events is None or found.signed_events < found.events:
            yield DoctorRow(
                where,
                "note",
                f"{found.events - (found.signed_events or 0)} of {found.events} events are not signed",
            )
