"""Smoke test of every path that only a GPU takes.

Training under `balanced` with compilation, bfloat16, deferred gauges and checkpoints; resume, rollback,
gauges, and two ranks on one GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import typer
from safetensors.torch import load_file

import train as train_module
from benchmarks.gpu.training import (
    ALWAYS_UPDATE,
    Bench,
    make_trainer,
    open_run,
    peak_memory_mb,
    stop_after,
    train_with_run,
)

POLL_SECONDS = 0.1
WEIGHTS = "model.safetensors"
# Any divergence from the anchor requires a rollback.
ROLLBACK = ("watchdog.warn=1e-12", "watchdog.rollback=1e-12")


def smoke_settings(bench: Bench, **more: object) -> list[str]:
    """Return the settings of the runs: small, with dropout, so that resume needs the GPU's generator."""
    third = bench.plan.smoke_steps // 3
    values: dict[str, object] = {
        "max_iters": bench.plan.smoke_steps,
        "checkpoint_every": third,
        "keep_states": 4,
        "dropout": 0.1,
        "eval_batches": 2,
        "warmup_iters": 1,
        "watchdog.every": 2,
        "hyperparameters.evaluations": 3,
    }
    if not bench.plan.dry_run:
        values |= {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256}
        values |= {"batch_size": 16, "gradient_accumulation_steps": 2}
    return bench.settings(2, 4, **{**values, **more})


def _trainer_settings(bench: Bench, **more: object) -> list[str]:
    """Return the settings without those of the policy."""
    return [each for each in smoke_settings(bench, **more) if "." not in each.partition("=")[0]]


def run_train(bench: Bench, run: str, settings: list[str], resume_from: str = "") -> None:
    """Run `ockham train` in this process. Raises RuntimeError if its exit status is not 0."""
    try:
        train_module.main(
            policy="" if resume_from else "balanced",
            data=bench.plan.data,
            size="" if resume_from else "nano",
            recipe="",
            init_from="",
            run=run,
            settings=settings,
            resume=bool(resume_from),
            resume_from=resume_from,
            key=None,
            key_file=None,
            trust_key=None,
            device=bench.plan.device,
            runs=bench.plan.runs,
        )
    except typer.Exit as end:
        if end.exit_code:
            raise RuntimeError(f"ockham train ended with exit status {end.exit_code}") from None


def read_events(bench: Bench, run: str, attempt: int = 1) -> list[dict[str, Any]]:
    """Return the events of rank 0 of an attempt."""
    segments = sorted((bench.plan.runs / run / "log" / f"{attempt}-0").glob("*.jsonl"))
    return [json.loads(line) for path in segments for line in path.read_text(encoding="utf-8").splitlines()]


def read_batches(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the contexts at the end of each batch."""
    contexts = [event["data"] for event in events if event["type"] == "ockham.context.recorded.v1"]
    return [context for context in contexts if context["hook"] == "batch"]


def describe_run(bench: Bench, run: str, attempt: int = 1) -> dict[str, Any]:
    """Return what a log contains: updates, losses, gauges, checkpoints and rollbacks."""
    events = read_events(bench, run, attempt)
    kinds = Counter(event["type"] for event in events)
    batches = read_batches(events)
    return {
        "batches": len(batches),
        "updated": sum(bool(batch["applied"].get("updated")) for batch in batches),
        "first loss": batches[0]["given"]["task_loss"],
        "last loss": batches[-1]["given"]["task_loss"],
        "KL measured": sum(batch["measured"].get("kl_to_anchor") is not None for batch in batches),
        "checkpoints": kinds["ockham.checkpoint.saved.v1"],
        "rollbacks": kinds["ockham.rollback.performed.v1"],
        "peak MB": peak_memory_mb(),
    }


def train_whole(bench: Bench) -> None:
    """Train the run `smoke` with everything on."""
    _train_new(bench, "smoke-train", "no" if bench.plan.dry_run else "auto")


def train_eager(bench: Bench) -> None:
    """Train the same without compilation."""
    _train_new(bench, "smoke-eager", "no")


def _train_new(bench: Bench, step: str, compile_setting: str) -> None:
    shutil.rmtree(bench.plan.runs / "smoke", ignore_errors=True)
    peak_memory_mb(reset=True)
    run_train(bench, "smoke", smoke_settings(bench, compile=compile_setting))
    bench.results.append(step, "smoke", **describe_run(bench, "smoke"))


def resume(bench: Bench) -> None:
    """Resume the run `smoke` from its first checkpoint, and compare the last weights of both attempts."""
    if (bench.plan.runs / "smoke" / "log" / "2-0").exists():
        # An earlier call was killed in this step. Its attempt replaces checkpoints of the first.
        _train_new(bench, "smoke-resume", bench.compile)
    checkpoints = sorted((bench.plan.runs / "smoke" / "checkpoints").glob("resume-*"))
    saved = bench.plan.folder / "smoke-last.safetensors"
    shutil.copyfile(checkpoints[-1] / WEIGHTS, saved)
    # The policy of a resumed run is recorded.
    run_train(bench, "smoke", _trainer_settings(bench), checkpoints[0].name)
    resumed = max((bench.plan.runs / "smoke" / "checkpoints").glob("resume-*"))
    facts = describe_run(bench, "smoke", attempt=2)
    bench.results.append("smoke-resume", "weights", **facts, **_compare_weights(saved, resumed / WEIGHTS))


def _compare_weights(first: Path, second: Path) -> dict[str, Any]:
    ours, others = load_file(first), load_file(second)
    largest = max(float((ours[name] - others[name]).abs().max()) for name in ours)
    return {"equal bits": largest == 0.0, "largest difference": largest}


def roll_back(bench: Bench) -> None:
    """Roll back to the anchor, and to a saved state."""
    third = bench.plan.smoke_steps // 3
    for name, every in {"to-anchor": 0, "to-state": third}.items():
        shutil.rmtree(bench.plan.runs / name, ignore_errors=True)
        run_train(bench, name, [*smoke_settings(bench, state_every=every), *ROLLBACK])
        facts = describe_run(bench, name)
        bench.results.append("smoke-rollback", name, **facts)
        if not facts["rollbacks"]:
            raise RuntimeError(f"{name}: no rollback was recorded")


def compare_gauges(bench: Bench) -> None:
    """Compare gauges that are read late with gauges that are read at once.

    A gauge that is read before its copy is complete would differ.
    """
    gauges = {late: _train_gauges(bench, late=late) for late in (False, True)}
    differences = [
        abs(a - b) / max(abs(a), 1e-12)
        for at_once, late in zip(gauges[False], gauges[True], strict=True)
        for a, b in zip(at_once, late, strict=True)
    ]
    bench.results.append(
        "smoke-gauges", "late against at once", gauges=len(differences), largest=max(differences)
    )
    # Kernels that add in another order change the last digits. A wrong value is off by far more.
    if not max(differences) < 0.1:
        raise RuntimeError(f"gauges that are read late differ by {max(differences):.3g}")


def _train_gauges(bench: Bench, *, late: bool) -> list[tuple[float, float]]:
    run_id = "gauges-late" if late else "gauges-at-once"
    trainer = make_trainer(bench, _trainer_settings(bench, dropout=0))
    trainer.deferred_metrics = late
    steps = bench.plan.smoke_steps // 3
    with open_run(bench, trainer, run_id, ALWAYS_UPDATE) as run:
        train_with_run(run, trainer, 0, stop_after(steps - 1, lambda *_: None))
    measured = [batch["measured"] for batch in read_batches(read_events(bench, run_id))]
    return [(each["grad_norm"], each["complexity_cost"]) for each in measured if "grad_norm" in each]


def train_ranks(bench: Bench) -> None:
    """Train two ranks on one device. NCCL refuses that, so gradients are sent over gloo."""
    shutil.rmtree(bench.plan.runs / "ranks", ignore_errors=True)
    device = "cpu" if bench.plan.dry_run else "cuda:0"
    settings = [each for each in smoke_settings(bench, compile="no") if not each.startswith("device=")]
    words = ["--policy", "balanced", "--data", str(bench.plan.data), "--runs", str(bench.plan.runs)]
    words += ["--run", "ranks", "--device", device, "--size", "nano"]
    for each in settings:
        words += ["--set", each]
    port = _free_port()
    processes = [_start_rank(rank, port, words) for rank in (0, 1)]
    while None in (statuses := [process.poll() for process in processes]) and not any(statuses):
        time.sleep(POLL_SECONDS)
    if any(statuses):
        # The other rank would wait for this one. It is killed with this process.
        raise RuntimeError(f"ranks: exit statuses {statuses}")
    bench.results.append("smoke-ranks", "ranks", **describe_run(bench, "ranks"))


def _start_rank(rank: int, port: int, words: list[str]) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen([sys.executable, train_module.__file__, *words], env=environment)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
