"""Ranks as threads of one process, for whatever needs no torch: `gather` over a barrier."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

LIMIT_SECONDS = 20


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
