"""Ranks for tests: threads of one process without torch, or processes as torchrun starts them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ockham import resources
from tests.helpers.forked_cli import start

LIMIT_SECONDS = 60
TRAIN_SCRIPT = str(resources.data_root() / "train.py")


def thread_all_gathers(world_size: int) -> list[Callable[[bytes], list[bytes]]]:
    """Return one `gather` per rank. A rank that does not call it breaks the barrier for all."""
    message: list[bytes] = [b""] * world_size
    barrier = threading.Barrier(world_size)

    def make_gather(rank: int) -> Callable[[bytes], list[bytes]]:
        def gather(own: bytes) -> list[bytes]:
            message[rank] = own
            barrier.wait(LIMIT_SECONDS)
            heard = list(message)
            barrier.wait(LIMIT_SECONDS)
            return heard

        return gather

    return [make_gather(rank) for rank in range(world_size)]


def run_on_threads(
    work: Callable[[int, Callable[[bytes], list[bytes]]], Any], world_size: int = 2
) -> list[Any]:
    """Run `work(rank, gather)` for all ranks in parallel. Return the result or the error of each."""
    done: list[Any] = [None] * world_size

    def one(rank: int, gather: Callable[[bytes], list[bytes]]) -> None:
        try:
            done[rank] = work(rank, gather)
        except BaseException as error:
            done[rank] = error

    threads = [
        threading.Thread(target=one, args=(rank, gather))
        for rank, gather in enumerate(thread_all_gathers(world_size))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def start_ranks(
    folder: Path, world_size: int, *words: str, script: Sequence[str] = (TRAIN_SCRIPT,), **env: str
) -> list[BaseProcess]:
    """Start a tiny `train.py` on CPU ranks with the environment of torchrun, without its start time."""
    from tests.helpers.tiny_trainer import TINY, text

    if not (folder / "text.txt").exists():
        text(folder)
    sets = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]
    files = ("--runs", str(folder / "runs"), "--data", str(folder / "text.txt"))
    env.setdefault("OCKHAM_KEY_DIR", str(folder / "keys"))
    return spawn_ranks(world_size, *script, *files, *sets, *words, **env)


def spawn_ranks(world_size: int, *words: str, cwd: Path | None = None, **env: str) -> list[BaseProcess]:
    """Start a Python command on each of *world_size* ranks, in *cwd* or the source tree."""
    from torch.distributed import TCPStore

    # As torchrun does, serve the store of the ranks here, so that no other program can take its port.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCKHAM")}
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": "1",
        **env,
    }
    each = [{**kept, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]
    processes = [start(*words, env=own, cwd=cwd or resources.data_root()) for own in each]
    # The store ends with the process objects.
    processes[0].store = store
    return processes
