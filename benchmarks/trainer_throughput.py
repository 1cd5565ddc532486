"""Speed of the trainer compared with a nanoGPT checkout, and cost of chain, log and gate.

    git clone https://github.com/karpathy/nanoGPT ../nanoGPT
    .venv/bin/python -m benchmarks.trainer_throughput --reference ../nanoGPT                  CPU, about 6
    minutes
    .venv/bin/python -m benchmarks.trainer_throughput                                           without
    nanoGPT
    .venv/bin/python -m benchmarks.trainer_throughput --reference ../nanoGPT --device cuda    GPU, GPT-2
    124M

All processes use one device and run in turns of one block (`benchmarks._lib.interleaved`). The first block is
ignored, because it includes compilation and allocations. The arms are:

* nanoGPT with its defaults, on a GPU also with each micro-batch size of --micro and the same tokens per step.
* Ockham with everything off.
* `chain`: preset balanced with log, signatures and Parquet files; the gate updates on every batch.
* `gate`: the same with a target of 0.6.

On the CPU each process uses one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks._lib.interleaved import BenchProcess, BlockTimer, run_interleaved
from benchmarks._lib.interleaved_report import report
from benchmarks._lib.nanogpt import NANO, make_data, training_script
from ockham.nano import build_settings
from ockham.nano.device import device_name, peak_flops
from ockham.nano.model import build_model

GPT2 = {
    "block_size": 1024,
    "batch_size": 12,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "device": "cuda",
    "gradient_accumulation_steps": 40,
    "compile": True,
    "dtype": "bfloat16",
    "wandb_log": False,
    "always_save_checkpoint": False,
}
EXAMPLES = 480
DEFAULT_MICRO_BATCH = 12
ARM_NAMES = {"off": "ockham", "chain": "ockham, chain on", "gate": "ockham, gate at 0.6"}
OPEN = ("gate.mode=fixed", "gate.surprise_threshold=0.0")


def report_blocks(timer: BlockTimer) -> Callable[..., None]:
    """Return a replacement of `print` for nanoGPT's code that reads the loss from its log lines."""

    def print_and_report(*words: Any, **_: Any) -> None:
        match = re.match(r"iter (\d+): loss ([\d.]+|nan)", " ".join(map(str, words)))
        if match:
            timer(int(match[1]), float(match[2]))

    return print_and_report


def train_ockham(kind: str, settings: list[str], data: str, block: int) -> None:
    """Train until the parent stops the process. *kind* is `off`, `chain` or `gate`."""
    from ockham import Run
    from ockham.nano import Trainer, load_corpus
    from tests.helpers.tiny_trainer import load_train_module

    trainer = Trainer(
        build_settings("gpt2" if "n_layer=12" in settings else "nano", settings), load_corpus(data)
    )
    if kind == "off":
        train_without_chain(trainer, BlockTimer(block))
        return
    overrides = [
        "hyperparameters.evaluations=1",
        "anchor.per_run=1",
        *(OPEN if kind == "chain" else ["gate.target=0.6"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        with Run("balanced", overrides=overrides, runs=folder, run_id=kind, facts=trainer.facts()) as run:
            trainer.required_measurements, trainer.pull_mode = (
                run.chain.required_measurements(),
                run.policy.hyperparameters["pull"],
            )
            # Without an anchor, pull and drift would not run.
            trainer.move_anchor(0)

            def more() -> dict[str, float]:
                b = run.savings().backward_over_forward or float("nan")
                return {"updated": run.counts.updated, "batches": run.counts.batches, "b": b}

            load_train_module().train(run, trainer, 0, TimedProgress(BlockTimer(block, more)), lambda: False)


def train_without_chain(trainer: Any, timer: BlockTimer) -> None:
    """Train on every batch without a chain and without a log."""
    from ockham.context import OccamContext

    for i in range(trainer.settings.max_iters):
        for micro in range(trainer.settings.gradient_accumulation_steps):
            loss = trainer.forward(i, micro)
            trainer.backward(OccamContext(i, loss, micro_step=micro, **trainer.context_fields(i, micro)))
        pending = trainer.step_async()
        if not trainer.deferred_metrics:
            pending.result()
        timer(i, loss)


class TimedProgress:
    """Replaces the progress line with a block timer."""

    def __init__(self, timer: BlockTimer) -> None:
        self.timer = timer

    def show(self, iter_num: int, loss: float, *_: object) -> None:
        self.timer(iter_num, loss)


def arms(options: argparse.Namespace, data: Path, seed: int) -> list[BenchProcess]:
    """Start the processes of one seed."""
    processes = nanogpt_processes(options, data, seed) if options.reference else []
    return processes + ockham_processes(options, data, seed)


def nanogpt_processes(options: argparse.Namespace, data: Path, seed: int) -> list[BenchProcess]:
    """Start nanoGPT, on a GPU once per micro-batch size."""
    gpu = options.device != "cpu"
    max_steps = options.block * (options.blocks + 1)
    words = {
        **(GPT2 if gpu else NANO),
        "device": options.device,
        "dataset": str(data),
        "out_dir": str(data / "out"),
        "eval_interval": 10**9,
        "eval_iters": 1,
        "log_interval": 10 if gpu else 1,
        "max_iters": max_steps + 1,
        "lr_decay_iters": max_steps,
        "warmup_iters": min(100, max_steps // 10),
    }
    before = (
        "from benchmarks._lib.interleaved import BlockTimer\n"
        "from benchmarks.trainer_throughput import report_blocks\n"
    )
    if not gpu:
        before += "torch.set_num_threads(1)"
    names = f"{{'print': report_blocks(BlockTimer({options.block}))}}"
    environment = {"PACE_FOLDER": str(options.reference)}
    processes = []
    for micro in [DEFAULT_MICRO_BATCH, *(options.micro if gpu else [])]:
        words["batch_size"] = micro
        if gpu:
            words["gradient_accumulation_steps"] = EXAMPLES // micro
        code = training_script(options.reference, words, seed, before=before, names=names)
        name = "nanoGPT" if micro == DEFAULT_MICRO_BATCH else f"nanoGPT, micro-batch {micro}"
        processes.append(BenchProcess(name, code, data, environment))
    return processes


def ockham_processes(options: argparse.Namespace, data: Path, seed: int) -> list[BenchProcess]:
    """Start Ockham's trainer, once per kind."""
    settings = [
        f"max_iters={options.block * (options.blocks + 1)}",
        f"seed={seed}",
        f"device={options.device}",
        "threads=1",
        "checkpoint_every=1000000000",
    ]
    if options.device != "cpu":
        settings.append("n_layer=12")
    return [
        BenchProcess(
            ARM_NAMES[kind],
            "from benchmarks.trainer_throughput import train_ockham; "
            f"train_ockham({kind!r}, {settings!r}, {str(data)!r}, {options.block})",
            data,
        )
        for kind in options.ours
    ]


def losses(processes: list[BenchProcess], at: int) -> dict[str, float]:
    """Return the mean training loss of the ten steps before *at*, by process."""
    means_by_step = {}
    for arm in processes:
        every = {step: loss for block in arm.blocks for step, loss in block.losses.items()}
        last = [loss for step, loss in every.items() if at - 10 <= step < at]
        if last:
            means_by_step[arm.name] = statistics.mean(last)
    return means_by_step


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ["off", "chain", "gate"]
    parser.add_argument("--reference", type=Path, help="Folder of a nanoGPT checkout.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--ours", nargs="*", default=kinds, choices=kinds)
    parser.add_argument(
        "--micro", type=int, nargs="*", default=[24, 48, 60], help="Micro-batch sizes of nanoGPT on a GPU."
    )
    parser.add_argument("--block", type=int, default=25, help="Steps per block.")
    parser.add_argument(
        "--blocks", type=int, default=20, help="Measured blocks. 20 blocks of 25 steps end at step 500."
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="Number of seeds, to measure the noise of the losses."
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU; use cpu")
    if options.reference and not (options.reference / "train.py").is_file():
        parser.error(f"--reference {options.reference}: train.py does not exist; use a nanoGPT checkout")
    if options.reference:
        options.reference = options.reference.resolve()
    return options


def one_seed(options: argparse.Namespace, seed: int) -> list[BenchProcess]:
    """Run all processes of one seed, block by block."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        make_data(data)
        if options.device != "cpu":
            # Without this file both use the vocabulary of GPT-2.
            (data / "meta.pkl").unlink()
        processes = arms(options, data, seed)
        with run_interleaved(processes) as turn:
            for at in range(options.blocks + 1):
                turn()
                print(
                    f"seed {seed}: block {at} of {options.blocks}, load {os.getloadavg()[0]:.1f}", flush=True
                )
        return processes


def main() -> None:
    options = parse_options()
    gpu = options.device != "cpu"
    settings = build_settings("gpt2" if gpu else "nano")
    tokens = EXAMPLES * 1024 if gpu else settings.tokens_per_batch
    flops = build_model(settings, 50_304 if gpu else 256).training_flops(tokens)
    name = device_name("cuda:0") if gpu else "CPU"
    means_by_step: dict[int, dict[str, list[float]]] = {50: {}, 500: {}}
    for seed in range(1337, 1337 + options.seeds):
        processes = one_seed(options, seed)
        print(
            f"\n{name}, seed {seed}, {tokens:,} tokens per step, "
            f"{options.blocks} blocks of {options.block} steps"
        )
        report(processes, tokens, flops, peak_flops(name))
        for at, means in means_by_step.items():
            for arm, mean in losses(processes, at).items():
                means.setdefault(arm, []).append(mean)
    for at, means in means_by_step.items():
        for arm, values in means.items():
            noise = f", spread {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            mean = statistics.mean(values)
            print(f"training loss, mean of the ten steps before {at}: {arm} {mean:.4f}{noise}")


if __name__ == "__main__":
    main()
