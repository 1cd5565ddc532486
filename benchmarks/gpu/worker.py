"""Process of one or several steps: `python -m benchmarks.gpu.worker STEP... --reference DIR --out FOLDER`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu import losses, memory, overhead, profile_step, smoke, speed
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import DONE, STATUS, ResultFile
from benchmarks.gpu.training import Bench, write_data

POLL_SECONDS = 1.0
ACTIONS: dict[str, Callable[[Bench], None]] = {
    "smoke-train": smoke.train_whole,
    "smoke-eager": smoke.train_eager,
    "smoke-resume": smoke.resume,
    "smoke-rollback": smoke.roll_back,
    "smoke-gauges": smoke.compare_gauges,
    "smoke-ranks": smoke.train_ranks,
    "speed": speed.compare,
    "overhead": overhead.measure,
    "loss": losses.compare,
    "recipe": losses.compare_recipe,
    "speed-large": speed.compare_large,
    "memory": memory.measure,
    "profile": profile_step.draw,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="+", choices=list(ACTIONS))
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stamp", type=json.loads, required=True)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    # Keys and compiled kernels of all steps are shared.
    os.environ["OCKHAM_KEY_DIR"] = str(options.out / "keys")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(options.out / "kernels"))
    plan = Plan(options.reference, options.out, options.dry_run)
    write_data(plan)
    bench = Bench(plan, ResultFile(options.out, options.stamp))
    for name in options.steps:
        started = time.monotonic()
        ACTIONS[name](bench)
        bench.results.append(name, STATUS, status=DONE, seconds=round(time.monotonic() - started, 1))
        gc.collect()
        torch.compiler.reset()


def end_with_parent(parent: int) -> None:
    """Kill this process and its child processes, once the parent process has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
