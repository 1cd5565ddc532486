"""Studies: replay, whatif, compare, roi, ablate."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import RunsOption, resolve_run_id
from ockham.cli.output import FormatOption, OutputOption, write_rows
from ockham.cli.progress import progress_line
from ockham.cli.study import ablate, compare, roi, run_reruns
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.replay.runner import ReplayReport

RUNS = Path("runs")
_LESS = (  # of whatif: what is left out first where a terminal is narrow
    "recorded_consolidated", "consolidated", "unanswered", "batches", "update_to_update", "skip_to_skip",
    "recorded_saved_at_most", "evaluations", "recorded_accepted", "halted_iter", "skip_to_update", "update_to_skip",
    "recorded_update_rate", "accepted", "diverged_by", "exact_batches",
)  # fmt: skip
RunArgument = Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (replay, whatif, compare, roi, ablate):
        app.command()(verb)


def replay(
    run: RunArgument,
    trust: Annotated[
        bool, typer.Option("--trust-plugins", help="Import third-party plugins and replay them too; their code runs here.")
    ] = False,
    iteration: Annotated[
        int | None, typer.Option("--iter", min=0, help="Only from the key frame before this iteration to the next.", show_default=False)
    ] = None,
    attest: Annotated[bool, typer.Option("--attest", help="Write what was found, signed, into the ledger beside the runs.")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="At most so many; default: one for each core.", show_default=False)
    ] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
) -> None:  # fmt: skip
    """Derive every decision of a run again.

    From what was recorded, all bits compared. The run is only read.

    Exit status: 0 all identical, 1 something came out otherwise, 2 bad input, 3 there is nothing to replay from.

    Examples:
      ockham replay night-1

      ockham replay night-1 --iter 1200 -f json
    """
    from ockham.record.run_folder import RunFolder
    from ockham.replay.runner import replay_run

    folder = RunFolder(runs, resolve_run_id(runs, run))
    if attest and iteration is not None:
        raise BadInputError("--attest speaks of whole runs: leave --iter out")
    report = replay_run(
        folder,
        trust=trust,
        processes=processes,
        iteration=iteration,
        progress=progress_line("replayed", "stretches"),
    )
    again = "" if report.identical else _repro_command(report, runs, trust=trust)
    if form == "json":
        typer.echo(json.dumps({**report.to_dict(), "again": again}, indent=2))
    else:
        _print_report(report, again)
    if attest:
        from ockham.replay.attest import attest as write_attestation

        typer.echo(f"attested as {write_attestation(folder, report)} in {folder.runs / '_ledger'}", err=True)
    raise typer.Exit(0 if report.identical else 1)


def whatif(
    run: RunArgument,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "--preset", help="Preset by name or policy file; may be given again.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PLUGIN.SETTING=VALUE", help="Put on each policy, or on the recorded one; a range gate.target=0.1..0.9 is nine values, 0.3..0.9:5 five.", show_default=False)
    ] = None,
    batches: Annotated[bool, typer.Option("--batches", help="A row for each batch; `exact` ends where the trajectories part.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Train RUN.whatif-REVISION from the start under each policy, and tell what came true.")] = False,
    trust: Annotated[bool, typer.Option("--trust-plugins", help="Import third-party plugins.")] = False,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Ask what another policy would have decided.

    On the contexts of a run, as they were recorded.

    Its decisions are exact until it first changes the weights otherwise (`diverged_iter`, `diverged_by`). From there
    on it judges losses of a model that it would not have trained: a hint, not a proof.

    Examples:
      ockham whatif night-1 --policy tight --policy exploratory

      ockham whatif night-1 --set gate.target=0.1..0.9
    """
    from ockham.record.run_folder import RunFolder
    from ockham.replay.trajectory import load_trajectory
    from ockham.replay.variants import expand_variants
    from ockham.replay.whatif import whatif as ask

    run_id = resolve_run_id(runs, run)
    legs = load_trajectory(RunFolder(runs, run_id))
    asked = expand_variants(legs[-1].policy, policy or [], settings or [], trust=trust)
    answers = [ask(legs, one, label, trust=trust) for label, one in asked]
    if rerun:
        run_reruns(runs, run_id, answers, form, output)
    elif batches:
        columns = ["policy", *answers[0].rows[0]._fields] if answers[0].rows else ["policy"]
        write_rows(columns, ((a.label, *row) for a in answers for row in a.rows), form, output)
    else:
        summaries = [answer.summary() for answer in answers]
        write_rows(list(summaries[0]), [list(summary.values()) for summary in summaries], form, output, _LESS)
    for note in dict.fromkeys(f"{answer.label}: {note}" for answer in answers for note in answer.notes):
        typer.echo(f"note: {format_cell(note)}", err=True)


def _print_report(report: ReplayReport, again: str) -> None:
    decisions, same = report.total("decisions"), report.total("identical")
    verdict = "IDENTICAL" if report.identical else "DIFFERENT"
    typer.echo(f"{report.run_id}: {verdict if report.total('contexts') else 'nothing to replay'}")
    typer.echo(
        f"  {same:,} of {decisions:,} decisions identical to the last bit, from {report.total('contexts'):,} contexts; "
        f"state at {report.total('frames'):,} key frames; {report.seconds:.2f} s"
    )
    if report.total("not_replayed"):
        typer.echo(
            f"  {report.total('not_replayed'):,} decisions of third-party code are taken as recorded; --trust-plugins replays them"
        )
    if report.total("unfinished"):
        typer.echo(
            f"  {report.total('unfinished'):,} decisions belong to a batch that never ended: nothing to derive them from"
        )
    for log in report.logs:
        for name, code in log.code.items():
            if code["replayed_sha256"] not in (None, code["recorded_sha256"]):
                typer.echo(
                    f"  note: {format_cell(name)} has other code here than when it decided ({log.attempt}-{log.rank})"
                )
    for log, one in report.differences:
        typer.echo(
            f"  FOUND: log {log.attempt}-{log.rank}, iteration {one.iter_num}, sequence {one.sequence}: "
            f"{format_cell(one.plugin)} {format_cell(one.field)}: recorded {format_cell(one.recorded)}, replayed {format_cell(one.replayed)}"
        )
    if again:
        hidden = report.total("found") - len(report.differences)
        typer.echo(f"  {f'and {hidden} more; ' if hidden else ''}the first one again: {again}")


def _repro_command(report: ReplayReport, runs: Path, *, trust: bool) -> str:
    """A command that shows the first difference from the nearest key frame on, to be pasted as it stands."""
    words = ["ockham", "replay", report.run_id, "--iter", str(report.differences[0][1].iter_num)]
    words += [] if runs == RUNS else ["--runs", str(runs)]
    return shlex.join([*words, *(["--trust-plugins"] if trust else [])])
