"""The proofs: verify, pin, repair, keygen; prove stands in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.counter import EventCounter
from ockham.cli.options import KeyOption, RunsOption, read_bytes, resolve
from ockham.cli.output import FormatOption, save, shown, write_bytes
from ockham.errors import RunError

if TYPE_CHECKING:
    from ockham.record.folder import RunFolder
    from ockham.record.report import Report

RUNS = Path("runs")
SHOWN = 10  # findings of one class, each of another cause
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
    from ockham.record.verify import known_keys, verify_run

    folder = _folder(runs, run)
    keys = known_keys(key or [])
    with EventCounter() as progress:
        report = verify_run(
            folder,
            keys=keys,
            pins=[read_bytes(path) for path in pin or []],
            derived=not quick,
            jobs=jobs,
            progress=progress,
        )
    if form == "json":
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _tell(report)
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
    from ockham.record.pin import newest_heads, tag

    folder = _folder(runs, run)
    note = newest_heads(folder)
    if to is None and not git_tag:
        write_bytes(note)
    if to is not None:
        save(to, note)
        typer.echo(f"pinned to {to}", err=True)
    if git_tag:
        tag(git_tag, note)
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
    from ockham.record.folder import RunFolder
    from ockham.record.repair import compact as compact_files
    from ockham.record.repair import rebuild

    folder = RunFolder(runs, resolve(runs, run))
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
    from ockham.record.note import KEY_FILE, key_folder, signer

    typer.echo(str(signer().verifier))
    typer.echo(f"private key: {key_folder() / KEY_FILE}", err=True)


def _folder(runs: Path, run: str) -> RunFolder:
    """A run, or the ledger by its whole name.

    Raises:
        RunError: if there is none.

    """
    from ockham.record.folder import LEDGER, RunFolder

    if run != LEDGER:
        return RunFolder(runs, resolve(runs, run))
    ledger = RunFolder(runs, LEDGER)
    if not ledger.logs():
        raise RunError(f"no ledger in {runs}: nothing was registered, checked or attested there yet")
    return ledger


def _tell(report: Report) -> None:
    from ockham.record.report import MEANINGS, MOST_FINDINGS, NOTES

    typer.echo(f"{report.run_id}: {'sound' if report.sound else 'NOT SOUND'}")
    typer.echo("  checked: " + ", ".join(_counted(number, what) for what, number in report.checked.items()))
    for log in report.logs:
        pinned = f", pinned to {log.pinned:,}" if log.pinned else ""
        typer.echo(
            f"  log {log.attempt}-{log.rank}: {log.events:,} events, signed to {log.signed:,}{pinned}; root {log.root}"
        )
    for kind in (kind for kind in MEANINGS if kind in report.counts):
        count, found = report.counts[kind], report.by_cause(kind)
        typer.echo(f"  {'note' if kind in NOTES else 'FOUND'}: {kind} ({count}): {MEANINGS[kind]}")
        told = 0
        for finding, more in found[:SHOWN]:
            explains = f" (and {more} more like it; -f json lists them)" if more else ""
            typer.echo(f"    {shown(finding.place)}: {shown(finding.message)}{explains}")
            told += 1 + more
        if count > told:
            typer.echo(f"    and {count - told} more; -f json lists the first {MOST_FINDINGS} of a kind")


def _counted(number: int, what: str) -> str:
    """`2 policies`, `1 policy`."""
    one = what.removesuffix("ies") + "y" if what.endswith("ies") else what.removesuffix("s")
    return f"{number:,} {one if number == 1 else what}"
