"""Tokens/s and MFU of nanoGPT and of Ockham, in processes that run in turns."""

from __future__ import annotations

from typing import Any

from benchmarks._lib.interleaved import BenchProcess, Block, BlockTimer, run_interleaved
from benchmarks._lib.interleaved_report import paired_ratio, per_step
from benchmarks._lib.nanogpt import training_script
from benchmarks.gpu.training import (
    ALWAYS_UPDATE,
    GATE,
    Bench,
    OnStep,
    make_trainer,
    open_run,
    train_with_run,
    train_without_run,
    wait_for_device,
)
from ockham.nano import build_settings
from ockham.nano.device import peak_flops
from ockham.nano.model import build_model

SEED = 1337
OVERRIDES = {"all": ALWAYS_UPDATE, "gate": GATE}
BEFORE = """
import os
from benchmarks._lib.interleaved import BlockTimer
from benchmarks.trainer_throughput import report_blocks
"""


def compare(bench: Bench) -> None:
    """Measure nanoGPT at its defaults and at the shared micro-batch, and Ockham off, with all, and gated."""
    micro = bench.shared_micro
    references = sorted({bench.plan.default_micro, micro})
    _measure(bench, "speed", references, {micro: ("off", "all", "gate")})


def compare_large(bench: Bench) -> None:
    """Measure both at a micro-batch for which the memory suffices only for few processes."""
    micro = bench.plan.large_micro
    _measure(bench, "speed-large", [micro], {micro: ("off", "all")})


def _measure(
    bench: Bench, step: str, references: list[int], kinds_by_micro: dict[int, tuple[str, ...]]
) -> None:
    processes = [_start_reference(bench, micro) for micro in references]
    for micro, kinds in kinds_by_micro.items():
        processes += [_start_ockham(bench, kind, micro) for kind in kinds]
    with run_interleaved(processes):
        # All compile at the same time. The first block is not used.
        for process in processes:
            process.start_block()
        failed = [process for process in processes if not _finish_block(bench, step, process)]
        for _ in range(bench.plan.turns):
            for process in processes:
                if process in failed:
                    continue
                process.start_block()
                if not _finish_block(bench, step, process):
                    failed.append(process)
            _report(bench, step, [process for process in processes if process not in failed])
    if failed:
        raise RuntimeError(f"{', '.join(process.name for process in failed)}: failed")


def _finish_block(bench: Bench, step: str, process: BenchProcess) -> bool:
    """Wait for a block. Return False if the process has ended. The other processes continue."""
    try:
        process.finish_block()
    except SystemExit as error:
        bench.results.append(step, process.name, error=str(error))
        return False
    return True


def _report(bench: Bench, step: str, processes: list[BenchProcess]) -> None:
    """Append the present figures of all processes. A later line of a process replaces the earlier one."""
    plan = bench.plan
    settings = build_settings(plan.size, bench.settings(plan.default_micro, plan.examples))
    tokens = plan.examples * settings.block_size
    flops = build_model(settings, 256 if plan.dry_run else 50_304).training_flops(tokens)
    peak = peak_flops(str(bench.results.stamp["device"]))
    base = next((process for process in processes if process.name.startswith("ockham off")), None)
    for process in processes:
        blocks = process.blocks
        seconds = per_step(blocks, "wall")
        row: dict[str, Any] = {
            "tokens/s": tokens / seconds,
            "ms per step": seconds * 1e3,
            # Skipped batches are counted as if they were trained.
            "MFU": flops / seconds / peak if peak else None,
            "time / ockham off": base and paired_ratio(blocks, base.blocks, "wall")[0],
            "CPU ms per step": per_step(blocks, "cpu") * 1e3,
            "peak MB": blocks[-1].more["peak_mb"],
            "update rate": _update_rate(blocks),
            "blocks": len(blocks) - 1,
        }
        bench.results.append(step, process.name, **row)


def _update_rate(blocks: list[Block]) -> float | None:
    """Return the update rate of all blocks except the first. None without a gate."""
    first, last = blocks[0].more, blocks[-1].more
    if "updated" not in last:
        return None
    return (last["updated"] - first["updated"]) / (last["batches"] - first["batches"])


def reference_words(bench: Bench, micro: int, examples: int, steps: int, **more: object) -> dict[str, Any]:
    """Return the settings of nanoGPT's train.py."""
    settings = build_settings(bench.plan.size, bench.settings(micro, examples))
    return {
        **bench.plan.model_settings(micro, examples),
        "dropout": 0.0,
        "learning_rate": settings.learning_rate,
        "min_lr": settings.min_lr,
        "beta2": settings.beta2,
        "device": bench.plan.device,
        "compile": not bench.plan.dry_run and bench.compile != "no",
        "dtype": "float32" if bench.plan.dry_run else "bfloat16",
        "wandb_log": False,
        "always_save_checkpoint": False,
        "dataset": str(bench.plan.data),
        "out_dir": str(bench.plan.folder / "reference"),
        "eval_interval": 10**9,
        "eval_iters": 1,
        "max_iters": steps,
        "lr_decay_iters": steps,
        "warmup_iters": max(1, steps // 10),
        **more,
    }


def reference_script(bench: Bench, words: dict[str, Any], *, before: str = "", names: str = "{}") -> str:
    """Return the code that runs nanoGPT's train.py, on one thread in a dry run."""
    if bench.plan.dry_run:
        before += "\nimport torch\ntorch.set_num_threads(1)"
    return training_script(bench.plan.reference, words, SEED, before=before, names=names)


def _start_reference(bench: Bench, micro: int) -> BenchProcess:
    plan = bench.plan
    steps = plan.block * (plan.turns + 2)
    words = reference_words(bench, micro, plan.examples, steps, log_interval=plan.block)
    names = f"{{'print': report_blocks(BlockTimer({plan.block}))}}"
    code = reference_script(bench, words, before=BEFORE, names=names)
    environment = {"PACE_FOLDER": str(plan.reference)}
    return BenchProcess(f"nanoGPT, micro-batch {micro}", code, plan.folder / "logs", environment)


def _start_ockham(bench: Bench, kind: str, micro: int) -> BenchProcess:
    code = (
        "from benchmarks.gpu.speed import train_arm, load_bench\n"
        f"train_arm(load_bench({str(bench.plan.reference)!r}, {str(bench.plan.folder)!r}, "
        f"{bench.plan.dry_run}), {kind!r}, {micro})"
    )
    return BenchProcess(f"ockham {kind}, micro-batch {micro}", code, bench.plan.folder / "logs")


def load_bench(reference: str, folder: str, dry_run: bool) -> Bench:
    """Return the plan and the results, in a process of its own."""
    from pathlib import Path

    from benchmarks.gpu.plan import Plan
    from benchmarks.gpu.results import ResultFile

    return Bench(Plan(Path(reference), Path(folder), dry_run), ResultFile(Path(folder), {}))


def train_arm(bench: Bench, kind: str, micro: int) -> None:
    """Train until the parent stops this process. *kind* is `off`, `all` or `gate`."""
    trainer = make_trainer(bench, bench.settings(micro, bench.plan.examples))
    if kind == "off":
        train_without_run(trainer, 0, _timed(bench, BlockTimer(bench.plan.block)))
        return
    with open_run(bench, trainer, f"speed-{kind}-{micro}", OVERRIDES[kind]) as run:

        def count_updates() -> dict[str, float]:
            return {"updated": run.counts.updated, "batches": run.counts.batches}

        timer = BlockTimer(bench.plan.block, count_updates)
        train_with_run(run, trainer, 0, _timed(bench, timer))


def _timed(bench: Bench, timer: BlockTimer) -> OnStep:
    """Return a function for each step. At the end of a block it waits for the device first."""

    def on_step(iter_num: int, loss: float) -> None:
        if (iter_num + 1) % bench.plan.block == 0:
            wait_for_device()
        timer(iter_num, loss)

    return on_step
