"""Writer that checkpoints and prunes, in a forked process that is killed at a file effect."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from ockham.record import attempt as attempt_module
from ockham.record.attempt import Attempt
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.log_writer import LogWriter
from ockham.record.parquet.builder import update_parquet
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.fault_injection.file_effects import FileEffects

FACTS = {"max_iters": 1000, "vocab_size": 256}
CHECKPOINT_INTERVAL = 3
# A segment is sealed, and its Parquet is written, every few batches.
SEGMENT_EVENTS = 20


def pack(metadata, state):
    """Return the files of a checkpoint with small weights."""
    return CheckpointFiles({"state.json": orjson.dumps(state or metadata), "w": bytes(2000)}, "0" * 64)


def train(runs: Path, batches: int, acknowledge: Callable[[tuple[int, int, str, int]], Any]) -> None:
    """Start or resume run `a`. Report attempt, signed size, root and iteration after each checkpoint."""
    folder = RunFolder(runs, "a")
    start = find_resume_point(runs, "a") if folder.exists() else None
    with Run("balanced", runs=runs, run_id="a", facts=FACTS, resumed=start) as run:
        if start is not None and start.path is not None:
            run.load_state_dict(start.state["run"])
        first = start.iter_num if start is not None else 0
        for iter_num in range(first, first + batches):
            ctx = run.start_batch(iter_num, 3.0 + iter_num % 7 / 7, learning_rate=1e-3)
            run.end_batch(ctx, grad_norm=0.5)
            if iter_num % CHECKPOINT_INTERVAL == CHECKPOINT_INTERVAL - 1:
                run.save_checkpoint(ctx, "resume", pack)
                head = run.flush()
                acknowledge((run.attempt.number, head.size, head.root.hex(), iter_num))


def write_small_segments() -> None:
    """Seal segments early, and write their Parquet in this process, so that a kill stops both.

    Call it only in a process that ends afterwards.
    """
    attempt_module.LogWriter = partial(LogWriter, segment_events=SEGMENT_EVENTS)
    Attempt._derive_in_background = lambda self, _: update_parquet(self.folder, self.number, self.rank)


def run_until_kill(
    runs: Path, work: Callable[[Callable[..., Any]], None], kill_at: int, *, torn: bool = False
) -> tuple[list[Any], bool]:
    """Do *work* in a process that is killed at an effect. Return its reports, and whether it was killed.

    Raises:
        AssertionError: If the process ends with an error.

    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_work, args=(runs, work, sender.send, kill_at, torn))
    process.start()
    sender.close()
    reports = []
    try:
        while True:
            reports.append(receiver.recv())
    except (EOFError, OSError):
        # The pipe ends with the process.
        pass
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return reports, process.exitcode != 0


def _work(
    runs: Path, work: Callable[..., None], send: Callable[[Any], None], kill_at: int, torn: bool
) -> None:
    write_small_segments()
    FileEffects(runs, kill_at, torn=torn).install()
    work(send)


def train_work(runs: Path, batches: int) -> Callable[..., None]:
    """Return the work that trains for some batches."""
    return lambda send: train(runs, batches, send)


def repair_work(runs: Path) -> Callable[..., None]:
    """Return the work that repairs the run if it has a log."""

    def work(_send: Callable[..., Any]) -> None:
        folder = RunFolder(runs, "a")
        if folder.exists() and folder.logs():
            rebuild(folder)

    return work


def main() -> None:
    """Train without a kill, and print the counted effects as JSON."""
    runs, batches = Path(sys.argv[1]), int(sys.argv[2])
    write_small_segments()
    effects = FileEffects(runs)
    effects.install()
    train(runs, batches, lambda _: None)
    print(orjson.dumps(effects.names).decode(), flush=True)


if __name__ == "__main__":
    main()
