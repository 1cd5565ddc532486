"""Several training processes on one machine, run in turns of one block of steps.

Noise on the machine then affects all of them equally. Each process calls `BlockTimer` after every step. At
the end of a block it sends the measurements to the parent and waits for its next turn. CPU seconds include
all threads of the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


def python_path() -> str:
    """Return the module path of a child process: the checkout, then that of this process."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class Block(NamedTuple):
    """Measurements of one block: wall and CPU seconds, losses by step, and further values by name."""

    last: int
    steps: int
    wall: float
    cpu: float
    losses: dict[int, float]
    more: dict[str, float]


class BlockTimer:
    """Measures blocks in a training process. Call it with the step number and the loss after each step.

    Args:
        block: Number of steps per block.
        more: Returns further values at the end of each block.

    """

    def __init__(self, block: int, more: Callable[[], dict[str, float]] = dict) -> None:
        self.block = block
        self.more = more
        self.out = os.fdopen(int(os.environ["PACE_OUT"]), "w")
        self.turn = os.fdopen(int(os.environ["PACE_IN"]))
        self.losses: dict[int, float] = {}
        self.before = -1
        self._start()

    def __call__(self, step: int, loss: float) -> None:
        self.losses[step] = loss
        if step - self.before >= self.block:
            wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
            block = [step, step - self.before, wall, cpu, self.losses, {**memory(), **self.more()}]
            self.out.write(json.dumps(block) + "\n")
            self.out.flush()
            self.before, self.losses = step, {}
            self._start()

    def _start(self) -> None:
        # The parent closes the pipe when it has enough blocks.
        if self.turn.readline() != "go\n":
            os._exit(0)
        self.wall, self.cpu = time.perf_counter(), time.process_time()


def memory() -> dict[str, float]:
    """Return the peak memory in MB, of the GPU if one is used."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return {"peak_mb": torch.cuda.max_memory_allocated() / 1e6}
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


class BenchProcess:
    """One training process: `python -c code` in a folder."""

    def __init__(self, name: str, code: str, folder: Path, environment: dict[str, str] | None = None) -> None:
        result_pipe, turn_pipe = os.pipe(), os.pipe()
        self.name = name
        self.blocks: list[Block] = []
        self._log = (folder / f"{name.replace(' ', '-')}.log").open("w+")
        env = {
            **os.environ,
            "PACE_OUT": str(result_pipe[1]),
            "PACE_IN": str(turn_pipe[0]),
            "PYTHONPATH": python_path(),
            **(environment or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=env.get("PACE_FOLDER", folder),
            env=env,
            pass_fds=(result_pipe[1], turn_pipe[0]),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.close(result_pipe[1])
        os.close(turn_pipe[0])
        self._results = os.fdopen(result_pipe[0])
        self._turn = os.fdopen(turn_pipe[1], "w")

    def run_block(self) -> Block:
        """Run one block and return its measurements."""
        self.start_block()
        return self.finish_block()

    def start_block(self) -> None:
        """Let the process run its next block."""
        # A process that has ended is reported by `finish_block`.
        with contextlib.suppress(BrokenPipeError):
            self._turn.write("go\n")
            self._turn.flush()

    def finish_block(self) -> Block:
        """Wait for the end of the block. Return its measurements, or raise SystemExit."""
        line = self._results.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self.name}: process failed:\n{self._log.read()[-1500:]}")
        last, steps, wall, cpu, losses, more = json.loads(line)
        self.blocks.append(Block(last, steps, wall, cpu, {int(k): v for k, v in losses.items()}, more))
        return self.blocks[-1]

    def end(self) -> None:
        """Stop the process after the current block."""
        with contextlib.suppress(BrokenPipeError):
            self._turn.close()
        self.process.wait(60)


@contextlib.contextmanager
def run_interleaved(arms: list[BenchProcess]) -> Iterator[Callable[[], Any]]:
    """Context manager that returns a function which runs one block of every process.

    Stops all processes at the end.
    """
    try:
        yield lambda: [arm.run_block() for arm in arms]
    finally:
        for arm in arms:
            arm.end()
