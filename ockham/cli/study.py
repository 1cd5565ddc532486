"""`ockham compare`, `roi` and `ablate`: study whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import DEFAULT_RUNS, RunArgument, RunsOption, resolve_run_id
from ockham.cli.output import Format, FormatOption, OutputOption, print_note, write_rows
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.replay.whatif_result import WhatIfResult

# A narrow terminal omits these columns.
COMPARE_DROPPABLE_COLUMNS = ("section",)
ROI_DROPPABLE_COLUMNS = ("derivation",)


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Run ID, or a unique prefix of it.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The run to compare with RUN_A.")],
    losses: Annotated[
        bool, typer.Option("--losses", help="List all evaluations that both runs have, not only twelve.")
    ] = False,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Compare two runs.

    Shows settings, policies, totals, losses at the same iterations, and verdicts on the same batches.

    `difference` is b - a, `relative_difference` is b/a - 1. Compute is counted in forward passes: 1 for
    each batch, and the measured cost of each backward pass and optimizer step. If the steps of the runs
    differ in tokens, losses are compared at the same number of tokens.

    Examples:
      ockham compare night-1 night-2
    """
    from ockham.study.compare import ComparisonRow
    from ockham.study.compare import compare as compare_runs
    from ockham.study.run_data import load_run_data

    rows, notes = compare_runs(
        load_run_data(runs, resolve_run_id(runs, run_a)),
        load_run_data(runs, resolve_run_id(runs, run_b)),
        all_losses=losses,
    )
    write_rows(ComparisonRow._fields, rows, output_format, output, COMPARE_DROPPABLE_COLUMNS)
    for note in notes:
        print_note(f"note: {format_cell(note)}")


def roi(
    run: RunArgument,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="RUN",
            help="A run that always updated. Its best loss is the required quality.",
            show_default=False,
        ),
    ] = "",
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor",
            metavar="LOSS",
            help="Validation loss that the model must reach, in nats/token.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0.0,
            metavar="LOSS",
            help="With --against: accepted difference in loss, in nats/token.",
        ),
    ] = 0.01,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            "--price-per-hour",
            metavar="PRICE",
            help="Price of one device, in any currency.",
            show_default=False,
        ),
    ] = None,
    price_per_gb: Annotated[
        float | None,
        typer.Option(
            "--price-per-gb",
            metavar="PRICE",
            help="Price of storing one GB of checkpoints.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Calculate what a run saved.

    Lists batches, steps, FLOPs, hours, bytes and money. Each value is measured, derived or assumed. The
    saved compute is an estimate with a 95 % interval.

    A skip saves backward and optimizer, never the forward pass. A model below the required quality saves
    nothing.

    Examples:
      ockham roi night-1 --against always-1 --price-per-hour 2.5

      ockham roi night-1 --floor 2.2 -f json
    """
    from ockham.study.roi import Prices, RoiRow
    from ockham.study.roi import roi as calculate_roi
    from ockham.study.run_data import load_run_data

    run_id = resolve_run_id(runs, run)
    reference_id = resolve_run_id(runs, against) if against else ""
    if run_id == reference_id:
        raise BadInputError(f"--against {reference_id}: the same run; pass another run")
    reference = load_run_data(runs, reference_id) if reference_id else None
    prices = Prices(price_per_hour, price_per_gb)
    rows = calculate_roi(load_run_data(runs, run_id), prices, floor, reference, tolerance)
    write_rows(RoiRow._fields, rows, output_format, output, ROI_DROPPABLE_COLUMNS)


def ablate(
    policy: Annotated[
        str,
        typer.Option("--policy", metavar="NAME_OR_FILE", help="Preset, or policy file such as ./mine.yaml."),
    ] = "balanced",
    study: Annotated[
        str,
        typer.Option(
            "--study",
            metavar="NAME",
            help="Prefix of the run IDs STUDY.ARM.sSEED. The same name continues a study.",
        ),
    ] = "ablate",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="N,N,...", help="Seeds of weights and batches.")
    ] = "1,2,3",
    arms: Annotated[
        str,
        typer.Option(
            "--arms",
            metavar="ARM,ARM,...",
            help="Such as full,none,only-gate,random-skip; default: all.",
            show_default=False,
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the trainer (max_iters=600) or of the policy (gate.target=0.3); "
            "may be repeated.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="NAME", help="Model size, as for `ockham train`.")
    ] = "nano",
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Training text; default: the sources of Python's standard library.",
            show_default=False,
        ),
    ] = "",
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Measure what each plugin of a policy contributes.

    Arms: without one plugin, with only one, with none, and random skipping at the gate's rate.

    Each arm and seed is an `ockham train` process and a run, on the same batches in the same order. An
    interrupted study continues where it stopped. `_pm` is half of a 95 % interval over the seeds.

    Examples:
      ockham ablate --policy balanced --set max_iters=600 --seeds 1,2,3
    """
    from ockham.study.ablate import AblationPlan
    from ockham.study.ablate import ablate as run_study
    from ockham.study.ablation_table import AblationRow, build_table

    try:
        seed_numbers = [int(text) for text in seeds.split(",")]
    except ValueError:
        raise BadInputError(f"--seeds {seeds!r}: not whole numbers; write them as 1,2,3") from None
    policy_settings = [text for text in settings or [] if "." in text.partition("=")[0]]
    trainer_settings = [text for text in settings or [] if text not in policy_settings]
    arm_names = [text.strip() for text in arms.split(",") if text.strip()]
    plan = AblationPlan(
        study, policy, policy_settings, trainer_settings, seed_numbers, arm_names, size, data, runs
    )
    write_rows(AblationRow._fields, build_table(run_study(plan, _print_progress)), output_format, output)


def run_reruns(
    runs: Path, run_id: str, results: list[WhatIfResult], output_format: Format | None, output: Path | None
) -> None:
    """Train a run under each policy of `whatif`, and compare it with the what-if result."""
    from ockham.study.rerun import RerunComparison, rerun
    from ockham.study.run_data import load_run_data

    recorded = load_run_data(runs, run_id)
    rows = []
    for result in results:
        name = f"{run_id}.whatif-{result.policy.revision[7:15]}"
        print_note(f"training {name}: {format_cell(result.label)}")
        rows.append(rerun(runs, recorded, result, name))
    write_rows(RerunComparison._fields, rows, output_format, output)


def _print_progress(done: int, total: int, run_id: str) -> None:
    if run_id:
        print_note(f"{done + 1}/{total} {run_id}")
