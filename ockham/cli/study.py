"""Comparing whole runs: compare, roi, ablate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import RunsOption, resolve_run_id
from ockham.cli.output import Format, FormatOption, OutputOption, write_rows
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.replay.whatif_result import WhatIfResult

RUNS = Path("runs")
RunArgument = Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")]


def compare(
    a: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    losses: Annotated[bool, typer.Option("--losses", help="Every evaluation that both have, not twelve of them.")] = False,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Put two runs side by side.

    Settings, policies, figures, losses at the same iterations, verdicts on the same batches.

    `difference` is b - a; of Occam Quotients it is b/a - 1. Compute is counted in forwards: 1 for each batch, and
    for each update b more, the measured cost of backward and optimizer.

    Examples:
      ockham compare night-1 night-2
    """
    from ockham.study.compare import ComparisonRow
    from ockham.study.compare import compare as side_by_side
    from ockham.study.run_data import load_run_data

    rows, notes = side_by_side(
        load_run_data(runs, resolve_run_id(runs, a)),
        load_run_data(runs, resolve_run_id(runs, b)),
        all_losses=losses,
    )
    write_rows(ComparisonRow._fields, rows, form, output)
    for note in notes:
        typer.echo(f"note: {format_cell(note)}", err=True)


def roi(
    run: RunArgument,
    against: Annotated[str, typer.Option("--against", metavar="RUN", help="A run that always updated: its best loss is the floor of quality.")] = "",
    floor: Annotated[float | None, typer.Option("--floor", help="Validation loss that the model must reach, nats/token.", show_default=False)] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0.0, help="With --against: so much worse will do, nats/token.")] = 0.01,
    price_per_hour: Annotated[float | None, typer.Option("--price-per-hour", help="Of one device, any currency.", show_default=False)] = None,
    price_per_gb: Annotated[float | None, typer.Option("--price-per-gb", help="Of keeping one GB of checkpoints.", show_default=False)] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Count what a run saved.

    Updates, FLOPs, hours, bytes, money; each figure measured, derived or assumed.

    A skip saves backward and optimizer, never the forward, and a model that is not good enough has saved nothing.

    Examples:
      ockham roi night-1 --against always-1 --price-per-hour 2.5

      ockham roi night-1 --floor 2.2 -f json
    """
    from ockham.study.roi import Prices, RoiRow
    from ockham.study.roi import roi as count
    from ockham.study.run_data import load_run_data

    run_id, other = resolve_run_id(runs, run), resolve_run_id(runs, against) if against else ""
    if run_id == other:
        raise BadInputError(f"--against {other}: that is the run itself")
    rival = load_run_data(runs, other) if other else None
    rows = count(load_run_data(runs, run_id), Prices(price_per_hour, price_per_gb), floor, rival, tolerance)
    write_rows(RoiRow._fields, rows, form, output)


def ablate(
    policy: Annotated[str, typer.Option("--policy", "--preset", help="Preset by name, or policy file.")] = "balanced",
    study: Annotated[str, typer.Option("--study", help="Run IDs are STUDY.ARM.sSEED; the same name again goes on.")] = "ablate",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of weights and batches, by commas.")] = "1,2,3",
    arms: Annotated[str, typer.Option("--arms", help="By commas, such as full,none,only-gate,random-skip; default: all.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="For the trainer (max_iters=600) or the policy (gate.target=0.3).", show_default=False)] = None,
    size: Annotated[str, typer.Option(help="Model by name, as `ockham train` takes it.")] = "nano",
    data: Annotated[str, typer.Option(help="Text to train on; default: the standard library's sources.")] = "",
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Take a policy apart, plugin by plugin.

    Each plugin out, only one in, none, and random skipping at the gate's own rate.

    Each arm and seed is an `ockham train` process and a run in the log, on the same batches in the same order. An
    interrupted study goes on where it stopped. `_pm` is half a 95 % interval over the seeds.

    Examples:
      ockham ablate --preset balanced --set max_iters=600 --seeds 1,2,3
    """
    from ockham.study.ablate import AblationPlan
    from ockham.study.ablate import ablate as train_all
    from ockham.study.ablation_table import AblationRow, build_table

    try:
        numbers = [int(text) for text in seeds.split(",")]
    except ValueError:
        raise BadInputError(f"--seeds takes whole numbers by commas, got {seeds!r}") from None
    dotted = [text for text in settings or [] if "." in text.partition("=")[0]]
    trainer = [text for text in settings or [] if text not in dotted]
    chosen = [text.strip() for text in arms.split(",") if text.strip()]
    found = train_all(
        AblationPlan(study, policy, dotted, trainer, numbers, chosen, size, data, runs), _print_progress
    )
    write_rows(AblationRow._fields, build_table(found), form, output)


def run_reruns(
    runs: Path, run_id: str, answers: list[WhatIfResult], form: Format | None, output: Path | None
) -> None:
    """Train what `whatif` foretold, and tell what came true; each rerun is a run of its own."""
    from ockham.study.rerun import RerunComparison, rerun
    from ockham.study.run_data import load_run_data

    seen = load_run_data(runs, run_id)
    rows = []
    for answer in answers:
        name = f"{run_id}.whatif-{answer.policy.revision[7:15]}"
        sys.stderr.write(f"training {name}: {format_cell(answer.label)}\n")
        rows.append(rerun(runs, seen, answer, name))
    write_rows(RerunComparison._fields, rows, form, output)


def _print_progress(done: int, whole: int, run_id: str) -> None:
    if run_id:
        sys.stderr.write(f"{done + 1}/{whole} {run_id}\n")
