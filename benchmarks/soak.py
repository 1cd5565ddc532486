"""Soak test of one run: a simulated day with resumes, kills, a full disk and concurrent readers.

    python -m benchmarks.soak FOLDER [--batches 1000000] [--hours 24] [--fill] [--no-browser]

Each hour is one process (`benchmarks._lib.soak_worker`) that continues the run. Every sixth hour is killed
with SIGKILL. With --fill, FOLDER must be on a small separate file system. In the middle of the day the disk
is filled until the log halts, and then freed. In the meantime one reader runs a saved question, one counts
duplicate and missing events, one follows the decisions, and a browser reloads the dashboard. At the end the
benchmark prints the lost acknowledged events, and the results of `ockham verify` and `ockham replay`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks._lib.observers import OCKHAM, Observers, resident_mb
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines

RUN = "day"
FULL_SECONDS = 20.0
MB = 1_000_000


class PhaseResult(NamedTuple):
    """Result of one hour: how it ended, and the acknowledged events."""

    ended: str
    attempt: int
    acknowledged: int
    iter_num: int
    seconds: float
    peak_mb: float


def run_phase(runs: Path, until: int, total: int, *, stop_at: int = -1, fill: bool = False) -> PhaseResult:
    """Run one hour until it ends. At iteration *stop_at*, kill the process or fill the disk."""
    began, ended, peak = time.monotonic(), "finished", 0.0
    ballast = runs / ".ballast"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._lib.soak_worker", str(runs), RUN, str(until), str(total)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    attempt = size = iter_num = 0
    for line in process.stdout:
        _, *numbers = line.split()
        attempt, size, iter_num = map(int, numbers)
        peak = max(peak, resident_mb(process.pid))
        if 0 <= stop_at <= iter_num and ended == "finished":
            ended = "disk full" if fill else "killed"
            if fill:
                _fill(ballast)
            else:
                process.send_signal(signal.SIGKILL)
    errors = process.stderr.read().strip().splitlines()
    status = process.wait()
    ballast.unlink(missing_ok=True)
    if (ended, status) not in {("finished", 0), ("killed", -signal.SIGKILL)} and ended != "disk full":
        raise SystemExit(f"hour until iteration {until}: failed with exit status {status}: {errors[-1:]}")
    if ended == "disk full":
        ended += f", {errors[-1][:120]}" if errors else ", not detected"
    return PhaseResult(ended, attempt, size, iter_num, time.monotonic() - began, peak)


def _fill(ballast: Path) -> None:
    """Allocate all free blocks of the disk, and free them after some seconds."""
    with ballast.open("ab", buffering=0) as file:
        free = os.statvfs(ballast).f_bavail * os.statvfs(ballast).f_frsize
        for size in (free, free // 2, 16 * MB, MB, 4096):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:
                continue
    threading.Timer(FULL_SECONDS, lambda: ballast.unlink(missing_ok=True)).start()


def count_lines(folder: RunFolder, attempt: int) -> int:
    """Return the number of complete lines of an attempt."""
    return sum(len(read_complete_lines(segment)[0]) for segment in folder.segments(attempt, 0))


def run_hour(runs: Path, hour: int, options: argparse.Namespace) -> PhaseResult:
    """Run one hour. Every sixth hour is killed, and the disk is filled in the middle of the day."""
    until = options.batches * (hour + 1) // options.hours
    fill = options.fill and hour == options.hours // 2
    stop = until - options.batches // options.hours // 4 if fill or hour % 6 == 5 else -1
    return run_phase(runs, until, options.batches, stop_at=stop, fill=fill)


def main() -> None:
    """Run the day, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    runs = options.folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    if options.fill and shutil.disk_usage(runs).total > 16_000 * MB:
        parser.error(
            f"--fill: the file system has {shutil.disk_usage(runs).total // MB:,} MB; "
            "use a folder on a small separate file system"
        )
    os.environ["PYTHONPATH"] = str(Path.cwd())
    began = time.monotonic()
    print(
        "| hour | ended | iteration | events acknowledged | trainer peak MB | dashboard MB | page s | s |\n"
        "|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    hours = []
    with Observers(runs, RUN, browser=not options.no_browser) as observers:
        for hour in range(options.hours):
            result = run_hour(runs, hour, options)
            hours.append(result)
            sample = observers.since_last()
            print(
                f"| {hour} | {result.ended} | {result.iter_num + 1:,} | {result.acknowledged:,} | "
                f"{result.peak_mb:.0f} | {sample.dashboard_mb:.0f} | {sample.page_seconds:.1f} | "
                f"{result.seconds:.0f} |",
                flush=True,
            )
    print(f"\ntotal: {time.monotonic() - began:.0f} s")
    print(observers.summary())
    print_losses(RunFolder(runs, RUN), hours)


def print_losses(folder: RunFolder, hours: list[PhaseResult]) -> None:
    """Print the lost acknowledged events, and the results of verify and replay."""
    last = {hour.attempt: hour.acknowledged for hour in hours}
    lost = sum(max(0, events - count_lines(folder, attempt)) for attempt, events in last.items())
    print(f"acknowledged events lost: {lost} of {sum(last.values()):,}, in {len(last)} attempts")
    for command in ("verify", "replay"):
        began = time.monotonic()
        result = subprocess.run(
            [*OCKHAM, "--runs", str(folder.runs), command, RUN, "-f", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(result.stdout)
        summary = {
            key: value
            for key, value in report.items()
            if key in ("checked", "counts") or isinstance(value, (int, str))
        }
        print(f"{command}: exit status {result.returncode} in {time.monotonic() - began:.0f} s, {summary}")


if __name__ == "__main__":
    main()
