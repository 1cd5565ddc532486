"""Cost of logging: training thread per decision, writer per event, and share of a real training step.

    .venv/bin/python -m benchmarks.log_throughput                    all measurements, about a minute
    .venv/bin/python -m benchmarks.log_throughput --events 100000
    .venv/bin/python -m benchmarks.log_throughput --trackers PYTHON    also structlog, TensorBoard, trackio,
    Aim, MLflow, W&B

PYTHON is the interpreter of an environment with torch, this package and the trackers: `python -m venv
trackers`, then `trackers/bin/pip install structlog tensorboard trackio aim mlflow wandb`.

Each value is compared with a floor of the same run: appending a tuple to a deque, and one thread that only
validates, encodes, hashes and writes.
"""

from __future__ import annotations

import argparse
import collections
import gc
import hashlib
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import orjson

from benchmarks._lib.trackers import decision
from benchmarks.tracker_overhead import compare_trackers
from ockham.event import envelope, event_id
from ockham.record.durable_io import atomic_write
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import encode_payload
from ockham.record.run_folder import RunFolder
from ockham.record.schema import validate_event
from ockham.run import Run

REVISION = "sha256:" + "ab" * 32


def append_floor_seconds(events: int) -> float:
    """Return the seconds per event to append a tuple to a deque."""
    queue: collections.deque[tuple[object, ...]] = collections.deque()
    record = decision(0)
    began = time.perf_counter()
    for i in range(events):
        queue.append(("decision.made", i, 0, "iter", record, False))
    return (time.perf_counter() - began) / events


def append_seconds(folder: Path, events: int) -> tuple[float, float]:
    """Return median and 99th percentile of the seconds per append, at a rate that the writer can sustain."""
    runs = RunFolder(folder, "append")
    runs.create()
    atomic_write(runs.run_json, b"{}")
    writer = LogWriter(runs, 1, 0, policy_revision=REVISION)
    records = [decision(i) for i in range(1_000)]
    times = []
    for start in range(0, events, 50):
        for i in range(50):
            began = time.perf_counter_ns()
            writer.append("decision.made", records[(start + i) % 1_000], iter_num=start + i)
            times.append(time.perf_counter_ns() - began)
        time.sleep(0.005)
    writer.close()
    return statistics.median(times) / 1e9, statistics.quantiles(times, n=100)[98] / 1e9


def writer_floor(folder: Path, events: int) -> float:
    """Return the events per second of one thread that validates, encodes, hashes, writes and syncs."""
    descriptor = os.open(folder / "floor.jsonl", os.O_WRONLY | os.O_CREAT, 0o644)
    began = synced = time.perf_counter()
    for i in range(events):
        data, _ = encode_payload(decision(i), REVISION)
        data = {"sequence": i, "attempt": 1, "rank": 0, **data}
        now = time.time_ns()
        event = envelope("decision.made", "floor", f"iter/{i}", now, event_id(now, i, 7), data)
        validate_event("decision.made", event)
        line = orjson.dumps(event)
        hashlib.sha256(b"\0" + line).digest()
        os.write(descriptor, line + b"\n")
        if time.perf_counter() - synced > 0.2:
            os.fdatasync(descriptor)
            synced = time.perf_counter()
    os.fdatasync(descriptor)
    os.close(descriptor)
    return events / (time.perf_counter() - began)


def writer(folder: Path, events: int) -> float:
    """Return the events per second of the log writer: also Merkle tree, tiles, read-back and signatures."""
    runs = RunFolder(folder, "writer")
    runs.create()
    atomic_write(runs.run_json, b"{}")
    log = LogWriter(runs, 1, 0, policy_revision=REVISION, queue_limit=1 << 30)
    began = time.perf_counter()
    for i in range(events):
        log.append("decision.made", decision(i), iter_num=i)
    log.flush()
    seconds = time.perf_counter() - began
    log.close()
    return events / seconds


def chain_cost(folder: Path, batches: int) -> tuple[float, float]:
    """Return the seconds per batch of the chain under preset balanced, and the decisions per batch."""
    times, draw = [], random.Random(3)
    with Run(
        "balanced",
        runs=folder,
        run_id="chain",
        facts={"max_iters": batches, "vocab_size": 256, "model_params": 1000},
    ) as run:
        first = run.attempt.log.next_sequence
        for i in range(batches):
            began = time.perf_counter()
            ctx = run.start_batch(i, 2 + draw.gauss(0, 0.3), learning_rate=1e-3, anchor_available=True)
            run.end_batch(
                ctx,
                grad_norm=draw.uniform(0.5, 2),
                complexity_cost=0.3 * draw.random(),
                drift_raw=0.3,
                seconds={"forward": 0.01},
            )
            times.append(time.perf_counter() - began)
            time.sleep(0.005)
        events = run.attempt.log.next_sequence - first
    return statistics.median(times), events / batches - 1


def step_seconds(batches: int) -> float:
    """Return the median seconds of a training step of size nano with one thread."""
    from ockham.context import OccamContext
    from ockham.nano import Trainer, build_settings, load_corpus

    trainer = Trainer(build_settings("nano", ["threads=1", f"max_iters={batches}"]), load_corpus(None))
    times = []
    for i in range(batches):
        began = time.perf_counter()
        loss = trainer.forward(i)
        trainer.backward(OccamContext(i, loss, **trainer.context_fields(i)))
        trainer.step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument(
        "--trackers", metavar="PYTHON", help="Interpreter of an environment with the trackers."
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.trackers:
        print(
            f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores, "
            f"Python {platform.python_version()}"
        )
        compare_trackers(options.trackers, options.steps, min(options.events, 3_000), options.rounds)
        return
    measure(options.events)


def measure(events: int) -> None:
    """Measure append, writer, chain and training step, and print the results."""
    gc.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor, (median, p99) = append_floor_seconds(events), append_seconds(folder, events // 6)
        slow, fast = writer(folder, events), writer_floor(folder, events)
        batch, decisions = chain_cost(folder, 1_000)
    step = step_seconds(60)
    print(
        f"machine: {platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    print(
        f"append one event: {median * 1e6:.2f} us median, {p99 * 1e6:.1f} us p99 "
        f"(floor: append a tuple to a deque, {floor * 1e6:.2f} us)"
    )
    print(
        f"writer: {slow:,.0f} events/s, {slow / fast:.2f} of the floor of {fast:,.0f} "
        "(validate, encode, hash, write, sync)"
    )
    print(
        f"chain, preset balanced: {batch * 1e6:.0f} us per batch, {decisions:.2f} decisions per batch, "
        f"{batch / max(decisions + 1, 1) * 1e6:.0f} us per event"
    )
    print(f"share of a step of {step * 1e3:.1f} ms (size nano, one thread): {batch / step:.2%}")
    print(f"threads left: {threading.active_count()}")


if __name__ == "__main__":
    main()
