"""The same decisions under Ockham and under trackers, in a real training step, in a burst, and with a kill.

`python -m benchmarks.log_throughput --beside PYTHON` calls this module, and starts it once per tool.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._lib.trackers import TOOLS, decision

PLUGINS = ("gate", "compressor", "limiter", "watchdog", "anchor", "finite")


def compare_trackers(python: str, steps: int, events: int, rounds: int) -> None:
    """Run every tool in separate processes, in turns, and print the table.

    The last round kills the process.
    """
    print(
        f"six decisions in each of {steps} training steps, {rounds} rounds in turns; burst: up to {events} events, 8 s"
    )
    with tempfile.TemporaryDirectory() as name:
        told: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
        for number in range(rounds + 1):
            for tool in TOOLS:
                end = "kill" if number == rounds else "close"
                told[tool].append(_child(python, tool, Path(name) / f"{tool}-{number}", steps, events, end))
    print("tool         p50 us   p99 us  of a step  events/s  bytes/event  written  lost by kill -9")
    for tool, runs in told.items():
        closed, killed = [run for run in runs[:-1] if "seconds" in run], runs[-1]
        if not closed or "emitted" not in killed:
            print(f"{tool:<11} did not run: {runs[0].get('error') or killed.get('error')}")
            continue
        times = sorted(time for run in closed for time in run["times"])
        steps_us = [pair for run in closed for pair in run["shares"]]
        share = statistics.median(mine / step for step, mine in steps_us)
        rate = max(run["burst"] / run["seconds"] for run in closed)
        size = statistics.median(run["size"] / run["written"] for run in closed)
        lost = killed["emitted"] - killed["found"]
        said = killed.get("acknowledged")
        promise = "" if said is None else f"; of {said} acknowledged {max(0, said - killed['found'])}"
        kept = (
            f"{lost} of {killed['emitted']}{promise}"
            if closed[0]["found"]
            else "its own reader finds nothing"
        )
        print(
            f"{tool:<11} {times[len(times) // 2] / 1e3:>7.1f} {times[len(times) * 99 // 100] / 1e3:>8.1f} {share:>9.2%} "
            f"{rate:>10,.0f} {size:>11,.0f} {closed[0]['found']:>8} {kept}"
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
        return {"error": "it took more than 150 s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"times"')]
    if not lines:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:120]}
    told: dict[str, Any] = json.loads(lines[-1])
    time.sleep(2 if end == "kill" else 0)  # W&B writes in a process of its own, which outlives the kill
    count = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]; import pathlib, trackers; "
    count += f"print('found', trackers.TOOLS[{tool!r}].count(pathlib.Path({str(folder)!r})))"
    found = subprocess.run(
        [python, "-c", count], check=False, capture_output=True, text=True, timeout=60
    ).stdout.split("found ")
    told["found"] = int(found[-1]) if len(found) > 1 else 0
    told["size"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "reserve")
    return told


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
    name, folder, steps, events, end = (
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5],
    )
    step, tool = Step(steps), TOOLS[name](folder)
    times, shares, emitted = [], [], 0
    for i in range(steps):
        began = time.perf_counter_ns()
        step(i)
        middle = time.perf_counter_ns()
        for plugin in PLUGINS:
            made = decision(i, plugin)
            at = time.perf_counter_ns()
            tool.emit(made)
            times.append(time.perf_counter_ns() - at)
            emitted += 1
        shares.append((middle - began, time.perf_counter_ns() - middle))
    told = {"times": times, "shares": shares, "emitted": emitted}
    if end == "kill":
        told["acknowledged"] = tool.acknowledged() if hasattr(tool, "acknowledged") else None
        for i in range(60):  # behind the acknowledgement
            tool.emit(decision(steps + i))
        told["emitted"] += 60
        print(json.dumps(told), flush=True)
        os.kill(os.getpid(), 9)
    began = time.perf_counter()
    while emitted < told["emitted"] + events and time.perf_counter() - began < 8:
        tool.emit(decision(emitted))
        emitted += 1
    tool.close()
    told["seconds"], told["burst"] = time.perf_counter() - began, emitted - told["emitted"]
    told["written"] = emitted
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
