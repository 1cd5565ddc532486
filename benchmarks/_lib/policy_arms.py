"""Trains one model under several policies with the loop of train.py, and reads the recorded losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

import ockham
import train
from ockham.nano import ProgressLine, Trainer
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import replay_run

_EVALUATIONS = """
select iter_num, val_loss from evaluations
where run_id = $run and trigger = 'SCHEDULE' and val_loss is not null order by iter_num
"""
_DECISIONS = """
select action, reason_code, count(*) as n from decisions
where run_id = $run and plugin = 'spike' and not shadow group by all order by all
"""
_ROLLBACKS = "select count(*) as n from rollbacks where run_id = $run"
_NOT_UPDATED = """
select count(*) filter (where not updated or not step) as n from contexts
where run_id = $run and hook = 'batch'
"""


class ArmResult(NamedTuple):
    """What one run recorded.

    Attributes:
        curve: Iteration and validation loss in nats per token.
        decisions: Number of decisions of the acting plugin, by action and reason code.
        rollbacks: Number of rollbacks.
        dropped: Steps that the plugins skipped or refused.
        identical: The replay made the recorded decisions.

    """

    curve: list[tuple[int, float]]
    decisions: dict[str, int]
    rollbacks: int
    dropped: int
    identical: bool


def write_policy(folder: Path, name: str, spike: Mapping[str, Any] | None, evaluations: int) -> Path:
    """Write a policy in which only `finite` and `spike` act. None leaves `spike` in shadow."""
    plugins: dict[str, Any] = {"finite": {"shadow": False}}
    if spike is not None:
        plugins["spike"] = {**spike, "shadow": False}
    content = {
        "name": name,
        "extends": "observe",
        "targets": {},
        "plugins": plugins,
        "hyperparameters": {"evaluations": evaluations},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    # JSON is YAML.
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return path


def train_arm(trainer: Trainer, policy: Path, runs: Path, run_id: str) -> None:
    """Train under a policy, with the loop of train.py."""
    facts, settings = trainer.facts(), trainer.recorded_settings()
    with ockham.Run(str(policy), runs=runs, run_id=run_id, facts=facts, settings=settings) as run:
        trainer.configure(
            pull=run.policy.hyperparameters["pull"],
            required_measurements=run.chain.required_measurements(),
        )
        progress = ProgressLine(0, trainer.settings.max_iters, trainer.tokens_per_step, quiet=True)
        run.finish(*train.train(run, trainer, 0, progress, lambda: False))


def read_arm(runs: Path, run_id: str) -> ArmResult:
    """Return what a run recorded."""
    catalog, parameters = ockham.Catalog(runs), {"run": run_id}
    curve = [(row["iter_num"], row["val_loss"]) for row in catalog.rows(_EVALUATIONS, parameters)]
    decisions = {
        f"{row['action']} {row['reason_code']}": row["n"] for row in catalog.rows(_DECISIONS, parameters)
    }
    rollbacks = catalog.rows(_ROLLBACKS, parameters)[0]["n"]
    dropped = catalog.rows(_NOT_UPDATED, parameters)[0]["n"]
    identical = replay_run(RunFolder(runs, run_id)).identical
    return ArmResult(curve, decisions, rollbacks, dropped, identical)
