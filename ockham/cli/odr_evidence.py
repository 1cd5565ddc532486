"""`ockham odr register`, `evidence` and `pack`: connect records with logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.odr_options import RecordArgument, RecordsArgument, repeatable
from ockham.cli.options import DEFAULT_ODR_DIR, DEFAULT_RUNS, OdrDirOption, RunsOption
from ockham.cli.output import print_note
from ockham.errors import BadInputError

if TYPE_CHECKING:
    from ockham.odr.record_data import EvidenceSide

CandidateOption = Annotated[
    list[str] | None,
    repeatable("--candidate", "RUN", "Run with the change, or several with commas"),
]
BaselineOption = Annotated[
    list[str] | None,
    repeatable("--baseline", "RUN", "Run to compare with: one for all candidates, or one for each"),
]
AblationOption = Annotated[
    str,
    typer.Option(
        "--ablation",
        metavar="NAME",
        help="Use the runs of this ablation, paired by seed. --baseline and --candidate then name arms; "
        "default: none and full.",
        show_default=False,
    ),
]


def pin_named_sides(
    runs: Path, baseline: list[str] | None, candidate: list[str] | None, ablation: str
) -> tuple[EvidenceSide, ...]:
    """Return the pinned sides that the options name: runs, or two arms of an ablation.

    Raises:
        BadInputError: If the runs form no pairs, or an option names more than one arm.
        RunError: If a run does not exist.

    """
    from ockham.odr.ablation_evidence import BASELINE_ARM, CANDIDATE_ARM, select_arms
    from ockham.odr.pinning import pin_sides

    baselines, candidates = split_names(baseline), split_names(candidate)
    if not ablation:
        return pin_sides(runs, baselines, candidates)
    if len(baselines) > 1 or len(candidates) > 1:
        raise BadInputError("--ablation compares two arms; name one with --baseline and one with --candidate")
    arms = (*(baselines or [BASELINE_ARM]), *(candidates or [CANDIDATE_ARM]))
    return pin_sides(runs, *select_arms(runs, ablation, *arms))


def split_names(values: list[str] | None) -> list[str]:
    """Return the run IDs of a repeated option. Each value is one ID, or several with commas."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (register, evidence, pack):
        app.command()(command)


def register(
    record: RecordArgument,
    candidate: CandidateOption = None,
    matching: Annotated[
        str,
        typer.Option(
            "--matching",
            metavar="PATTERN",
            help="The candidates are the first runs with such a name, such as 'target-*'.",
            show_default=False,
        ),
    ] = "",
    count: Annotated[
        int, typer.Option("--count", metavar="N", help="Number of runs that match.", show_default=False)
    ] = 0,
    baseline: BaselineOption = None,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Register constraints and candidates in the ledger.

    Register before the first candidate starts; `ockham odr check` then proves the order, and refuses other
    runs. Next, train the candidates and name them with `ockham odr evidence`.

    Examples:
      ockham odr register 12 --candidate target-1 --baseline base-1

      ockham odr register 12 --matching "target-*" --count 3
    """
    from ockham.odr.candidate_rule import make_rule
    from ockham.odr.lifecycle import write_records
    from ockham.odr.lint import lint_folder
    from ockham.odr.records_folder import find_record
    from ockham.odr.registration import register as register_constraints

    found = find_record(lint_folder(odr_dir), record)
    rule = make_rule(found.claims, split_names(candidate), matching, count, split_names(baseline))
    write_records({found.file: register_constraints(found, runs, rule)})
    print_note(f"{found.display_path}: registered {rule.sentence()}")


def evidence(
    record: RecordArgument,
    candidate: CandidateOption = None,
    baseline: BaselineOption = None,
    ablation: AblationOption = "",
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Set the evidence of a draft or proposal to pinned runs.

    Writes the present size and root of each log and its accepting decision. Replaces earlier evidence.

    Examples:
      ockham odr evidence 12 --baseline night-1 --candidate night-2

      ockham odr evidence 12 --baseline a-1,a-2,a-3 --candidate b-1,b-2,b-3

      ockham odr evidence 12 --ablation study-1 --candidate only-gate
    """
    from ockham.odr.lifecycle import write_records
    from ockham.odr.pinning import require_pinned_logs, set_evidence
    from ockham.odr.records_folder import find_record, read_folder

    found = find_record(read_folder(odr_dir), record)
    if not candidate and not ablation:
        raise BadInputError("--candidate is missing: name the run with the change")
    recorded = ",".join(side.run for side in found.claims.baselines)
    if recorded and not baseline and not ablation:
        raise BadInputError(
            f"{found.claims.id}: has the baseline {recorded}; pass --baseline {recorded} or another run"
        )
    sides = pin_named_sides(runs, baseline, candidate, ablation)
    require_pinned_logs(found, sides, runs)
    write_records({found.file: set_evidence(found, sides)})
    print_note(f"{found.display_path}: evidence written")


def pack(
    records: RecordsArgument = None,
    odr_dir: OdrDirOption = DEFAULT_ODR_DIR,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Copy the pinned logs into the folder of the records.

    Writes compressed logs into evidence/, so that the records can be checked on other machines.

    Examples:
      ockham odr pack 12

      ockham odr pack
    """
    from ockham.odr.pinning import pack_record
    from ockham.odr.records_folder import find_record, read_folder

    all_records = read_folder(odr_dir)
    selected = [find_record(all_records, name) for name in records] if records else all_records
    for file in dict.fromkeys(file for record in selected for file in pack_record(record, runs)):
        typer.echo(file)
