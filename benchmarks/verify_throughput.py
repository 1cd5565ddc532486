"""Events per second and memory of verify, compared with hashing the same lines.

.venv/bin/python -m benchmarks.verify_throughput                      26,000 events, with and without
Parquet
.venv/bin/python -m benchmarks.verify_throughput --events 1000000     one long log; processes and memory
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from ockham.record.run_folder import RunFolder, segment_name
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import HeadWriter, origin
from ockham.record.verify.run import verify_run
from tests.helpers.runs import make_run

SEGMENT = 20_000


def floor(lines: list[bytes]) -> float:
    """Return the events per CPU second of leaf and tree hashes only."""
    began = time.process_time()
    frontier = CompactRange()
    for line in lines:
        frontier.append(leaf_hash(line))
    return len(lines) / (time.process_time() - began)


def repeat_batches(lines: list[bytes], events: int) -> Iterator[bytes]:
    """Yield the first line, then the batches of a run repeatedly, with increasing sequences."""
    opening, *rest = (orjson.loads(line) for line in lines)
    yield orjson.dumps(opening)
    batch = [
        event for event in rest if event["data"].get("hook") in ("batch", "on_batch_start", "on_batch_end")
    ]
    last = max(event["data"]["iter_num"] for event in batch) + 1
    sequence, first, repetition = 1, 1, 0
    while sequence < events:
        for event in batch:
            data = {
                **event["data"],
                "sequence": sequence,
                "iter_num": event["data"]["iter_num"] + repetition * last,
            }
            if data["hook"] == "batch":
                count = sequence - first
                data["decisions"] = {"first": first if count else None, "count": count}
                first = sequence + 1
            yield orjson.dumps({**event, "data": data})
            sequence += 1
        repetition += 1


def long_run(runs: Path, events: int) -> RunFolder:
    """Return a signed log with the given number of events."""
    folder = make_run(runs, batches=2_000).folder
    lines = [line for s in folder.segments(1, 0) for line in s.read_bytes().splitlines()]
    for part in ("log", "contexts", "decisions", "events", "checkpoints"):
        shutil.rmtree(folder.path / part, ignore_errors=True)
    path = folder.log_dir(1, 0)
    path.mkdir(parents=True)
    heads = HeadWriter(path, origin("a", 1, 0), load_or_create_signer())
    segment: list[bytes] = []
    at = 0
    for line in repeat_batches(lines, events):
        segment.append(line)
        if len(segment) == SEGMENT:
            at = _segment(path, at, segment, heads)
    _segment(path, at, segment, heads)
    heads.sign()
    return folder


def _segment(path: Path, first: int, lines: list[bytes], heads: HeadWriter) -> int:
    data = b"".join(line + b"\n" for line in lines)
    (path / segment_name(first)).write_bytes(data)
    heads.ingest(path / segment_name(first), len(data), hashlib.sha256(data).digest())
    first += len(lines)
    lines.clear()
    return first


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def cpu() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    process, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return process.ru_utime + process.ru_stime + children.ru_utime + children.ru_stime


def measure_long(runs: Path, events: int) -> None:
    """Verify a long log with one and with two processes, and print speed and memory."""
    folder = long_run(runs, events)
    segment = folder.segments(1, 0)[0].read_bytes().splitlines()
    print(f"floor, leaf and tree hashes: {floor(segment):,.0f} events per CPU second")
    before = resident_mb()
    memory_mb: list[float] = []
    for jobs in (1, 2):
        used, began = cpu(), time.perf_counter()
        report = verify_run(
            folder,
            parquet=False,
            jobs=jobs,
            progress=lambda _: memory_mb.append(resident_mb()),
        )
        seconds, used = time.perf_counter() - began, cpu() - used
        count = report.checked["events"]
        assert report.sound, report.findings[:3]
        print(
            f"verify, {count:,} events, {jobs} process(es): {count / used:,.0f} events per CPU second, "
            f"{count / seconds:,.0f} per second"
        )
        if jobs == 1:
            print(
                f"resident: {before:.0f} MB before, {memory_mb[0]:.0f} MB after the first segment, "
                f"{max(memory_mb):.0f} MB at most, {memory_mb[-1]:.0f} MB after the last"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=8_000)
    parser.add_argument("--events", type=int)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        os.environ["OCKHAM_KEY_DIR"] = f"{name}/keys"
        if options.events:
            measure_long(Path(name), options.events)
            return
        folder = make_run(Path(name), batches=options.batches).folder
        lines = [line for s in folder.segments(1, 0) for line in s.read_bytes().splitlines()]
        best = floor(lines)
        size = sum(map(len, lines)) / 1e6
        print(f"{len(lines):,} events, {size:.1f} MB, {size * 1e6 / len(lines):.0f} bytes each")
        print(f"floor, leaf and tree hashes: {best:,.0f} events per CPU second")
        for what, derived in (("log only", False), ("with Parquet", True)):
            began = time.process_time()
            report = verify_run(folder, parquet=derived)
            rate = len(lines) / (time.process_time() - began)
            assert report.sound, report.findings
            print(f"verify, {what}: {rate:,.0f} events per CPU second, {rate / best:.2f} of the floor")


if __name__ == "__main__":
    main()
