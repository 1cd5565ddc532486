"""Studies: replay, whatif, compare, roi, ablate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.live import resolve
from ockham.cli.options import RunsOption
from ockham.cli.output import FormatOption, shown

if TYPE_CHECKING:
    from ockham.replay.report import Report

RUNS = Path("runs")
RunArgument = Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (replay,):
        app.command()(verb)


def replay(
    run: RunArgument,
    trust: Annotated[
        bool, typer.Option("--trust", "--trust-plugins", help="Import third-party plugins and replay them too; their code runs here.")
    ] = False,
    iteration: Annotated[
        int | None, typer.Option("--iter", min=0, help="Only from the key frame before this iteration to the next.", show_default=False)
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="At most so many; default: one for each core.", show_default=False)
    ] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
) -> None:  # fmt: skip
    """Derive every decision of a run again from what was recorded, and compare all bits. It only reads.

    Exit status: 0 all identical, 1 something came out otherwise, 2 bad input, 3 there is nothing to replay from.

    Examples:
      ockham replay night-1

      ockham replay night-1 --iter 1200 -f json
    """
    from ockham.record.folder import RunFolder
    from ockham.replay.report import replay_run

    folder = RunFolder(runs, resolve(runs, run))
    report = replay_run(folder, trust=trust, processes=processes, iteration=iteration, progress=_progress)
    if form == "json":
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _tell(report)
    raise typer.Exit(0 if report.identical else 1)


def _tell(report: Report) -> None:
    decisions, same = report.total("decisions"), report.total("identical")
    verdict = "IDENTICAL" if report.identical else "DIFFERENT"
    typer.echo(f"{report.run_id}: {verdict if report.total('contexts') else 'nothing to replay'}")
    typer.echo(
        f"  {same:,} of {decisions:,} decisions identical to the last bit, from {report.total('contexts'):,} contexts; "
        f"state at {report.total('frames'):,} key frames; {report.seconds:.2f} s"
    )
    if report.total("taken"):
        typer.echo(
            f"  {report.total('taken'):,} decisions of third-party code are taken as recorded; --trust replays them"
        )
    if report.total("unended"):
        typer.echo(
            f"  {report.total('unended'):,} decisions belong to a batch that never ended: nothing to derive them from"
        )
    for log in report.logs:
        for name, code in log.code.items():
            if code["replayed_sha256"] not in (None, code["recorded_sha256"]):
                typer.echo(
                    f"  note: {shown(name)} has other code here than when it decided ({log.attempt}-{log.rank})"
                )
    for log, one in report.differences:
        typer.echo(
            f"  FOUND: log {log.attempt}-{log.rank}, iteration {one.iter_num}, sequence {one.sequence}: "
            f"{shown(one.plugin)} {shown(one.field)}: recorded {shown(one.recorded)}, replayed {shown(one.replayed)}"
        )
    if not report.identical:
        hidden = report.total("found") - len(report.differences)
        typer.echo(
            f"  {f'and {hidden} more; ' if hidden else ''}again: ockham replay {report.run_id} --iter {report.differences[0][1].iter_num}"
        )


def _progress(done: int, whole: int) -> None:
    if sys.stderr.isatty() and whole > 1:
        sys.stderr.write("\r\x1b[K" if done == whole else f"\rreplayed {done} of {whole} stretches")
        sys.stderr.flush()
