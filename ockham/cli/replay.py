"""`ockham replay` and `whatif`: run the plugins again on recorded contexts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import DEFAULT_RUNS, RunArgument, RunsOption, read_run_keys, resolve_run_id
from ockham.cli.output import (
    FormatOption,
    OutputOption,
    TextFormatOption,
    pluralize,
    print_note,
    progress_line,
    style_result,
    write_rows,
    write_text,
)
from ockham.cli.study import ablate, compare, roi, run_reruns
from ockham.cli.verify import JobsOption
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder
    from ockham.replay.engine import Difference
    from ockham.replay.runner import LogReplay, ReplayReport

# A narrow terminal omits these columns of `whatif`, from the first.
DROPPABLE_COLUMNS = (
    "recorded_consolidated",
    "consolidated",
    "unanswered",
    "batches",
    "update_to_update",
    "skip_to_skip",
    "recorded_compute_saved",
    "evaluations",
    "recorded_accepted",
    "halted_iter",
    "skip_to_update",
    "update_to_skip",
    "recorded_update_rate",
    "accepted",
    "diverged_by",
    "exact_batches",
)
DIFFERENCE_COLUMNS = ("attempt", "rank", "iter_num", "sequence", "plugin", "field", "recorded", "replayed")
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-plugins",
        help="Import third-party plugins and run them too; their code runs on this machine.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (replay, whatif, compare, roi, ablate):
        app.command()(command)


def replay(
    run: RunArgument,
    trust: TrustOption = False,
    iteration: Annotated[
        int | None,
        typer.Option(
            "--iter",
            min=0,
            metavar="ITERATION",
            help="Only between the key frames around this iteration.",
            show_default=False,
        ),
    ] = None,
    attest: Annotated[
        bool,
        typer.Option("--attest", help="Write the signed result to the ledger in the folder of all runs."),
    ] = False,
    jobs: JobsOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Recompute every decision of a run from its log.

    All bits are compared. The run is only read. -f json writes the report, other formats write one row
    for each difference.

    Exit status: 0 all identical, 1 a difference, 2 bad input, 3 nothing to replay from.

    Examples:
      ockham replay night-1

      ockham replay night-1 --iter 1200 -f json
    """
    from ockham.record.run_folder import RunFolder
    from ockham.replay.runner import replay_run

    folder = RunFolder(runs, resolve_run_id(runs, run))
    if attest and iteration is not None:
        raise BadInputError("--attest: covers whole runs; leave out --iter")
    if iteration is not None:
        _check_iteration(folder, iteration)
    read_run_keys(folder)
    report = replay_run(
        folder,
        trust=trust,
        processes=jobs,
        iteration=iteration,
        progress=progress_line("replayed", "chunks"),
    )
    command = _repro_command(report, runs, trust=trust) if report.differences else ""
    if output_format == "json":
        write_text(json.dumps({**report.to_dict(), "again": command}, indent=2), output)
    elif output_format is not None:
        rows = [_difference_row(log, each) for log, each in report.differences]
        write_rows(DIFFERENCE_COLUMNS, rows, output_format, output)
    else:
        write_text("\n".join(_format_report(report, command)), output)
    if attest:
        from ockham.replay.attest import attest as write_attestation

        print_note(f"attested as {write_attestation(folder, report)} in {folder.runs / '_ledger'}")
    raise typer.Exit(0 if report.identical else 1)


def _check_iteration(folder: RunFolder, iteration: int) -> None:
    """Raise BadInputError with the accepted range if a run has contexts, but none at or after *iteration*."""
    from ockham.catalog import Catalog

    rows = Catalog(folder.runs, run_ids=[folder.run_id]).rows("select max(iter_num) as last from contexts")
    last = rows[0]["last"]
    if last is not None and iteration > last:
        raise BadInputError(f"run {folder.run_id!r} has no iteration {iteration}; it has 0 to {last}")


def _difference_row(log: LogReplay, each: Difference) -> tuple[Any, ...]:
    """Return the cells of a decision that differs."""
    place = (log.attempt, log.rank, each.iter_num, each.sequence)
    return (*place, each.plugin, each.field, each.recorded, each.replayed)


def whatif(
    run: RunArgument,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME_OR_FILE",
            help="Preset, or policy file such as ./mine.yaml; may be repeated.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PLUGIN.SETTING=VALUE",
            help="Change each policy, or the recorded one. The range gate.target=0.1..0.9 gives nine values, "
            "0.3..0.9:5 gives five.",
            show_default=False,
        ),
    ] = None,
    batches: Annotated[
        bool,
        typer.Option(
            "--batches", help="One row for each batch. `exact` is true until the trajectories differ."
        ),
    ] = False,
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun",
            help="Train RUN.whatif-REVISION under each policy, and compare with the what-if result.",
        ),
    ] = False,
    trust: TrustOption = False,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show what another policy would have decided.

    Uses the recorded contexts of a run.

    The result is exact until the policy first changes the weights differently (`diverged_iter`,
    `diverged_by`). After that it uses losses of a model that the policy would not have trained: a hint,
    not a proof.

    Examples:
      ockham whatif night-1 --policy tight --policy exploratory

      ockham whatif night-1 --set gate.target=0.1..0.9
    """
    from ockham.record.run_folder import RunFolder
    from ockham.replay.trajectory import load_trajectory
    from ockham.replay.variants import expand_variants
    from ockham.replay.whatif import whatif as evaluate_policy

    run_id = resolve_run_id(runs, run)
    attempts = load_trajectory(RunFolder(runs, run_id))
    variants = expand_variants(attempts[-1].policy, policy or [], settings or [], trust=trust)
    results = [evaluate_policy(attempts, variant, label, trust=trust) for label, variant in variants]
    if rerun:
        run_reruns(runs, run_id, results, output_format, output)
    elif batches:
        columns = ["policy", *results[0].rows[0]._fields] if results[0].rows else ["policy"]
        rows = ((result.label, *row) for result in results for row in result.rows)
        write_rows(columns, rows, output_format, output)
    else:
        summaries = [result.summary() for result in results]
        cells = [list(summary.values()) for summary in summaries]
        write_rows(list(summaries[0]), cells, output_format, output, DROPPABLE_COLUMNS)
    for note in dict.fromkeys(f"{result.label}: {note}" for result in results for note in result.notes):
        print_note(f"note: {format_cell(note)}")


def _format_report(report: ReplayReport, command: str) -> Iterator[str]:
    """Yield the lines of a report: the result, the totals, the differences."""
    if report.total("contexts"):
        word = style_result("IDENTICAL" if report.identical else "DIFFERENT", good=report.identical)
    else:
        word = "nothing to replay"
    yield f"{report.run_id}: {word}"
    decisions, identical = report.total("decisions"), report.total("identical")
    yield (
        f"  {identical:,} of {pluralize(decisions, 'decisions')} identical to the last bit, "
        f"from {pluralize(report.total('contexts'), 'contexts')}"
    )
    yield f"  state compared at {pluralize(report.total('frames'), 'key frames')}; {report.seconds:.2f} s"
    if count := report.total("not_replayed"):
        yield (
            f"  {pluralize(count, 'decisions')} of third-party plugins taken from the log; "
            "--trust-plugins replays them"
        )
    if count := report.total("unfinished"):
        yield f"  {pluralize(count, 'decisions')} of an unfinished batch not replayed: no context recorded"
    yield from _format_logs(report)
    for log, difference in report.differences:
        plugin, field = format_cell(difference.plugin), format_cell(difference.field)
        yield (
            f"  FOUND: log {log.attempt}-{log.rank}, iteration {difference.iter_num}, "
            f"sequence {difference.sequence}: {plugin} {field}: "
            f"recorded {format_cell(difference.recorded)}, replayed {format_cell(difference.replayed)}"
        )
    if command:
        hidden = report.total("found") - len(report.differences)
        prefix = f"and {hidden} more; " if hidden else ""
        yield f"  {prefix}to reproduce the first one: {command}"


def _format_logs(report: ReplayReport) -> Iterator[str]:
    """Yield the notes about single logs."""
    for log in report.logs:
        place = f"log {log.attempt}-{log.rank}"
        if log.unsigned:
            yield f"  note: {place}: {pluralize(log.unsigned, 'unsigned events')} not replayed"
        if log.problem:
            yield f"  FOUND: {place}: the lines are not the signed ones; run `ockham verify`"
        for name, code in log.code.items():
            if code["replayed_sha256"] not in (None, code["recorded_sha256"]):
                yield (
                    f"  note: log {log.attempt}-{log.rank}: the code of {format_cell(name)} "
                    "differs from the recorded code"
                )


def _repro_command(report: ReplayReport, runs: Path, *, trust: bool) -> str:
    """Return a command that shows the first difference, from the nearest key frame."""
    words = ["ockham", "replay", report.run_id, "--iter", str(report.differences[0][1].iter_num)]
    if runs != DEFAULT_RUNS:
        words += ["--runs", str(runs)]
    if trust:
        words.append("--trust-plugins")
    return shlex.join(words)
