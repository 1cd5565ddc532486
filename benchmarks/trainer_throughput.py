"""Speed of the trainer compared with a nanoGPT checkout, and cost of chain, log and gate.

    git clone https://github.com/karpathy/nanoGPT /tmp/nanoGPT
    .venv/bin/python -m benchmarks.trainer_throughput --reference /tmp/nanoGPT                  CPU, about 6
    minutes
    .venv/bin/python -m benchmarks.trainer_throughput                                           without
    nanoGPT
    .venv/bin/python -m benchmarks.trainer_throughput --reference /tmp/nanoGPT --device cuda    GPU, GPT-2
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
from ockham.nano.device import device_name
from ockham.nano.model import build_model
from ockham.nano.peak import peak_flops

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
OPEN = ("gate.mode=fixed", "gate.surprise_threshold=0.0")


def report_blocks(pace: BlockTimer) -> Callable[..., None]:
    """Return a replacement of `print` for nanoGPT's code that reads the loss from its log lines."""

    def heard(*words: Any, **_: Any) -> None:
        found = re.match(r"iter (\d+): loss ([\d.]+|nan)", " ".join(map(str, words)))
        if found:
            pace(int(found[1]), float(found[2]))

    return heard


def train_ockham(kind: str, settings: list[str], data: str, block: int) -> None:
    """Train until the parent stops the process. *kind* is `off`, `chain` or `gate`."""
    from ockham import Run
    from ockham.nano import Trainer, load_corpus
    from tests.helpers.tiny_trainer import train_py

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

            def more() -> dict[str, float]:
                b = trainer.meter.savings().backward_over_forward or float("nan")
                return {"updated": run.counts.updated, "batches": run.counts.batches, "b": b}

            train_py().train(run, trainer, 0, Line(BlockTimer(block, more)), lambda: False)


def train_without_chain(trainer: Any, pace: BlockTimer) -> None:
    """Train on every batch without a chain and without a log."""
    from ockham.context import OccamContext

    for i in range(trainer.settings.max_iters):
        for micro in range(trainer.settings.gradient_accumulation_steps):
            loss = trainer.forward(i, micro)
            trainer.backward(OccamContext(i, loss, micro_step=micro, **trainer.context_fields(i, micro)))
        read = trainer.step_async()
        if not trainer.late:
            read()
        pace(i, loss)


class Line:
    """Replaces the progress line with a block timer."""

    def __init__(self, pace: BlockTimer) -> None:
        self.pace = pace

    def show(self, iter_num: int, loss: float, *_: object) -> None:
        self.pace(iter_num, loss)


def arms(asked: argparse.Namespace, data: Path, seed: int) -> list[BenchProcess]:
    """Start the processes of one seed."""
    gpu, folder, block = asked.device != "cpu", data, asked.block
    most = asked.block * (asked.blocks + 1)
    found = []
    if asked.reference:
        words = {
            **(GPT2 if gpu else NANO),
            "device": asked.device,
            "dataset": str(data),
            "out_dir": str(data / "out"),
            "eval_interval": 10**9,
            "eval_iters": 1,
            "log_interval": 10 if gpu else 1,
            "max_iters": most + 1,
            "lr_decay_iters": most,
            "warmup_iters": min(100, most // 10),
        }
        for micro in [12, *(asked.micro if gpu else [])]:
            words |= {"batch_size": micro} | (
                {"gradient_accumulation_steps": EXAMPLES // micro} if gpu else {}
            )
            before = (
                "from benchmarks._lib.interleaved import Pace\nfrom benchmarks.trainer_throughput import listen\n"
                + ("" if gpu else "torch.set_num_threads(1)")
            )
            code = training_script(
                asked.reference, words, seed, before=before, names=f"{{'print': listen(Pace({block}))}}"
            )
            name = "nanoGPT" if micro == 12 else f"nanoGPT, micro-batch {micro}"
            found.append(BenchProcess(name, code, folder, {"PACE_FOLDER": str(asked.reference)}))
    settings = [
        f"max_iters={most}",
        f"seed={seed}",
        f"device={asked.device}",
        "threads=1",
        "checkpoint_every=1000000000",
        *(["n_layer=12"] if gpu else []),
    ]
    for kind in asked.ours:
        code = f"from benchmarks.trainer_throughput import ours; ours({kind!r}, {settings!r}, {str(data)!r}, {block})"
        found.append(
            BenchProcess(
                {"off": "ours", "chain": "ours, chain on", "gate": "ours, gate at .6"}[kind], code, folder
            )
        )
    return found


def losses(found: list[BenchProcess], at: int) -> dict[str, float]:
    """Return the mean training loss of the ten steps before *at*, by process."""
    told = {}
    for arm in found:
        every = {step: loss for block in arm.blocks for step, loss in block.losses.items()}
        last = [loss for step, loss in every.items() if at - 10 <= step < at]
        if last:
            told[arm.name] = statistics.mean(last)
    return told


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ["off", "chain", "gate"]
    parser.add_argument("--reference", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--ours", nargs="*", default=kinds, choices=kinds)
    parser.add_argument(
        "--micro", type=int, nargs="*", default=[24, 48, 60], help="nanoGPT's, tried on a GPU"
    )
    parser.add_argument("--block", type=int, default=25, help="steps in a block")
    parser.add_argument("--blocks", type=int, default=20, help="blocks that count; 20 of 25 reach step 500")
    parser.add_argument("--seeds", type=int, default=1, help="more, for the noise of the losses")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no GPU; accepted here: cpu")
    if asked.reference and not (asked.reference / "train.py").is_file():
        parser.error(f"--reference {asked.reference}: no train.py there; give a checkout of nanoGPT")
    if asked.reference:
        asked.reference = asked.reference.resolve()
    return asked


def one_seed(asked: argparse.Namespace, seed: int) -> list[BenchProcess]:
    """Run all processes of one seed, block by block."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        make_data(data)
        if asked.device != "cpu":
            (data / "meta.pkl").unlink()  # without it both take GPT-2's vocabulary
        found = arms(asked, data, seed)
        with run_interleaved(found) as turn:
            for at in range(asked.blocks + 1):
                turn()
                print(f"seed {seed}: block {at} of {asked.blocks}, load {os.getloadavg()[0]:.1f}", flush=True)
        return found


def main() -> None:
    asked = options()
    gpu = asked.device != "cpu"
    settings = build_settings("gpt2" if gpu else "nano")
    tokens = EXAMPLES * 1024 if gpu else settings.tokens_per_batch
    flops = build_model(settings, 50_304 if gpu else 256).training_flops(tokens)
    name = device_name("cuda:0") if gpu else "CPU"
    told: dict[int, dict[str, list[float]]] = {50: {}, 500: {}}
    for seed in range(1337, 1337 + asked.seeds):
        found = one_seed(asked, seed)
        print(
            f"\n{name}, seed {seed}, {tokens:,} tokens a step, {asked.blocks} blocks of {asked.block} steps"
        )
        report(found, tokens, flops, peak_flops(name))
        for at, means in told.items():
            for arm, mean in losses(found, at).items():
                means.setdefault(arm, []).append(mean)
    for at, means in told.items():
        for arm, values in means.items():
            noise = f", spread {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            print(
                f"training loss, mean of the ten steps before {at}: {arm} {statistics.mean(values):.4f}{noise}"
            )


if __name__ == "__main__":
    main()
