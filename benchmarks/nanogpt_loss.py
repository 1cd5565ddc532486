"""Gate off, does it learn like nanoGPT? Runs a checkout of nanoGPT that you bring beside ours, on the same bytes.

    git clone https://github.com/karpathy/nanoGPT /tmp/nanoGPT
    .venv/bin/python -m benchmarks.nanogpt_loss --reference /tmp/nanoGPT --iters 600 --seeds 3

Both at 4 layers, 4 heads, 128 wide, 12 x 64 tokens, AdamW 1e-3 -> 1e-4, betas .9/.99, decay .1, clip 1.0, no dropout,
float32 on the CPU. nanoGPT runs as its own process, unmodified; none of its code is here. Ours runs under preset
observe: the whole chain decides and is logged, and changes nothing. Validation loss is what each prints of itself over
200 batches; the noise between seeds is the yardstick.
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
    """Final validation loss and seconds of nanoGPT's own train.py."""
    words = {
        **NANO, "eval_iters": EVAL_BATCHES, "log_interval": iters, "max_iters": iters, "lr_decay_iters": iters,
        "dataset": str(data), "eval_interval": iters, "warmup_iters": min(100, iters // 10), "out_dir": str(data / "out"),
    }  # fmt: skip
    code = training_script(checkout, words, seed, before="torch.set_num_threads(1)")
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    found = re.findall(rf"step {iters}: train loss [\d.]+, val loss ([\d.]+)", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"nanoGPT did not finish:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    return float(found[-1]), time.perf_counter() - began


def train_ockham(data: Path, iters: int, seed: int) -> tuple[float, float]:
    """Final validation loss and seconds of train.py under preset observe."""
    words = ["--preset", "observe", "--data", str(data), "--runs", str(data / "runs"), "--run", f"seed-{seed}",
             "--set", f"max_iters={iters}", "--set", f"seed={seed}", "--set", "threads=1", "--set", "device=cpu",
             "--set", f"eval_batches={EVAL_BATCHES}", "--set", "hyperparameters.evaluations=1"]  # fmt: skip
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
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--iters", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        make_data(data)
        pairs = []
        for seed in range(1337, 1337 + asked.seeds):
            pairs.append(
                (
                    train_nanogpt(asked.reference, data, asked.iters, seed),
                    train_ockham(data, asked.iters, seed),
                )
            )
            print(
                f"seed {seed}: nanoGPT {pairs[-1][0][0]:.4f} in {pairs[-1][0][1]:.0f} s, Ockham {pairs[-1][1][0]:.4f} in {pairs[-1][1][1]:.0f} s",
                flush=True,
            )
    theirs, own = [p[0][0] for p in pairs], [p[1][0] for p in pairs]
    noise = statistics.stdev(theirs) if len(theirs) > 1 else float("nan")
    print(f"mean validation loss over {len(pairs)} seeds at {asked.iters} iterations: nanoGPT {statistics.mean(theirs):.4f}, "
          f"Ockham {statistics.mean(own):.4f}; difference {statistics.mean(own) - statistics.mean(theirs):+.4f}, "
          f"nanoGPT's spread between seeds {noise:.4f}; load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
