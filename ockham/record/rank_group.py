"""Peers: the ranks of one attempt, what they do one after the other, and what they must agree on.

The record knows no network: whoever starts the ranks hands over `all_gather`, which takes some bytes and returns those of
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
from ockham.event import to_json_value

Gather = Callable[[bytes], Sequence[bytes]]
Result = TypeVar("Result")
PER_RANK_KNOBS = frozenset({"example_gain"})  # weights of a rank's own examples: the one knob that may differ


class Divergence(NamedTuple):
    """A disagreement: the event's fields, and one sentence."""

    event: dict[str, Any]
    message: str


class RankGroup:
    """The ranks of one attempt; alone, every method is nothing.

    Args:
        rank: this one, from 0.
        world_size: how many there are.
        gather: hands bytes to every rank and returns those of all, in order of rank. Without it nothing waits for
            another rank and nothing is compared.

    Raises:
        RunError: if `all_gather` returns something else than one answer for each rank.

    """

    def __init__(self, rank: int = 0, world_size: int = 1, gather: Gather | None = None) -> None:
        if not 0 <= rank < world_size:
            raise RunError(f"rank {rank} of {world_size}: ranks count from 0 and stay below the world size")
        self.rank, self.world_size = rank, world_size
        self.all_gather = gather if world_size > 1 else None

    @contextlib.contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """Nobody leaves the block before all have; what fails in it on one rank fails on all.

        Raises:
            RunError: on the ranks that did not fail, with what the first one said that did.

        """
        try:
            yield
        except RankError:
            raise  # nobody is left to tell
        except Exception as error:
            self._all_gather(f" {error}".encode())
            raise
        for rank, gathered in enumerate(self._all_gather(b"")):
            if gathered:
                raise RunError(f"rank {rank}:{gathered.decode(errors='replace')}")

    def run_on_all(self, action: Callable[[], Result]) -> Result:
        """Everyone does it, and nobody goes on before all have."""
        with self.raise_on_all():
            return action()

    def run_on_rank_zero(self, action: Callable[[], Result]) -> Result | None:
        """Rank 0 does it and the others, who get None, wait until it has."""
        return self.run_on_all(action if self.rank == 0 else lambda: None)

    def all_reduce_max(self, value: int) -> int:
        """The largest of what the ranks hold."""
        return max(int(text) for text in self._all_gather(b"%d" % value))

    def require_equal(self, what: Mapping[str, Any]) -> None:
        """Refuse to begin where a rank was started with something else than rank 0.

        Raises:
            RunError: naming the rank and the first thing that differs.

        """
        own = {name: hashlib.sha256(_json(value)).hexdigest() for name, value in what.items()}
        first, *others = (orjson.loads(text) for text in self._all_gather(_json(own)))
        for rank, other in enumerate(others, 1):
            for name in {**first, **other}:
                if other.get(name) != first.get(name):
                    raise RunError(f"rank {rank} was started with another {name} than rank 0")

    def find_divergence(self, ctx: OccamContext, hook: str) -> Divergence | None:
        """Compare how the chain left the context: None where every rank left it alike.

        16 bytes a rank are exchanged; the values only where they differ.
        """
        if self.all_gather is None:
            return None
        judged = (hook, ctx.iter_num, ctx.micro_step, ctx.task_loss, ctx.val_loss, _shared(ctx))
        if len(set(self._all_gather(hashlib.blake2b(repr(judged).encode(), digest_size=16).digest()))) == 1:
            return None
        values = {"hook": hook, "iter_num": ctx.iter_num, "micro_step": ctx.micro_step, "task_loss": ctx.task_loss,
                  "val_loss": ctx.val_loss, **_shared(ctx)}  # fmt: skip
        return _diverged(ctx, hook, [orjson.loads(text) for text in self._all_gather(_json(values))])

    def _all_gather(self, own: bytes) -> Sequence[bytes]:
        if self.all_gather is None:
            return [own]
        gathered = self.all_gather(own)
        if len(gathered) != self.world_size:
            raise RunError(f"gather returned {len(gathered)} answers for {self.world_size} ranks")
        return gathered


def _shared(ctx: OccamContext) -> dict[str, Any]:
    return {
        name: value for name, value in zip(KNOBS, knob_values(ctx), strict=True) if name not in PER_RANK_KNOBS
    }


def _diverged(ctx: OccamContext, hook: str, gathered: list[dict[str, Any]]) -> Divergence:
    differs = [
        {"field": name, "values": [each[name] for each in gathered]}
        for name in gathered[0]
        if any(each[name] != gathered[0][name] for each in gathered)
    ]
    event = {"iter_num": ctx.iter_num, "micro_step": ctx.micro_step, "hook": hook,
             "updated": [each["updated"] for each in gathered], "differs": differs}  # fmt: skip
    told = "; ".join(
        f"{one['field']} {', '.join(f'{v} on rank {r}' for r, v in enumerate(one['values'][:4]))}"
        for one in differs[:3]
    )
    hint = ""
    if any(one["field"] in ("task_loss", "val_loss") for one in differs):
        hint = " (give every rank the mean over all ranks, as `ockham.nano.Ranks.mean` makes it)"
    return Divergence(event, f"ranks part at iteration {ctx.iter_num} in {hook}: {told}{hint}")


def _json(value: Any) -> bytes:
    return orjson.dumps(to_json_value(value), option=orjson.OPT_SORT_KEYS, default=str)
