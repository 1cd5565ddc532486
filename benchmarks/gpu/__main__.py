"""Run all measurements that need a GPU, in order of importance, within a time limit.

    python -m benchmarks.gpu --reference ../nanoGPT --minutes 8 --out gpu     on a machine with a GPU
    python -m benchmarks.gpu --reference ../nanoGPT --out dry --dry-run       the same code on a CPU

Each step runs in a process of its own. A crash or a time limit ends only that step. The command can be
interrupted and repeated: steps that are done are skipped. Each result is one line of `results.jsonl` as soon
as it is known, and `table.md` is written at the end. The run folders are in `runs`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from benchmarks._lib.interleaved import python_path
from benchmarks.gpu.machine import read_machine
from benchmarks.gpu.plan import STEPS, Step
from benchmarks.gpu.results import DONE, STATUS, ResultFile, write_table

# A step that has less time than this is not started.
MIN_STEP_SECONDS = 5.0
ERROR_BYTES = 2_000
# A worker whose command was killed ends within a second.
LOCK_SECONDS = 15.0
LOCK_POLL_SECONDS = 0.1


def parse_options(words: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--reference", type=Path, required=True, help="Folder of a nanoGPT checkout.")
    parser.add_argument("--minutes", type=float, default=8.0, help="Time limit of this call.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the results.")
    parser.add_argument("--dry-run", action="store_true", help="Run with tiny sizes on the CPU.")
    options = parser.parse_args(words)
    for name in ("train.py", "model.py"):
        if not (options.reference / name).is_file():
            parser.error(f"--reference {options.reference}: {name} not found; use a nanoGPT checkout")
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes}: must be greater than 0")
    return options


def lock_folder(folder: Path, seconds: float = 0.0) -> BinaryIO:
    """Return an open file with the exclusive lock of a folder. Processes that inherit the file hold it too.

    The worker of a killed command writes for up to a second longer. Its steps must not be tried meanwhile.

    Raises:
        BlockingIOError: If other processes hold the lock after *seconds*.

    """
    file = (folder / "lock").open("ab")
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return file


class StepRunner:
    """Runs steps in processes with a time limit.

    Args:
        options: Options of the command.
        results: File of the results.
        lock: Locked file, which the processes inherit.

    """

    def __init__(self, options: argparse.Namespace, results: ResultFile, lock: BinaryIO) -> None:
        self.options = options
        self.results = results
        self.lock = lock
        self.deadline = time.monotonic() + options.minutes * 60
        self.tried: set[str] = set()
        self.process: subprocess.Popen[bytes] | None = None

    def run_all(self) -> None:
        """Run all steps that are due until the time is over."""
        while due := self._list_due():
            # Starting a process takes most of the time of a dry run.
            batch = due if self.options.dry_run else due[:1]
            remaining = self.deadline - time.monotonic()
            seconds = remaining if self.options.dry_run else min(batch[0].limit_seconds, remaining)
            if seconds < MIN_STEP_SECONDS:
                print(f"{due[0].name} and later steps: not started, the time is over", flush=True)
                return
            self._run([step.name for step in batch], seconds)

    def stop(self) -> None:
        """Kill the present step and all processes that it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def is_complete(self) -> bool:
        """Return True if every step that is needed is done."""
        return all(self.results.status(step.name) == DONE for step in self._list_needed())

    def _list_needed(self) -> list[Step]:
        return [
            step
            for step in STEPS
            if (step.in_dry_run or not self.options.dry_run)
            and (not step.after_failure_of or self.results.status(step.after_failure_of) not in ("", DONE))
        ]

    def _list_due(self) -> list[Step]:
        """Return the steps that are not done and were not tried by this call."""
        needed = self._list_needed()
        return [s for s in needed if s.name not in self.tried and self.results.status(s.name) != DONE]

    def _run(self, names: list[str], seconds: float) -> None:
        """Run steps in one process, which records each step that is done. Record the first that is not."""
        print(f"{', '.join(names)}: started, at most {seconds:.0f} s", flush=True)
        log = self.options.out / "logs" / f"{names[0]}.log"
        started = time.monotonic()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.worker", *names, *self._worker_options()],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": python_path()},
                # One group with the processes that the step starts.
                start_new_session=True,
                pass_fds=(self.lock.fileno(),),
            )
            cause = "failed"
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                cause = "timeout"
            finally:
                self.stop()
        undone = [name for name in names if self.results.status(name) != DONE]
        if undone:
            error = log.read_bytes()[-ERROR_BYTES:].decode(errors="replace")
            self.results.append(
                undone[0], STATUS, status=cause, seconds=time.monotonic() - started, error=error
            )
        self.tried.update(names if not undone else names[: names.index(undone[0]) + 1])
        for name in names[: names.index(undone[0]) + 1] if undone else names:
            print(f"{name}: {self.results.status(name)}", flush=True)

    def _worker_options(self) -> list[str]:
        options = self.options
        words = ["--reference", str(options.reference), "--out", str(options.out)]
        return [*words, "--stamp", json.dumps(self.results.stamp), *(["--dry-run"] * options.dry_run)]


def main(words: list[str]) -> int:
    """Run the command and return its exit status."""
    options = parse_options(words)
    options.reference, options.out = options.reference.resolve(), options.out.resolve()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *words])
    stamp = {"command": command, "dry_run": options.dry_run, **read_machine(dry_run=options.dry_run)}
    results = ResultFile(options.out, stamp)
    try:
        lock = lock_folder(options.out, LOCK_SECONDS)
    except BlockingIOError:
        print(f"--out {options.out}: another call is running in this folder", file=sys.stderr)
        return 2
    runner = StepRunner(options, results, lock)
    # SIGTERM ends the step too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        runner.run_all()
    finally:
        runner.stop()
        print(write_table(results).read_text(encoding="utf-8"), flush=True)
        lock.close()
    return 0 if runner.is_complete() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
