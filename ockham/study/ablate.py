"""Ablation: each arm and seed is an `ockham train` process and a run. Completed runs are not repeated."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import RunError, UnverifiableError
from ockham.policy import load_policy
from ockham.record.run_folder import RunFolder, check_run_id
from ockham.replay.trajectory import backward_over_forward
from ockham.study.arms import Arm, build_arms, resolve_control_arm
from ockham.study.run_data import RunData, load_run_data
from ockham.study.training_process import is_finished, resume, train


class AblationPlan(NamedTuple):
    """Subject of an ablation, and how each arm is trained.

    Attributes:
        name: Run IDs are `<name>.<arm>.s<seed>`.
        policy: Preset or policy file, with `overrides`.
        trainer: `name=value` settings of the trainer.
        arms: Names of arms. Empty means all.

    """

    name: str
    policy: str
    overrides: Sequence[str]
    trainer: Sequence[str]
    seeds: Sequence[int]
    arms: Sequence[str]
    size: str
    data: str
    runs: Path


def ablate(
    plan: AblationPlan, progress: Callable[[int, int, str], None] = lambda _done, _all, _name: None
) -> dict[str, list[RunData]]:
    """Train the missing runs. Return the runs of each arm in order of the seeds.

    Raises:
        BadInputError: If policy, arm or name cannot be used.
        UnverifiableError: If the process of an arm fails.

    """
    arms = build_arms(load_policy(plan.policy, plan.overrides), plan.arms)
    check_run_id(_run_id(plan, max(arms, key=lambda a: len(a.name)), max(plan.seeds)))
    found: dict[str, list[RunData]] = {arm.name: [] for arm in arms}
    whole = len(arms) * len(plan.seeds)
    # Seeds outside: an interrupted study has whole seeds.
    for at, seed in enumerate(plan.seeds):
        for done, arm in enumerate(arms):
            progress(at * len(arms) + done, whole, _run_id(plan, arm, seed))
            found[arm.name].append(_train_or_load(plan, arm, seed, found))
    progress(whole, whole, "")
    return found


def _train_or_load(plan: AblationPlan, arm: Arm, seed: int, found: dict[str, list[RunData]]) -> RunData:
    """Return the run of one arm and seed: loaded if complete, resumed if interrupted, otherwise trained."""
    run_id = _run_id(plan, arm, seed)
    folder = RunFolder(plan.runs, run_id)
    if arm.after:
        before = found[arm.after][-1]
        b, rate = backward_over_forward(before.legs), before.update_rate
        if b is None or rate is None:
            raise UnverifiableError(
                f"run {before.run_id!r} has no stage times: {arm.name} cannot be laid out"
            )
        arm = resolve_control_arm(arm, rate, b, int(before.settings["max_iters"]))
    if not folder.exists():
        settings = [
            *plan.trainer,
            f"seed={seed}",
            *(f"{name}={value}" for name, value in arm.trainer.items()),
        ]
        train(folder, arm.document, settings, size=plan.size, data=plan.data)
    elif not is_finished(folder):
        resume(folder)
    seen = load_run_data(plan.runs, run_id)
    _check_same(plan, seen, seed, arm)
    return seen


def _check_same(plan: AblationPlan, seen: RunData, seed: int, arm: Arm) -> None:
    """Check that an existing run of that name was trained with the settings of this arm."""
    wanted: dict[str, Any] = dict(setting.split("=", 1) for setting in plan.trainer) | {
        "seed": seed,
        **arm.trainer,
    }
    for name, value in wanted.items():
        had = seen.settings.get(name)
        if str(had) != str(value) and not _equal(had, value):
            raise RunError(
                f"run {seen.run_id!r} was trained with {name}={had}, not {value}: take another --study name"
            )


def _equal(one: Any, other: Any) -> bool:
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


def _run_id(plan: AblationPlan, arm: Arm, seed: int) -> str:
    return f"{plan.name}.{arm.name}.s{seed}"


def parse_run_id(run_id: str, name: str) -> tuple[str, int] | None:
    """Return arm and seed of a run of the ablation *name*. None for any other run."""
    match = re.fullmatch(re.escape(name) + r"\.(?P<arm>[^.]+)\.s(?P<seed>[0-9]+)", run_id)
    return (match["arm"], int(match["seed"])) if match is not None else None
