"""A simulated day of one run: resumes, kills, a full disk, and those who look at it meanwhile.

    python -m benchmarks.soak FOLDER [--batches 1000000] [--hours 24] [--fill] [--no-browser]

Each hour is a process of its own (`benchmarks._lib.soak_worker`) that goes on where the last one left the run; every sixth is killed
with SIGKILL before its end. With --fill, FOLDER is on a small file system of its own, and the disk is filled up in the middle of the
day until the log halts; then space is given back. All the while one reader asks a saved question, one counts what is
in the log twice or not at all, one follows the decisions, and a browser reloads the dashboard. At the end: what was
acknowledged and is gone, and what `ockham verify` and `ockham replay` say.
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
from ockham.record.parquet.tables import read_complete_lines
from ockham.record.run_folder import RunFolder

RUN = "day"
FULL_SECONDS = 20.0
MB = 1_000_000


class PhaseResult(NamedTuple):
    """What became of one hour: how it ended, and what it had acknowledged."""

    ended: str
    attempt: int
    acknowledged: int
    iter_num: int
    seconds: float
    peak_mb: float


def run_phase(runs: Path, until: int, total: int, *, stop_at: int = -1, fill: bool = False) -> PhaseResult:
    """Run an hour to its end, or until it has told of `stop_at`: then kill it, or fill the disk under it."""
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
        _, *told = line.split()
        attempt, size, iter_num = map(int, told)
        peak = max(peak, resident_mb(process.pid))
        if 0 <= stop_at <= iter_num and ended == "finished":
            ended = "disk full" if fill else "killed"
            if fill:
                _fill(ballast)
            else:
                process.send_signal(signal.SIGKILL)
    said = process.stderr.read().strip().splitlines()
    status = process.wait()
    ballast.unlink(missing_ok=True)
    if (ended, status) not in {("finished", 0), ("killed", -signal.SIGKILL)} and ended != "disk full":
        raise SystemExit(f"the hour to {until} ended with {status}: {said[-1:]}")
    if ended == "disk full":
        ended += f", {said[-1][:120]}" if said else ", and it did not notice"
    return PhaseResult(ended, attempt, size, iter_num, time.monotonic() - began, peak)


def _fill(ballast: Path) -> None:
    """Take every block that is free, at once, and give them back after a while."""
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
    """Whole lines of an attempt's log."""
    return sum(len(read_complete_lines(segment)[0]) for segment in folder.segments(attempt, 0))


def main() -> None:
    """The day, then the reckoning."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--no-browser", action="store_true")
    given = parser.parse_args()
    runs = given.folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    if given.fill and shutil.disk_usage(runs).total > 16_000 * MB:
        parser.error(
            f"--fill would fill {shutil.disk_usage(runs).total // MB:,} MB: give a folder on a small file system of its own"
        )
    os.environ["PYTHONPATH"] = str(Path.cwd())
    began = time.monotonic()
    print(
        "| hour | ended | iteration | events acknowledged | trainer peak MB | dashboard MB | page s | s |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    hours = []
    with Observers(runs, RUN, browser=not given.no_browser) as onlookers:
        for hour in range(given.hours):
            until = given.batches * (hour + 1) // given.hours
            fill = given.fill and hour == given.hours // 2
            stop = until - given.batches // given.hours // 4 if fill or hour % 6 == 5 else -1
            found = run_phase(runs, until, given.batches, stop_at=stop, fill=fill)
            hours.append(found)
            seen = onlookers.since_last()
            print(
                f"| {hour} | {found.ended} | {found.iter_num + 1:,} | {found.acknowledged:,} | {found.peak_mb:.0f} | {seen.dashboard_mb:.0f} | "
                f"{seen.page_seconds:.1f} | {found.seconds:.0f} |",
                flush=True,
            )
    print(f"\nthe day: {time.monotonic() - began:.0f} s")
    print(onlookers.summary())
    print_losses(RunFolder(runs, RUN), hours)


def print_losses(folder: RunFolder, hours: list[PhaseResult]) -> None:
    """Acknowledged and gone; verify; replay."""
    last = {hour.attempt: hour.acknowledged for hour in hours}
    lost = sum(max(0, told - count_lines(folder, attempt)) for attempt, told in last.items())
    print(f"acknowledged events lost: {lost} of {sum(last.values()):,}, in {len(last)} attempts")
    for verb in ("verify", "replay"):
        began = time.monotonic()
        found = subprocess.run(
            [*OCKHAM, "--runs", str(folder.runs), verb, RUN, "-f", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        told = json.loads(found.stdout)
        short = {
            key: value
            for key, value in told.items()
            if key in ("checked", "counts") or isinstance(value, (int, str))
        }
        print(f"{verb}: exit {found.returncode} in {time.monotonic() - began:.0f} s, {short}")


if __name__ == "__main__":
    main()
