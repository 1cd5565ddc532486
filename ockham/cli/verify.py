"""The proofs: verify, pin, repair, keygen; prove stands in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import KeyOption, RunsOption, read_bytes, resolve_run_id
from ockham.cli.output import FormatOption, write_bytes, write_file
from ockham.cli.progress import EventCounter
from ockham.errors import RunError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder
    from ockham.record.verify.report import VerificationReport

RUNS = Path("runs")
MAX_SHOWN = 10  # findings of one class, each of another cause
RunArgument = Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")]
PinOption = Annotated[
    list[Path] | None, typer.Option("--pin", help="Signed tree head that was kept elsewhere, see `ockham pin`.", show_default=False)
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    from ockham.cli.prove import prove

    for verb in (verify, prove, pin, repair, keygen):
        app.command()(verb)


def verify(
    run: RunArgument,
    key: KeyOption = None,
    pin: PinOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave the Parquet files out; the log is the record.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Processes; by default one a core, for a long log.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
) -> None:
    """Check every byte of a run; it only reads.

    Lines, tree, signatures, knob changes, checkpoints, Parquet. Exit status: 0 sound, 1 something was found, 2 bad input, 3 there is nothing to judge.

    Examples:
      ockham verify night-1

      ockham verify night-1 --key ockham.key.pub --pin night-1.pin -f json

      ockham verify _ledger
    """
    from ockham.record.verify.run import load_verifier_keys, verify_run

    folder = _folder(runs, run)
    keys = load_verifier_keys(key or [])
    with EventCounter() as progress:
        report = verify_run(
            folder,
            keys=keys,
            pins=[read_bytes(path) for path in pin or []],
            parquet=not quick,
            jobs=jobs,
            progress=progress,
        )
    if form == "json":
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print_report(report)
    raise typer.Exit(0 if report.sound else 1)


def pin(
    run: RunArgument,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A file, best on another machine or medium.", show_default=False),
    ] = None,
    git_tag: Annotated[
        str, typer.Option("--git-tag", help="An annotated tag in the git repository here.")
    ] = "",
    runs: RunsOption = RUNS,
) -> None:
    """Keep the signed tree heads of a run elsewhere.

    What they cover cannot be written anew unseen.

    Examples:
      ockham pin night-1 --to /mnt/other/night-1.pin

      ockham pin night-1 --git-tag pins/night-1
    """
    from ockham.record.tlog.pin import make_pin, write_git_tag

    folder = _folder(runs, run)
    note = make_pin(folder)
    if to is None and not git_tag:
        write_bytes(note)
    if to is not None:
        write_file(to, note)
        typer.echo(f"pinned to {to}", err=True)
    if git_tag:
        write_git_tag(git_tag, note)
        typer.echo(f"pinned to tag {git_tag}; push it, so that it lies elsewhere", err=True)


def repair(
    run: RunArgument,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Only make what is missing, and one Parquet file of many small ones."),
    ] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Rebuild what is derived: Parquet files and tiles.

    The log itself is never touched. The lines are verified first: nothing is rebuilt from lines that are not what was signed.
    Parquet of a run is compacted while it goes on and at its end; --compact is for a run that was killed.

    Examples:
      ockham repair night-1

      ockham repair night-1 --compact
    """
    from ockham.record.repair import compact as compact_files
    from ockham.record.repair import rebuild
    from ockham.record.run_folder import RunFolder

    folder = RunFolder(runs, resolve_run_id(runs, run))
    if compact:
        typer.echo("{} Parquet files before, {} now".format(*compact_files(folder)), err=True)
        return
    done = rebuild(folder)
    typer.echo(
        f"rebuilt {done.parquet} Parquet files and {done.tiles} tiles; `ockham verify {run}` judges the rest",
        err=True,
    )


def keygen() -> None:
    """Make the signing key and print the verifier key.

    A key that is there is kept; auditors need the verifier key. The private key lies in $OCKHAM_KEY_DIR, else in the configuration folder of the user, readable by the user alone.

    Examples:
      ockham keygen > ockham.key.pub
    """
    from ockham.record.tlog.note import KEY_FILE, key_dir, load_or_create_signer

    typer.echo(str(load_or_create_signer().verifier))
    typer.echo(f"private key: {key_dir() / KEY_FILE}", err=True)


def _folder(runs: Path, run: str) -> RunFolder:
    """A run, or the ledger by its whole name.

    Raises:
        RunError: if there is none.

    """
    from ockham.record.run_folder import LEDGER, RunFolder

    if run != LEDGER:
        return RunFolder(runs, resolve_run_id(runs, run))
    ledger = RunFolder(runs, LEDGER)
    if not ledger.logs():
        raise RunError(f"no ledger in {runs}: nothing was registered, checked or attested there yet")
    return ledger


def _print_report(report: VerificationReport) -> None:
    from ockham.record.verify.report import CLASS_DESCRIPTIONS, MAX_FINDINGS_PER_CLASS, NOTE_CLASSES

    typer.echo(f"{report.run_id}: {'sound' if report.sound else 'NOT SOUND'}")
    typer.echo("  checked: " + ", ".join(_pluralize(number, what) for what, number in report.checked.items()))
    for log in report.logs:
        pinned = f", pinned to {log.pinned:,}" if log.pinned else ""
        typer.echo(
            f"  log {log.attempt}-{log.rank}: {log.events:,} events, signed to {log.signed:,}{pinned}; root {log.root}"
        )
    for kind in (kind for kind in CLASS_DESCRIPTIONS if kind in report.counts):
        count, found = report.counts[kind], report.group_by_cause(kind)
        typer.echo(
            f"  {'note' if kind in NOTE_CLASSES else 'FOUND'}: {kind} ({count}): {CLASS_DESCRIPTIONS[kind]}"
        )
        told = 0
        for finding, more in found[:MAX_SHOWN]:
            explains = f" (and {more} more like it; -f json lists them)" if more else ""
            typer.echo(f"    {format_cell(finding.place)}: {format_cell(finding.message)}{explains}")
            told += 1 + more
        if count > told:
            typer.echo(
                f"    and {count - told} more; -f json lists the first {MAX_FINDINGS_PER_CLASS} of a kind"
            )


def _pluralize(number: int, what: str) -> str:
    """`2 policies`, `1 policy`."""
    one = what.removesuffix("ies") + "y" if what.endswith("ies") else what.removesuffix("s")
    return f"{number:,} {one if number == 1 else what}"
