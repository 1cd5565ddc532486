"""Runs of many situations: ranks, accumulation, NaN, shadow, foreign plugins, adapters, resume and kill."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ockham.cli.adapt_loop import update_served_losses
from ockham.context import OccamContext
from ockham.plugin import OccamPlugin
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.helpers.plugins import EachThird
from tests.helpers.ranks import run_on_threads

POLICIES = ("balanced", "tight", "exploratory", "observe", "plugins", "adapt")
FACTS = {"vocab_size": 64, "model_params": 1000, "memory_footprint_mb": 2.0, "inference_flops": 1e5}


class Nudge(OccamPlugin):
    """Raises lambda by a tenth at each evaluation, and decides twice in each batch."""

    name = "nudge"

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Lower the learning rate on odd batches, and explain it."""
        if ctx.iter_num % 2:
            ctx.learning_rate *= 0.9
            ctx.decide("LOWER", "ODD", ctx.task_loss, 2.0, fields=("learning_rate",))
        return ctx.decide("LOOK", "SEEN", ctx.task_loss, 3.0, numbers={"half": ctx.task_loss / 2})


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Everything that decides what a run contains."""

    seed: int = 0
    policy: str = "balanced"
    batches: int = 40
    micro_steps: int = 1
    world_size: int = 1
    nonfinite: tuple[int, ...] = ()
    # First attempt: its checkpoint and its last iteration. None writes a single attempt.
    resumed: tuple[int, int] | None = None
    killed: bool = False
    # Write the Parquet files of the run again at its end, as `ockham repair` does.
    repaired: bool = False
    has_times: bool = True
    evaluation_interval: int = 5


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Return a strategy of scenarios."""
    batches = draw(st.integers(1, 60))
    resumed = None
    if batches > 12 and draw(st.booleans()):
        checkpoint = draw(st.integers(2, batches - 6))
        resumed = checkpoint, draw(st.integers(checkpoint, batches - 2))
    return Scenario(
        seed=draw(st.integers(0, 999)),
        policy=draw(st.sampled_from(POLICIES)),
        batches=batches,
        micro_steps=draw(st.sampled_from([1, 4])),
        world_size=draw(st.sampled_from([1, 1, 2])),
        nonfinite=tuple(draw(st.lists(st.integers(0, batches - 1), max_size=3, unique=True))),
        resumed=resumed,
        killed=draw(st.booleans()),
        repaired=draw(st.booleans()),
        has_times=draw(st.booleans()),
        evaluation_interval=draw(st.sampled_from([3, 7])),
    )


def write_run(runs: Path, run_id: str, scenario: Scenario) -> None:
    """Write a run with all its attempts and ranks."""
    if scenario.resumed is not None:
        _write_attempt(runs, run_id, scenario, last=scenario.resumed[1], resume=False)
    _write_attempt(runs, run_id, scenario, last=scenario.batches - 1, resume=scenario.resumed is not None)
    if scenario.repaired:
        rebuild(RunFolder(runs, run_id))


def _write_attempt(runs: Path, run_id: str, scenario: Scenario, *, last: int, resume: bool) -> None:
    """Write one attempt. One that is killed ends in a process of its own, which signs only a part."""
    is_newest = resume or scenario.resumed is None
    if scenario.killed and is_newest and scenario.world_size == 1:
        target, arguments = _kill_while_writing, (runs, run_id, scenario, last, resume)
        process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == 9
        return

    def work(rank: int, gather: Any) -> None:
        with _open_run(runs, run_id, scenario, rank, gather, resume=resume) as run:
            _train(run, scenario, last)

    if scenario.world_size == 1:
        work(0, None)
        return
    for error in run_on_threads(work, scenario.world_size):
        if error is not None:
            raise error


def _kill_while_writing(runs: Path, run_id: str, scenario: Scenario, last: int, resume: bool) -> None:
    """Write lines that no tree head covers, as a kill between write and signature leaves them."""
    run = _open_run(runs, run_id, scenario, 0, None, resume=resume).start()
    middle = (run.first_iter + last) // 2
    _train(run, scenario, middle)
    run.flush()
    heads = [path for path in (runs / run_id / "log").glob("*-0/checkpoint*") if path.is_file()]
    newest = {path: path.read_bytes() for path in heads if path.parent.name == f"{run.attempt.number}-0"}
    _train(run, scenario, last, first=middle + 1)
    run.flush()
    for path, head in newest.items():
        path.write_bytes(head)
    os._exit(9)


def _open_run(runs: Path, run_id: str, scenario: Scenario, rank: int, gather: Any, *, resume: bool) -> Run:
    options: dict[str, Any] = {"policy": scenario.policy}
    if scenario.policy == "plugins":
        options = {"plugins": [Nudge(), EachThird(limit=1.0)]}
    if scenario.policy == "adapt":
        options["overrides"] = ["gate.familiar_mean=2.2", "gate.familiar_sd=0.3"]
    start = None
    if resume:
        start = find_resume_point(runs, run_id, rank=rank, world_size=scenario.world_size)
    return Run(
        **options,
        runs=runs,
        run_id=run_id,
        resumed=start,
        rank=rank,
        world_size=scenario.world_size,
        all_gather=gather,
        facts={**FACTS, "max_iters": scenario.batches, "warmup_iters": 4, "seed": scenario.seed},
        settings={
            "batch_size": 2,
            "block_size": 8,
            "gradient_accumulation_steps": scenario.micro_steps,
        },
        data={"name": "generated", "sha256": f"{scenario.seed:064d}", "train_tokens": 999},
    )


def _train(run: Run, scenario: Scenario, last: int, first: int | None = None) -> None:
    if first is None:
        first = run.first_iter
        point = run.resume_point
        if point is not None:
            run.load_state_dict(point.state["run"])
    for iter_num in range(first, last + 1):
        allowed = False
        for micro_step in range(scenario.micro_steps):
            draw = random.Random(f"{scenario.seed} {iter_num} {micro_step}")
            ctx = run.start_batch(
                iter_num,
                _loss(scenario, iter_num, draw),
                micro_step,
                micro_steps=scenario.micro_steps,
                learning_rate=2e-3 / (1 + iter_num / 50),
                anchor_available=iter_num > 6,
            )
            if scenario.policy == "adapt":
                update_served_losses(ctx.custom, ctx.task_loss, new=draw.random() < 0.4)
            allowed |= ctx.updated and math.isfinite(ctx.task_loss)
            _end_batch(run, ctx, draw, scenario, stepped=allowed and ctx.ends_step)
        if iter_num % scenario.evaluation_interval == 2 or ctx.consolidating:
            _evaluate(run, ctx, draw, scenario)
        if scenario.resumed is not None and iter_num == scenario.resumed[0]:
            run.save_checkpoint(ctx, "resume", _pack_state)


def _loss(scenario: Scenario, iter_num: int, draw: random.Random) -> float:
    if iter_num in scenario.nonfinite:
        return draw.choice([math.nan, math.inf])
    return 1.8 + 2 * math.exp(-iter_num / 15) + draw.gauss(0, 0.4)


def _end_batch(
    run: Run, ctx: OccamContext, draw: random.Random, scenario: Scenario, *, stepped: bool
) -> None:
    seconds = {"chain": 0.002, "data": 0.001, "forward": draw.uniform(0.9, 1.3)}
    gauges = {}
    if ctx.updated:
        seconds["backward"] = draw.uniform(1.5, 2.5)
    if stepped:
        seconds["optimizer"] = draw.uniform(0.2, 0.6)
        gauges = {
            "grad_norm": draw.uniform(0.3, 2.0),
            "complexity_cost": draw.uniform(0, 0.5),
            "drift_raw": draw.uniform(0, 0.6),
        }
    run.end_batch(ctx, stepped=stepped, seconds=seconds if scenario.has_times else {}, **gauges)


def _evaluate(run: Run, ctx: OccamContext, draw: random.Random, scenario: Scenario) -> None:
    loss = 1.7 + 2 * math.exp(-ctx.iter_num / 15) + draw.gauss(0, 0.02)
    if ctx.iter_num in scenario.nonfinite:
        loss = math.nan
    if scenario.policy == "adapt":
        ctx.custom.update(new_loss=loss * 1.1, familiar_loss=loss * 0.9)
        _record_adapter(run, ctx, draw)
    kl = draw.uniform(0, 2.5)
    run.evaluate(ctx, loss, tokens=100, standard_error=0.01, seconds=0.5, kl_to_anchor=kl)
    if ctx.accepted:
        run.save_checkpoint(ctx, "accepted", _pack_state)
    if ctx.consolidating:
        run.record_consolidation(ctx, drift=draw.uniform(0, 0.1))


def _record_adapter(run: Run, ctx: OccamContext, draw: random.Random) -> None:
    """Record what `ockham adapt` records at an evaluation. One revert in ten leaves other weights."""
    at = {"iter_num": ctx.iter_num, "weights_sha256": "ab" * 32}
    times = {"seconds": draw.uniform(0.001, 0.02), "identical": draw.random() > 0.1}
    run.emit("adapter.reverted", {**at, **times}, iter_num=ctx.iter_num)
    sizes = {"rank_of_adapter": 2, "added_params": 40, "model_params": 1000}
    run.emit("adapter.enabled", {**at, "layers": ["h.0", "h.1"], **sizes}, iter_num=ctx.iter_num)
    if draw.random() < 0.3:
        run.record_rollback(ctx, anchor_iter_num=0, drift=draw.uniform(0, 1), seconds=0.01)


def _pack_state(_metadata: Any, state: Any) -> CheckpointFiles:
    files = {"model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}
    if state is not None:
        files["state.json"] = json.dumps(state).encode()
    return CheckpointFiles(files, "0" * 64)


@contextlib.contextmanager
def written_runs(cases: Sequence[Scenario]) -> Iterator[Path]:
    """Write the runs `r0`, `r1`, ... to a folder. Runs that accept nothing warn; that is tested elsewhere."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = Path(folder)
        for number, scenario in enumerate(cases):
            write_run(runs, f"r{number}", scenario)
        yield runs
