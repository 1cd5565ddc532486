"""Rerun of a what-if result: the same settings, seed and data from the start, under the other policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError
from ockham.event import parse_number
from ockham.record.run_folder import RunFolder
from ockham.replay.whatif_result import WhatIfResult
from ockham.study.run_data import RunData, load_run_data
from ockham.study.training_process import is_finished, policy_document, resume, train

# Settings of the record that `ockham train` takes by options of their own.
CLI_ONLY_SETTINGS = (
    "data",
    "size",
)


class RerunComparison(NamedTuple):
    """Rerun compared with the prediction. Shares of batches, losses in nats/token.

    `exact_identical`: share of the batches predicted as exact with the same loss bits and verdict.
    `rest_same_verdict`: share of the others with the predicted verdict.
    """

    policy: str
    rerun: str
    exact_batches: int
    exact_identical: float | None
    rest_same_verdict: float | None
    predicted_update_rate: float | None
    update_rate: float | None
    recorded_val_loss: float | None
    val_loss: float | None


def rerun(runs: Path, seen: RunData, answer: WhatIfResult, run_id: str) -> RerunComparison:
    """Train `run_id` under the other policy, or load it if it is trained, and compare.

    Raises:
        BadInputError: If the run was not trained by `ockham train`, or the rerun has another policy.
        UnverifiableError: If the process fails.

    """
    if "n_layer" not in seen.settings or "from_run" in seen.settings:
        raise BadInputError(
            f"run {seen.run_id!r} was not trained by `ockham train`: nothing knows how to train it again"
        )
    folder = RunFolder(runs, run_id)
    if not folder.exists():
        # Empty text is the default and cannot be typed.
        settings = [
            f"{name}={value}"
            for name, value in seen.settings.items()
            if name not in CLI_ONLY_SETTINGS and value != ""
        ]
        train(
            folder,
            policy_document(answer.policy),
            settings,
            size=seen.settings["size"],
            data=seen.settings.get("data") or "",
        )
    elif not is_finished(folder):
        resume(folder)
    again = load_run_data(runs, run_id)
    if not _includes(again.policy.content, answer.policy.content):
        raise BadInputError(f"run {run_id!r} is there and was trained under another policy")
    return _confirmed(seen, answer, again)


def _confirmed(seen: RunData, answer: WhatIfResult, again: RunData) -> RerunComparison:
    losses = {
        (s.iter_num, s.data["micro_step"]): parse_number(s.data["given"]["task_loss"]) for s in again.batches
    }
    exact: list[bool] = []
    rest: list[bool] = []
    for row in answer.rows:
        key = row.iter_num, row.micro_step
        verdict = again.verdicts.get(key) == (row.whatif == "UPDATE")
        if row.exact:
            exact.append(verdict and repr(losses.get(key)) == repr(row.task_loss))
        else:
            rest.append(verdict)
    return RerunComparison(
        answer.label,
        again.run_id,
        len(exact),
        _share(exact),
        _share(rest),
        answer.update_rate(),
        again.update_rate,
        next(reversed(seen.losses.values()), None),
        next(reversed(again.losses.values()), None),
    )


def _includes(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Return True if a policy has every plugin and setting of another. Newer code can have more settings."""
    plugins = {entry["name"]: entry["settings"] for entry in whole["plugins"]}
    wanted = {entry["name"]: entry["settings"] for entry in part["plugins"]}
    return list(plugins) == list(wanted) and all(
        plugins[name].get(key) == value
        for name, settings in wanted.items()
        for key, value in settings.items()
    )


def _share(found: list[bool]) -> float | None:
    return sum(found) / len(found) if found else None
