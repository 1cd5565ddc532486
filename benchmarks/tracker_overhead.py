"""The same decisions under Ockham and under trackers, in a real training step, in a burst, and with a kill.

`python -m benchmarks.log_throughput --trackers PYTHON` calls this module, and starts it once per tool.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The interpreter of the trackers runs this file without the project in its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._lib.trackers import TOOLS, decision

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("gate", "compressor", "limiter", "watchdog", "anchor", "finite")


def compare_trackers(python: str, steps: int, events: int, rounds: int) -> None:
    """Run every tool in separate processes, in turns, and print the table.

    The last round kills the process.
    """
    print(
        f"six decisions in each of {steps} training steps, {rounds} rounds in turns; "
        f"burst: up to {events} events, 8 s"
    )
    with tempfile.TemporaryDirectory() as name:
        results: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
        for number in range(rounds + 1):
            for tool in TOOLS:
                end = "kill" if number == rounds else "close"
                results[tool].append(
                    _child(python, tool, Path(name) / f"{tool}-{number}", steps, events, end)
                )
    print("tool         p50 us   p99 us  of a step  events/s  bytes/event  written  lost by kill -9")
    for tool, runs in results.items():
        closed, killed = [run for run in runs[:-1] if "seconds" in run], runs[-1]
        if not closed or "emitted" not in killed:
            print(f"{tool:<11} failed: {runs[0].get('error') or killed.get('error')}")
            continue
        times = sorted(time for run in closed for time in run["times"])
        steps_us = [pair for run in closed for pair in run["shares"]]
        share = statistics.median(mine / step for step, mine in steps_us)
        rate = max(run["burst"] / run["seconds"] for run in closed)
        size = statistics.median(run["size"] / run["written"] for run in closed)
        lost = killed["emitted"] - killed["found"]
        loss_text = "its reader returns no values"
        if closed[0]["found"]:
            loss_text = f"{lost} of {killed['emitted']}"
            durable = killed.get("acknowledged")
            if durable is not None:
                loss_text += f"; of {durable} acknowledged {max(0, durable - killed['found'])}"
        print(
            f"{tool:<11} {times[len(times) // 2] / 1e3:>7.1f} {times[len(times) * 99 // 100] / 1e3:>8.1f} "
            f"{share:>9.2%} {rate:>10,.0f} {size:>11,.0f} {closed[0]['found']:>8} {loss_text}"
        )


def _child(python: str, tool: str, folder: Path, steps: int, events: int, end: str) -> dict[str, Any]:
    words = [
        python,
        str(Path(__file__)),
        tool,
        str(folder),
        str(steps),
        str(events),
        end,
    ]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=150)
    except subprocess.TimeoutExpired:
        return {"error": "timeout after 150 s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"times"')]
    if not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    result: dict[str, Any] = json.loads(lines[-1])
    # W&B writes in another process, which continues after the kill.
    time.sleep(2 if end == "kill" else 0)
    count = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import pathlib; "
    count += "from benchmarks._lib.trackers import TOOLS; "
    count += f"print('found', TOOLS[{tool!r}].count(pathlib.Path({str(folder)!r})))"
    output = subprocess.run(
        [python, "-c", count], check=False, capture_output=True, text=True, timeout=60
    ).stdout.split("found ")
    result["found"] = int(output[-1]) if len(output) > 1 else 0
    result["size"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "reserve")
    return result


class Step:
    """A training step of size nano with one thread."""

    def __init__(self, batches: int) -> None:
        from ockham.context import OccamContext
        from ockham.nano import Trainer, build_settings, load_corpus

        self._context = OccamContext
        self._trainer = Trainer(
            build_settings("nano", ["threads=1", f"max_iters={batches}"]), load_corpus(None)
        )

    def __call__(self, i: int) -> None:
        loss = self._trainer.forward(i)
        self._trainer.backward(self._context(i, loss, **self._trainer.context_fields(i)))
        self._trainer.step()


def main() -> None:
    """Measure one tool and print the result as JSON. Arguments: NAME FOLDER STEPS EVENTS kill|close."""
    parser = argparse.ArgumentParser(description="Measure one tool. Called by benchmarks.log_throughput.")
    parser.add_argument("name", choices=TOOLS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("events", type=int)
    parser.add_argument("end", choices=["close", "kill"])
    options = parser.parse_args()
    steps = options.steps
    step, tool = Step(steps), TOOLS[options.name](options.folder)
    times, shares, emitted = [], [], 0
    for i in range(steps):
        began = time.perf_counter_ns()
        step(i)
        middle = time.perf_counter_ns()
        for plugin in PLUGINS:
            record = decision(i, plugin)
            at = time.perf_counter_ns()
            tool.emit(record)
            times.append(time.perf_counter_ns() - at)
            emitted += 1
        shares.append((middle - began, time.perf_counter_ns() - middle))
    result = {"times": times, "shares": shares, "emitted": emitted}
    if options.end == "kill":
        result["acknowledged"] = tool.acknowledged() if hasattr(tool, "acknowledged") else None
        # These decisions are emitted after the acknowledgement.
        for i in range(60):
            tool.emit(decision(steps + i))
        result["emitted"] += 60
        print(json.dumps(result), flush=True)
        os.kill(os.getpid(), 9)
    began = time.perf_counter()
    while emitted < result["emitted"] + options.events and time.perf_counter() - began < 8:
        tool.emit(decision(emitted))
        emitted += 1
    tool.close()
    result["seconds"], result["burst"] = time.perf_counter() - began, emitted - result["emitted"]
    result["written"] = emitted
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
