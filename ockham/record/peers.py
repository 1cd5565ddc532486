"""Peers: the ranks of one attempt, what they do one after the other, and what they must agree on.

The record knows no network: whoever starts the ranks hands over `gather`, which takes some bytes and returns those of
every rank in order (`ockham.nano.Ranks.gather`, or `allgather` of an MPI communicator).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

from ockham.context import KNOBS, OccamContext, knob_values
from ockham.errors import RankError, RunError
from ockham.event import lossless

Gather = Callable[[bytes], Sequence[bytes]]
Result = TypeVar("Result")
OWN = frozenset({"example_gain"})  # weights of a rank's own examples: the one knob that may differ


class Diverged(NamedTuple):
    """A disagreement: the event's fields, and one sentence."""

    event: dict[str, Any]
    message: str


class Peers:
    """The ranks of one attempt; alone, every method is nothing.

    Args:
        rank: this one, from 0.
        world_size: how many there are.
        gather: hands bytes to every rank and returns those of all, in order of rank. Without it nothing waits for
            another rank and nothing is compared.

    Raises:
        RunError: if `gather` returns something else than one answer for each rank.

    """

    def __init__(self, rank: int = 0, world_size: int = 1, gather: Gather | None = None) -> None:
        if not 0 <= rank < world_size:
            raise RunError(f"rank {rank} of {world_size}: ranks count from 0 and stay below the world size")
        self.rank, self.world_size = rank, world_size
        self.gather = gather if world_size > 1 else None

    @contextlib.contextmanager
    def alike(self) -> Iterator[None]:
        """Nobody leaves the block before all have; what fails in it on one rank fails on all.

        Raises:
            RunError: on the ranks that did not fail, with what the first one said that did.

        """
        try:
            yield
        except RankError:
            raise  # nobody is left to tell
        except Exception as error:
            self._all(f" {error}".encode())
            raise
        for rank, said in enumerate(self._all(b"")):
            if said:
                raise RunError(f"rank {rank}:{said.decode(errors='replace')}")

    def together(self, action: Callable[[], Result]) -> Result:
        """Everyone does it, and nobody goes on before all have."""
        with self.alike():
            return action()

    def first(self, action: Callable[[], Result]) -> Result | None:
        """Rank 0 does it and the others, who get None, wait until it has."""
        return self.together(action if self.rank == 0 else lambda: None)

    def one(self, value: int) -> int:
        """The largest of what the ranks hold."""
        return max(int(text) for text in self._all(b"%d" % value))

    def same(self, what: Mapping[str, Any]) -> None:
        """Refuse to begin where a rank was started with something else than rank 0.

        Raises:
            RunError: naming the rank and the first thing that differs.

        """
        own = {name: hashlib.sha256(_json(value)).hexdigest() for name, value in what.items()}
        first, *others = (orjson.loads(text) for text in self._all(_json(own)))
        for rank, other in enumerate(others, 1):
            for name in {**first, **other}:
                if other.get(name) != first.get(name):
                    raise RunError(f"rank {rank} was started with another {name} than rank 0")

    def disagreement(self, ctx: OccamContext, hook: str) -> Diverged | None:
        """Compare how the chain left the context: None where every rank left it alike.

        16 bytes a rank are exchanged; the values only where they differ.
        """
        if self.gather is None:
            return None
        judged = (hook, ctx.iter_num, ctx.micro_step, ctx.task_loss, ctx.val_loss, _shared(ctx))
        if len(set(self._all(hashlib.blake2b(repr(judged).encode(), digest_size=16).digest()))) == 1:
            return None
        values = {"hook": hook, "iter_num": ctx.iter_num, "micro_step": ctx.micro_step, "task_loss": ctx.task_loss,
                  "val_loss": ctx.val_loss, **_shared(ctx)}  # fmt: skip
        return _diverged(ctx, hook, [orjson.loads(text) for text in self._all(_json(values))])

    def _all(self, own: bytes) -> Sequence[bytes]:
        if self.gather is None:
            return [own]
        said = self.gather(own)
        if len(said) != self.world_size:
            raise RunError(f"gather returned {len(said)} answers for {self.world_size} ranks")
        return said


def _shared(ctx: OccamContext) -> dict[str, Any]:
    return {name: value for name, value in zip(KNOBS, knob_values(ctx), strict=True) if name not in OWN}


def _diverged(ctx: OccamContext, hook: str, said: list[dict[str, Any]]) -> Diverged:
    differs = [
        {"field": name, "values": [each[name] for each in said]}
        for name in said[0]
        if any(each[name] != said[0][name] for each in said)
    ]
    event = {"iter_num": ctx.iter_num, "micro_step": ctx.micro_step, "hook": hook,
             "updated": [each["updated"] for each in said], "differs": differs}  # fmt: skip
    told = "; ".join(
        f"{one['field']} {', '.join(f'{v} on rank {r}' for r, v in enumerate(one['values'][:4]))}"
        for one in differs[:3]
    )
    hint = ""
    if any(one["field"] in ("task_loss", "val_loss") for one in differs):
        hint = " (give every rank the mean over all ranks, as `ockham.nano.Ranks.mean` makes it)"
    return Diverged(event, f"ranks part at iteration {ctx.iter_num} in {hook}: {told}{hint}")


def _json(value: Any) -> bytes:
    return orjson.dumps(lossless(value), option=orjson.OPT_SORT_KEYS, default=str)
