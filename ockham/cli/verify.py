"""`ockham verify`, `pin`, `repair` and `keygen`: the signed log. `prove` is in a separate module."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    KeyFileOption,
    KeyOption,
    RunArgument,
    RunsOption,
    check_local_folder,
    read_pin,
    read_trusted_keys,
    resolve_run_id,
)
from ockham.cli.output import (
    EventCounter,
    OutputOption,
    TextFormatOption,
    is_verbose,
    pluralize,
    print_note,
    style_result,
    write_bytes,
    write_file,
    write_rows,
    write_text,
)
from ockham.errors import RunError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder
    from ockham.record.verify.report import VerificationReport

# Findings of one class that are shown, each with another cause.
MAX_FINDINGS_SHOWN = 10
LINE_WIDTH = 78
# Notes of every run that was verified without --key and --pin.
COMMON_NOTE_CLASSES = ("key not pinned", "not pinned")
FINDING_COLUMNS = ("class", "place", "message")
PinOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--pin",
        metavar="FILE",
        help="Tree heads that were stored elsewhere with `ockham pin`, - for stdin; may be repeated.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Maximum number of processes; default: one for each core.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from ockham.cli.prove import prove

    for command in (verify, prove, pin, repair, keygen):
        app.command()(command)


def verify(
    run: RunArgument,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    pin: PinOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the Parquet files, which are derived from the log.")
    ] = False,
    jobs: JobsOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Check every byte of a run without changing it.

    Checks events, Merkle tree, signatures, knob changes, checkpoints and Parquet files. -v shows the
    notes and the root of each log. -f json writes the report, other formats write one row for each
    finding. Exit status: 0 valid, 1 findings, 2 bad input, 3 nothing to check.

    Examples:
      ockham verify night-1

      ockham verify night-1 --key-file ockham.key.pub --pin night-1.pin -f json

      ockham verify _ledger
    """
    from ockham.record.verify.run import verify_run

    folder = _find_folder(runs, run)
    keys = read_trusted_keys(key, key_file)
    with EventCounter() as progress:
        report = verify_run(
            folder,
            keys=keys,
            pins=[read_pin(path) for path in pin or []],
            parquet=not quick,
            jobs=jobs,
            progress=progress,
        )
    if output_format == "json":
        write_text(json.dumps(report.to_dict(), indent=2), output)
    elif output_format is not None:
        rows = [(finding.kind, finding.place, finding.message) for finding in report.findings]
        write_rows(FINDING_COLUMNS, rows, output_format, output)
    else:
        write_text("\n".join(_format_report(report)), output)
    raise typer.Exit(0 if report.sound else 1)


def pin(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file, preferably on another machine or medium.",
            show_default=False,
        ),
    ] = None,
    git_tag: Annotated[
        str,
        typer.Option(
            "--git-tag",
            metavar="NAME",
            help="Write to an annotated tag of the git repository in this folder.",
        ),
    ] = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Copy the signed tree heads of a run.

    Store the copy elsewhere. `ockham verify --pin` then detects if the covered events were rewritten.

    Examples:
      ockham pin night-1 -o /mnt/other/night-1.pin

      ockham pin night-1 --git-tag pins/night-1
    """
    from ockham.record.tlog.pin import make_pin, write_git_tag
    from ockham.record.verify.run import own_keys

    folder = _find_folder(runs, run)
    note = make_pin(folder, own_keys(folder))
    if output is None and not git_tag:
        write_bytes(note)
    if output is not None:
        write_file(output, note)
        print_note(f"pinned to {output}")
    if git_tag:
        write_git_tag(git_tag, note)
        print_note(f"pinned to tag {git_tag}; push it to another machine")


def repair(
    run: RunArgument,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Only create missing Parquet files, and join small ones."),
    ] = False,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Rebuild the derived files: Parquet files and tiles.

    The log itself is never changed. The events are verified first; nothing is rebuilt from events that
    differ from the signed ones. A run compacts its Parquet files itself; --compact is for a run that was
    killed.

    Examples:
      ockham repair night-1

      ockham repair night-1 --compact
    """
    from ockham.record.repair import compact as compact_files
    from ockham.record.repair import rebuild
    from ockham.record.run_folder import RunFolder

    folder = RunFolder(runs, resolve_run_id(runs, run))
    if compact:
        before, after = compact_files(folder)
        print_note(f"{folder.run_id}: {before} Parquet files before, {after} now")
        return
    rebuilt = rebuild(folder)
    files, tiles = pluralize(rebuilt.parquet, "Parquet files"), pluralize(rebuilt.tiles, "tiles")
    print_note(
        f"{folder.run_id}: rebuilt {files} and {tiles}; `ockham verify {folder.run_id}` checks the run"
    )


def keygen() -> None:
    """Create the signing key and print the verifier key.

    An existing key is not replaced. Auditors need the verifier key. The private key is stored in
    $OCKHAM_KEY_DIR, else in the user's configuration folder, and only the user can read it. A key that
    other users can read or replace is refused.

    Examples:
      ockham keygen > ockham.key.pub
    """
    from ockham.record.tlog.note import KEY_FILE, key_dir, load_or_create_signer
    from ockham.record.tlog.private_file import describe_link

    typer.echo(str(load_or_create_signer().verifier))
    print_note(f"private key: {describe_link(key_dir() / KEY_FILE)}")


def _find_folder(runs: Path, run: str) -> RunFolder:
    """Return a run, or the ledger for its full name.

    Raises:
        RunError: If it does not exist.

    """
    from ockham.record.run_folder import LEDGER, RunFolder

    check_local_folder(runs)
    if run != LEDGER:
        return RunFolder(runs, resolve_run_id(runs, run))
    ledger = RunFolder(runs, LEDGER)
    if not ledger.logs():
        raise RunError(
            f"{LEDGER}: no ledger in {runs}; `ockham odr register` or `replay --attest` creates it"
        )
    return ledger


def _format_report(report: VerificationReport) -> Iterator[str]:
    """Yield the lines of a report. The notes that most runs have are shown only with --verbose."""
    from ockham.record.verify.report import CLASS_DESCRIPTIONS

    word = style_result("valid" if report.sound else "NOT VALID", good=report.sound)
    events = sum(log.events for log in report.logs)
    signed = sum(log.signed for log in report.logs)
    pinned = sum(log.pinned or 0 for log in report.logs)
    logs = f" in {len(report.logs)} logs" if len(report.logs) > 1 else ""
    details = [f"{pluralize(events, 'events')}{logs}", f"signed to {signed:,}"]
    if pinned:
        details.append(f"pinned to {pinned:,}")
    yield f"{report.run_id}: {word} ({', '.join(details)})"
    checked = ", ".join(pluralize(count, noun) for noun, count in report.checked.items())
    yield from textwrap.wrap(f"  checked: {checked}", LINE_WIDTH, subsequent_indent="    ")
    if len(report.logs) > 1 or is_verbose():
        for log in report.logs:
            extent = f"{pluralize(log.events, 'events')}, signed to {log.signed:,}"
            if log.pinned:
                extent += f", pinned to {log.pinned:,}"
            yield f"  log {log.attempt}-{log.rank}: {extent}"
            if is_verbose():
                yield f"    root {log.root}"
    hidden_notes = []
    for kind in (kind for kind in CLASS_DESCRIPTIONS if kind in report.counts):
        if kind in COMMON_NOTE_CLASSES and not is_verbose():
            hidden_notes.append(kind)
        else:
            yield from _format_class(report, kind)
    if hidden_notes:
        yield f"  notes: {', '.join(hidden_notes)} (-v explains)"


def _format_class(report: VerificationReport, kind: str) -> Iterator[str]:
    """Yield the lines of all findings of one class."""
    from ockham.record.verify.report import CLASS_DESCRIPTIONS, MAX_FINDINGS_PER_CLASS, NOTE_CLASSES

    count = report.counts[kind]
    label = "note" if kind in NOTE_CLASSES else "FOUND"
    yield f"  {label}: {kind} ({count}): {CLASS_DESCRIPTIONS[kind]}"
    shown = 0
    for finding, more in report.group_by_cause(kind)[:MAX_FINDINGS_SHOWN]:
        suffix = f" (and {more} more like it; -f json lists them)" if more else ""
        yield f"    {format_cell(finding.place)}: {format_cell(finding.message)}{suffix}"
        shown += 1 + more
    if count > shown:
        yield f"    and {count - shown} more; -f json lists the first {MAX_FINDINGS_PER_CLASS} of a class"
