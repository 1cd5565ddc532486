"""Runs with everything that can make a figure wrong, and their lines as plain dictionaries.

Gradient accumulation, two ranks, a resume, a change of policy, NaN and infinite losses, plugins in shadow,
steps that the optimizer did not take, several evaluations of one iteration, and moves of the anchor.
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ockham.applied_step import AppliedStep
from ockham.plugin import OccamPlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.run import Run
from tests.helpers.events import events
from tests.helpers.log_edits import sign_log

TOKENS = 64


class Puller(OccamPlugin):
    """Raises the learning rate of every third step, which the compressor lowers at times."""

    name = "puller"

    def __init__(self, factor: float = 1.5) -> None:
        self.factor = factor

    def on_batch_start(self, ctx):
        if ctx.iter_num % 3 == 0 and ctx.updated:
            ctx.learning_rate *= self.factor
            ctx.decide("SCALE", "PULLED", observed=self.factor, fields=("learning_rate",))


class Halver(OccamPlugin):
    """Halves the learning rate of every second step."""

    name = "halver"

    def on_batch_start(self, ctx):
        if ctx.iter_num % 2 == 0 and ctx.updated:
            ctx.learning_rate *= 0.5
            ctx.decide("SCALE", "HALVED", fields=("learning_rate",))


@dataclass
class Plan:
    """What one run does.

    Attributes:
        bad_losses: Losses that are not finite, by micro-batch.
        rate: Learning rate before the chain.
        fall: Steps in which the loss falls by a factor of e.
        slow: Steps whose forward pass takes a second.

    """

    steps: int = 60
    micro_steps: int = 1
    seed: int = 7
    bad_losses: tuple[tuple[int, float], ...] = ()
    rate: float = 1e-3
    fall: float = 20.0
    evaluate: int = 10
    slow: tuple[int, ...] = (5, 17)


def pack(metadata, state):
    return CheckpointFiles({"state.json": orjson.dumps(state)}, "ab" * 32)


def train(run: Run, plan: Plan, first: int = 0, last: int | None = None, keep: int | None = None) -> None:
    """Train from step *first* to the step before *last*; save a resume checkpoint after the step *keep*."""
    bad = dict(plan.bad_losses)
    for i in range(first, plan.steps if last is None else last):
        draw = random.Random(plan.seed * 10_000 + i)
        contributed, decided_rate = False, 0.0
        for micro in range(plan.micro_steps):
            number = i * plan.micro_steps + micro
            loss = bad.get(number, 2 + 3 * math.exp(-i / plan.fall) + draw.gauss(0, 0.3))
            scheduled = plan.rate * min(1.0, (i + 1) / 10)
            ctx = run.start_batch(
                i,
                loss,
                micro,
                micro_steps=plan.micro_steps,
                learning_rate=scheduled,
                anchor_available=i > 12,
                tokens_seen=number * TOKENS,
            )
            contributed = contributed or (ctx.updated and math.isfinite(loss))
            # The step has the learning rate of its last accepted micro-batch.
            decided_rate = ctx.learning_rate if ctx.updated else decided_rate
            takes_step = contributed and micro == plan.micro_steps - 1
            gauges = {}
            if takes_step:
                norm = draw.uniform(0.3, 3.0) if i % 11 else math.inf
                run.gradients(ctx, grad_norm=norm)
                takes_step, decided_rate = ctx.step, ctx.learning_rate
                gauges = {
                    "complexity_cost": 0.002 * (i % 30),
                    "drift_raw": 0.003 * (i % 30),
                }
            # Two parameter groups; the second one trains with a tenth of the rate.
            rates = (decided_rate, decided_rate / 10) if takes_step else ()
            run.end_batch(
                ctx,
                applied=AppliedStep(stepped=takes_step, learning_rates=rates),
                seconds={"forward": 1.0 if i in plan.slow else draw.uniform(0.01, 0.02), "other": 0.001},
                **gauges,
            )
        if i % plan.evaluate == plan.evaluate - 1 or ctx.consolidating:
            _evaluate(run, ctx, plan, i)
        if i == keep:
            run.save_checkpoint(ctx, "resume", pack)


def _evaluate(run: Run, ctx: Any, plan: Plan, i: int) -> None:
    loss = 2.1 + 3 * math.exp(-i / plan.fall) + 0.05 * (plan.seed % 3)
    # A second evaluation of the same iteration belongs to the same batch.
    for trigger in ("SCHEDULE", "USER") if i % 20 == 19 else ("SCHEDULE",):
        run.evaluate(ctx, loss, tokens=100, seconds=0.5, trigger=trigger)
        if ctx.accepted:
            run.save_checkpoint(ctx, "accepted", pack)
    if ctx.consolidating:
        run.record_consolidation(ctx, drift=0.05, snapshot_id=None)


def make_varied_run(runs: Path, run_id: str, plan: Plan, **settings: Any) -> RunFolder:
    """Write a run that ends normally."""
    with _open(runs, run_id, plan, **settings) as run:
        train(run, plan)
    return run.folder


def make_resumed_run(runs: Path, run_id: str, plan: Plan, policies: tuple[str, str]) -> RunFolder:
    """Write a run that is resumed at two thirds, from a checkpoint at one third, with another policy."""
    keep = plan.steps // 3
    with _open(runs, run_id, plan, policy=policies[0]) as run:
        train(run, plan, last=2 * keep, keep=keep)
    start = find_resume_point(runs, run_id)
    with _open(runs, run_id, plan, policy=policies[1], resumed=start) as run:
        run.load_state_dict(start.state["run"])
        train(run, plan, first=start.iter_num)
    return run.folder


def _open(runs: Path, run_id: str, plan: Plan, **settings: Any) -> Run:
    facts = {"max_iters": plan.steps, "vocab_size": 256, "model_params": 1000, "warmup_iters": 8}
    settings.setdefault("policy", "balanced")
    return Run(
        runs=runs,
        run_id=run_id,
        facts={**facts, "seed": plan.seed},
        data={"name": "made", "sha256": "0" * 64},
        **settings,
    )


def add_second_rank(folder: RunFolder) -> None:
    """Copy the log of rank 0 of the first attempt to a rank 1, with other event IDs and losses of its own."""
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind, ignore_errors=True)
    folder.log_dir(1, 1).mkdir()
    for segment in folder.segments(1, 0):
        for rank in (1, 0):
            lines = [_for_rank(orjson.loads(line), rank) for line in segment.read_bytes().splitlines()]
            path = folder.log_dir(1, rank) / segment.name
            path.write_bytes(b"".join(line + b"\n" for line in lines))
    for rank in (0, 1):
        sign_log(folder, 1, rank)


def _for_rank(event: dict[str, Any], rank: int) -> bytes:
    event["data"]["rank"] = rank
    if rank:
        event["id"] = event["id"][:-1] + format(15 - int(event["id"][-1], 16), "x")
    given = event["data"].get("given", {})
    if isinstance(given.get("task_loss"), float) and event["data"].get("hook") == "batch":
        apart = 0.01 * (1 + event["data"]["iter_num"] % 7)
        given["rank_loss"] = given["task_loss"] + (apart if rank else -apart)
    return orjson.dumps(event)


def make_all_runs(runs: Path) -> Path:
    """Write runs of every kind into a folder."""
    bad = ((20, math.nan), (21, math.inf), (33, math.nan))
    make_varied_run(runs, "plain", Plan(bad_losses=bad))
    make_varied_run(runs, "accumulated", Plan(micro_steps=4, bad_losses=((40, math.nan), (41, math.nan))))
    make_varied_run(runs, "observed", Plan(), policy="observe")
    make_varied_run(runs, "pulled", Plan(), policy=None, plugins=[Puller(), Halver()])
    for run_id, micro_steps in (("stormy", 1), ("stormy-four", 4)):
        limiter = LimiterPlugin(grad_norm_ceiling=0.5, learning_rate_ceiling=4e-4)
        make_varied_run(
            runs, run_id, Plan(steps=130, micro_steps=micro_steps), policy=None, plugins=[Halver(), limiter]
        )
    add_second_rank(make_varied_run(runs, "ranks", Plan(steps=40)))
    make_resumed_run(runs, "resumed", Plan(steps=90), ("balanced", "tight"))
    for seed in (1, 2, 3, 4):
        # The fourth run has another batch size, so it is not a repetition of the others.
        settings = {"batch_size": 8 if seed < 4 else 16, "seed": seed, "device": "cpu"}
        make_varied_run(runs, f"seed-{seed}", Plan(steps=30, seed=seed, fall=15.0), settings=settings)
    return runs


@dataclass
class PlainLog:
    """Events of one run in the order of the log, read with `json` only."""

    run_id: str
    events: list[dict[str, Any]]

    def all(self, kind: str) -> Iterator[dict[str, Any]]:
        """Return the data of all events of a kind, of all attempts and ranks."""
        return (event["data"] for event in self.events if event["type"] == f"ockham.{kind}.v1")

    def counted(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the events of rank 0 that no later attempt superseded."""
        return [data for data in self.all(kind) if data["rank"] == 0 and not self.is_superseded(data)]

    def is_superseded(self, data: dict[str, Any]) -> bool:
        """Return True if a later attempt started at this iteration or before it."""
        number = data.get("iter_num")
        resumes = [(r["attempt"], r["iter_num"]) for r in self.all("run.resumed")]
        return number is not None and any(a > data["attempt"] and i <= number for a, i in resumes)

    def batches(self) -> list[dict[str, Any]]:
        """Return the contexts of all counted batches."""
        return [data for data in self.counted("context.recorded") if data["hook"] == "batch"]

    def decisions(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[dict[str, Any]]:
        """Return the counted decisions of plugins that act."""
        return [data for data in self.counted("decision.made") if not data["shadow"] and wanted(data)]


def read_plain_log(folder: RunFolder) -> PlainLog:
    """Return all lines of a run."""
    logs = [events(folder, attempt, rank) for attempt, rank in sorted(folder.logs())]
    return PlainLog(folder.run_id, list(itertools.chain(*logs)))


def number(value: Any) -> float:
    """Return a number of a line, in which NaN and infinity are texts."""
    return float(value)


def is_updated(batch: dict[str, Any]) -> bool:
    """Return True if the chain allowed a batch to update the weights."""
    return bool(batch["left"].get("updated", batch["given"].get("updated", True)))
