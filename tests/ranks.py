"""Ranks as threads of one process, for whatever needs no torch, and as processes, as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ockham import shipped

LIMIT_SECONDS = 20
PRELOADED = [
    "torch",
    "torch.distributed.fsdp",
    "torch._dynamo",
    "ockham.cli",
    "ockham.nano.parallel",
    "ockham.run",
]


def gathers(world_size: int) -> list[Callable[[bytes], list[bytes]]]:
    """One `gather` for each rank; a rank that stays away breaks the barrier for all."""
    said: list[bytes] = [b""] * world_size
    barrier = threading.Barrier(world_size)

    def gather_of(rank: int) -> Callable[[bytes], list[bytes]]:
        def gather(own: bytes) -> list[bytes]:
            said[rank] = own
            barrier.wait(LIMIT_SECONDS)
            heard = list(said)
            barrier.wait(LIMIT_SECONDS)
            return heard

        return gather

    return [gather_of(rank) for rank in range(world_size)]


def at_once(work: Callable[[int, Callable[[bytes], list[bytes]]], Any], world_size: int = 2) -> list[Any]:
    """Run `work(rank, gather)` for every rank at once; returns for each what it returned or raised."""
    done: list[Any] = [None] * world_size

    def one(rank: int, gather: Callable[[bytes], list[bytes]]) -> None:
        try:
            done[rank] = work(rank, gather)
        except BaseException as error:
            done[rank] = error

    threads = [
        threading.Thread(target=one, args=(rank, gather)) for rank, gather in enumerate(gathers(world_size))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def started(folder: Path, world_size: int, *words: str, **env: str) -> list[BaseProcess]:
    """`train.py` on ranks as torchrun starts them, tiny and on the CPU, without torchrun's own seconds."""
    from tests.workshop import TINY, text

    if not (folder / "text.txt").exists():
        text(folder)
    sets = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]
    files = ("--runs", str(folder / "runs"), "--data", str(folder / "text.txt"))
    env.setdefault("OCKHAM_KEY_DIR", str(folder / "keys"))
    return spawned(world_size, str(shipped.root() / "train.py"), *files, *sets, *words, **env)


def spawned(world_size: int, *words: str, **env: str) -> list[BaseProcess]:
    """Any Python command on so many ranks; stdout and stderr go to files beside each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCKHAM")}
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size),
              "LOCAL_WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1", **env}  # fmt: skip
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)  # torch is imported once, not once a rank
    processes = []
    for rank in range(world_size):
        own = {**kept, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        said = [tempfile.mkstemp()[1] for _ in range(2)]
        process = context.Process(target=_rank, args=(words, own, *said))
        process.said = said
        process.start()
        processes.append(process)
    return processes


def _rank(words: tuple[str, ...], env: dict[str, str], out: str, err: str) -> None:
    """In the new process: become the command."""
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
    sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))
    os.chdir(shipped.root())
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__")
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def ended(processes: list[BaseProcess], seconds: float = 100) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each rank, which must all end by themselves."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            for each in processes:
                each.kill()
            raise TimeoutError([Path(path).read_text() for each in processes for path in each.said])
    return [(p.exitcode, *(Path(path).read_text() for path in p.said)) for p in processes]
