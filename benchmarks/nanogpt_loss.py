"""Validation loss of Ockham without skipping, compared with a nanoGPT checkout on the same data.

    git clone https://github.com/karpathy/nanoGPT ../nanoGPT
    .venv/bin/python -m benchmarks.nanogpt_loss --reference ../nanoGPT --iters 600 --seeds 3

Both use 4 layers, 4 heads, width 128, 12 x 64 tokens, AdamW 1e-3 -> 1e-4, betas 0.9/0.99, decay 0.1, clip
1.0, no dropout, and float32 on the CPU. nanoGPT runs unmodified in a separate process. Ockham runs under
preset observe: the chain decides and is logged, but changes nothing. Each prints its validation loss over 200
batches. The difference is compared with the noise between seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._lib.nanogpt import NANO, make_data, training_script

ROOT = Path(__file__).resolve().parents[1]
EVAL_BATCHES = 200


def train_nanogpt(checkout: Path, data: Path, iters: int, seed: int) -> tuple[float, float]:
    """Return the final validation loss and the seconds of nanoGPT's train.py."""
    words = {
        **NANO,
        "eval_iters": EVAL_BATCHES,
        "log_interval": iters,
        "max_iters": iters,
        "lr_decay_iters": iters,
        "dataset": str(data),
        "eval_interval": iters,
        "warmup_iters": min(100, iters // 10),
        "out_dir": str(data / "out"),
    }
    code = training_script(checkout, words, seed, before="torch.set_num_threads(1)")
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    losses = re.findall(rf"step {iters}: train loss [\d.]+, val loss ([\d.]+)", done.stdout)
    if done.returncode or not losses:
        raise SystemExit(f"nanoGPT failed:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    return float(losses[-1]), time.perf_counter() - began


def train_ockham(data: Path, iters: int, seed: int) -> tuple[float, float]:
    """Return the final validation loss and the seconds of train.py under preset observe."""
    words = [
        "--policy",
        "observe",
        "--data",
        str(data),
        "--runs",
        str(data / "runs"),
        "--run",
        f"seed-{seed}",
        "--set",
        f"max_iters={iters}",
        "--set",
        f"seed={seed}",
        "--set",
        "threads=1",
        "--set",
        "device=cpu",
        "--set",
        f"eval_batches={EVAL_BATCHES}",
        "--set",
        "hyperparameters.evaluations=1",
    ]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-1500:])
    log = (data / "runs" / f"seed-{seed}" / "log" / "1-0" / "000000000000.jsonl").read_text(encoding="utf-8")
    return json.loads(log.splitlines()[-1])["data"]["val_loss"], time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="Folder of a nanoGPT checkout.")
    parser.add_argument("--iters", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        make_data(data)
        pairs = []
        for seed in range(1337, 1337 + options.seeds):
            reference, reference_seconds = train_nanogpt(options.reference, data, options.iters, seed)
            loss, seconds = train_ockham(data, options.iters, seed)
            pairs.append((reference, loss))
            print(
                f"seed {seed}: nanoGPT {reference:.4f} in {reference_seconds:.0f} s, "
                f"Ockham {loss:.4f} in {seconds:.0f} s",
                flush=True,
            )
    references, losses = zip(*pairs, strict=True)
    noise = statistics.stdev(references) if len(references) > 1 else float("nan")
    difference = statistics.mean(losses) - statistics.mean(references)
    print(
        f"mean validation loss over {len(pairs)} seeds at {options.iters} iterations: "
        f"nanoGPT {statistics.mean(references):.4f}, Ockham {statistics.mean(losses):.4f}; "
        f"difference {difference:+.4f}, nanoGPT's spread between seeds {noise:.4f}; "
        f"load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
