"""Runs of an ablation as evidence: the runs of two arms, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ockham.errors import BadInputError, suggest_name
from ockham.record.run_folder import list_runs
from ockham.study.ablate import parse_run_id

BASELINE_ARM, CANDIDATE_ARM = "none", "full"


def select_arms(
    runs: Path, ablation: str, baseline: str = BASELINE_ARM, candidate: str = CANDIDATE_ARM
) -> tuple[list[str], list[str]]:
    """Return the run IDs of two arms of an ablation, in the order of the seeds.

    Args:
        runs: Folder of runs.
        ablation: Name of the ablation.
        baseline: Arm to compare with.
        candidate: Arm with the change.

    Raises:
        BadInputError: If an arm has no run, or a seed has a run of one arm only.

    """
    arms = _find_arms(runs, ablation)
    for arm in (baseline, candidate):
        if arm not in arms:
            raise BadInputError(
                f"ablation {ablation}: no run of arm {arm!r} in {runs}{suggest_name(arm, arms)}"
            )
    alone = sorted(arms[baseline].keys() ^ arms[candidate].keys())
    if alone:
        arm = candidate if alone[0] in arms[baseline] else baseline
        raise BadInputError(
            f"ablation {ablation}: seed {alone[0]} has no run of arm {arm}; "
            "run `ockham ablate` again, which trains the missing runs"
        )
    seeds = sorted(arms[baseline])
    return [arms[baseline][seed] for seed in seeds], [arms[candidate][seed] for seed in seeds]


def _find_arms(runs: Path, ablation: str) -> Mapping[str, Mapping[int, str]]:
    """Return the run IDs of an ablation by arm and seed."""
    found: dict[str, dict[int, str]] = {}
    for run in list_runs(runs):
        parts = parse_run_id(run, ablation)
        if parts is not None:
            found.setdefault(parts[0], {})[parts[1]] = run
    return found
