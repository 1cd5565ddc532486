"""Runs whose figures are recomputed from their lines, and the lines as plain dictionaries."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.run import Run
from tests.helpers.log_edits import sign_log
from tests.helpers.runs import pack
from tests.oracle.log_lines import counted, read_run

RUN_IDS = ("plain", "accumulated", "ranks", "resumed", "shadow", "nan")
_FACTS = {"vocab_size": 256, "model_params": 1000, "warmup_iters": 4, "seed": 7, "memory_footprint_mb": 2.0}


def make_figure_runs(runs: Path) -> Path:
    """Write the runs of `RUN_IDS`. Each has its own situation."""
    _run(runs, "plain")
    _run(runs, "accumulated", micro_steps=4)
    _run(runs, "ranks")
    add_second_rank(RunFolder(runs, "ranks"))
    _run(runs, "resumed", stop_at=41, checkpoint_at=29)
    _run(runs, "resumed", resume=True)
    _run(runs, "shadow", policy="observe")
    _run(runs, "nan", nan_at=(20, 21, 33))
    return runs


def add_second_rank(folder: RunFolder) -> None:
    """Add a log of rank 1 with the lines of rank 0."""
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind, ignore_errors=True)
    folder.log_dir(1, 1).mkdir()
    for segment in folder.segments(1, 0):
        second = segment.read_bytes().replace(b'"rank":0', b'"rank":1')
        (folder.log_dir(1, 1) / segment.name).write_bytes(second)
    sign_log(folder, 1, 1)


def _run(
    runs: Path,
    run_id: str,
    *,
    policy: str = "balanced",
    batches: int = 60,
    micro_steps: int = 1,
    nan_at: tuple[int, ...] = (),
    stop_at: int | None = None,
    checkpoint_at: int | None = None,
    resume: bool = False,
) -> None:
    """Write a run with noisy losses and stage times."""
    start = find_resume_point(runs, run_id) if resume else None
    options: dict[str, Any] = {"facts": {"max_iters": batches, **_FACTS}, "resumed": start}
    if not resume:
        options["policy"] = policy
    settings = {"batch_size": 2, "block_size": 8, "gradient_accumulation_steps": micro_steps}
    with Run(runs=runs, run_id=run_id, settings=settings, **options) as run:
        first = 0
        if start is not None:
            run.load_state_dict(start.state["run"])
            first = start.iter_num
        for i in range(first, batches if stop_at is None else stop_at):
            accepted = False
            for micro in range(micro_steps):
                draw = random.Random(f"{run_id} {i} {micro}")
                loss = math.nan if i in nan_at else 2 + 3 * math.exp(-i / 40) + draw.gauss(0, 0.3)
                ctx = run.start_batch(
                    i, loss, micro, micro_steps=micro_steps, learning_rate=1e-3, anchor_available=i > 8
                )
                accepted |= ctx.updated
                _end_batch(run, ctx, draw, stepped=accepted and ctx.ends_step)
            if i % 5 == 4 or ctx.consolidating:
                _evaluate(run, ctx, 2 + 3 * math.exp(-i / 40))
            if i == checkpoint_at:
                run.save_checkpoint(ctx, "resume", lambda _, state: pack_state(state))


def _end_batch(run: Run, ctx: Any, draw: random.Random, *, stepped: bool) -> None:
    seconds = {"chain": 0.002, "data": 0.001, "forward": draw.uniform(0.9, 1.1)}
    gauges = {}
    if ctx.updated:
        seconds["backward"] = draw.uniform(1.8, 2.2)
    if stepped:
        seconds["optimizer"] = draw.uniform(0.4, 0.6)
        gauges = {"grad_norm": draw.uniform(0.3, 2.0), "complexity_cost": 0.002, "drift_raw": 0.002}
    run.end_batch(ctx, stepped=stepped, seconds=seconds, **gauges)


def _evaluate(run: Run, ctx: Any, loss: float) -> None:
    run.evaluate(ctx, loss, tokens=100)
    if ctx.accepted:
        run.save_checkpoint(ctx, "accepted", pack)
    if ctx.consolidating:
        run.record_consolidation(ctx, drift=0.05)


def pack_state(state: Any) -> Any:
    packed = pack(None, None)
    return packed._replace(files={"state.json": json.dumps(state).encode()})


def counted_events(runs: Path, run_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the data of the counted events of one kind, in order, with their IDs."""
    return [{**row.data, "id": row.id} for row in counted(read_run(runs / run_id), kind)]


def counted_contexts(runs: Path, run_id: str, hook: str = "batch") -> list[dict[str, Any]]:
    """Return the contexts of one hook, with the loss as a float and the verdict as `updated`."""
    contexts = [data for data in counted_events(runs, run_id, "context.recorded") if data["hook"] == hook]
    for data in contexts:
        data["loss"] = float(data["given"]["task_loss"])
        data["updated"] = data["left"].get("updated", data["given"].get("updated", True))
    return contexts
