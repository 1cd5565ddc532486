"""Collective operations between the ranks of one attempt, and the checks that all ranks agree.

The record uses no network. The code that starts the ranks passes `all_gather`, which takes bytes and returns
those of every rank in order (`ockham.nano.DistributedRanks().all_gather`, or `allgather` of an MPI
communicator).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

from ockham.context import KNOBS, OccamContext, knob_values
from ockham.errors import RankError, RunError
from ockham.event import to_json_value

Gather = Callable[[bytes], Sequence[bytes]]
Result = TypeVar("Result")
# Weights of a rank's own examples: the one knob that may differ.
PER_RANK_KNOBS = frozenset({"example_gain"})
# A loss, and the number of its tokens or -1.
_LOSS = struct.Struct("<dq")
_DIGEST_BYTES = 16
_VALUE = struct.Struct("<d")


class RankMean(NamedTuple):
    """Mean loss of all ranks, and the sum of their tokens. The sum is None if the ranks passed no numbers."""

    loss: float
    tokens: int | None


class Divergence(NamedTuple):
    """A difference between ranks: the event's fields, and a message."""

    event: dict[str, Any]
    message: str


class RankGroup:
    """Collective operations between the ranks of one attempt. With one rank, every method is a no-op.

    Args:
        rank: This rank, from 0.
        world_size: Number of ranks.
        all_gather: Passes bytes to every rank and returns those of all in order of rank. Without it no rank
            waits for another one and nothing is compared.

    Raises:
        RunError: If `all_gather` does not return one value per rank.

    """

    def __init__(self, rank: int = 0, world_size: int = 1, gather: Gather | None = None) -> None:
        if not 0 <= rank < world_size:
            raise RunError(f"rank {rank} of {world_size}: ranks count from 0 and stay below the world size")
        self.rank, self.world_size = rank, world_size
        self.all_gather = gather if world_size > 1 else None
        # True if rank 0 passed news with the last comparison. Equal on all ranks.
        self.has_news = False

    @property
    def is_connected(self) -> bool:
        """True if all ranks exchange messages."""
        return self.world_size == 1 or self.all_gather is not None

    @contextlib.contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """Context manager that no rank leaves before all have. An exception on one rank is raised on all.

        Raises:
            RunError: On the other ranks, with the message of the first rank that failed.

        """
        try:
            yield
        except RankError:
            # The other ranks have ended.
            raise
        except Exception as error:
            self._all_gather(f" {error}".encode())
            raise
        for rank, gathered in enumerate(self._all_gather(b"")):
            if gathered:
                raise RunError(f"rank {rank}:{gathered.decode(errors='replace')}")

    def run_on_all(self, action: Callable[[], Result]) -> Result:
        """Run *action* on every rank. No rank continues before all have finished."""
        with self.raise_on_all():
            return action()

    def run_on_rank_zero(self, action: Callable[[], Result]) -> Result | None:
        """Run *action* on rank 0. The others wait until it has finished and get None."""
        return self.run_on_all(action if self.rank == 0 else lambda: None)

    def all_reduce_max(self, value: int) -> int:
        """Return the largest value of all ranks."""
        return max(int(text) for text in self._all_gather(b"%d" % value))

    def gather_json(self, value: Any) -> list[Any]:
        """Return the value of every rank in order."""
        return [orjson.loads(text) for text in self._all_gather(_json(value))]

    def require_equal(self, what: Mapping[str, Any]) -> None:
        """Check that every rank was started with the same values as rank 0.

        Raises:
            RunError: If a value differs. The message names the rank and the first difference.

        """
        own = {name: hashlib.sha256(_json(value)).hexdigest() for name, value in what.items()}
        first, *others = (orjson.loads(text) for text in self._all_gather(_json(own)))
        for rank, other in enumerate(others, 1):
            for name in {**first, **other}:
                if other.get(name) != first.get(name):
                    raise RunError(f"rank {rank} was started with another {name} than rank 0")

    def average_loss(self, loss: float, tokens: int | None = None) -> RankMean:
        """Return the mean over the ranks in float64, weighted by tokens. It is equal on each, bit for bit.

        Args:
            loss: Mean loss of this rank's tokens. A rank without tokens does not contribute.
            tokens: Number of tokens of this rank. None on every rank gives all ranks the same weight.

        Raises:
            RunError: If only some ranks passed a number of tokens, or it is negative. Every rank raises it.

        """
        if self.all_gather is None:
            return RankMean(loss, tokens)
        gathered = [_LOSS.unpack(text) for text in self._all_gather(_pack_loss(loss, tokens))]
        counts = [count for _, count in gathered]
        if min(counts) < 0 <= max(counts) or min(counts) < -1:
            values = _values_by_rank([None if count == -1 else count for count in counts])
            raise RunError(f"tokens of a loss: {values}; pass the number of tokens on every rank, or on none")
        weights = counts if sum(counts) > 0 else [1] * len(counts)
        products = [value * weight for (value, _), weight in zip(gathered, weights, strict=True) if weight]
        # The sum of fsum does not depend on the order of the ranks.
        is_finite = all(map(math.isfinite, products))
        total = math.fsum(products) if is_finite else sum(products)
        return RankMean(total / sum(weights), None if counts[0] < 0 else sum(counts))

    def largest(self, value: float) -> float:
        """Return the largest value of all ranks, bit for bit the same on each. NaN if one of them is NaN."""
        if self.all_gather is None:
            return value
        values: list[float] = [_VALUE.unpack(text)[0] for text in self._all_gather(_VALUE.pack(value))]
        return next(filter(math.isnan, values), max(values))

    def find_divergence(self, ctx: OccamContext, hook: str, *, has_news: bool = False) -> Divergence | None:
        """Compare the context after the chain on all ranks. Return None if it is equal.

        16 bytes per rank are exchanged. The values are exchanged only if they differ.

        Args:
            ctx: The context.
            hook: Hook that has run.
            has_news: Rank 0 has a message for all ranks. `self.has_news` then is True on each of them.

        """
        self.has_news = has_news
        if self.all_gather is None:
            return None
        judged = (hook, ctx.iter_num, ctx.micro_step, ctx.task_loss, ctx.val_loss, _shared(ctx))
        digest = hashlib.blake2b(repr(judged).encode(), digest_size=_DIGEST_BYTES).digest()
        gathered = self._all_gather(digest + b"+" * has_news)
        self.has_news = len(gathered[0]) > _DIGEST_BYTES
        if len({message[:_DIGEST_BYTES] for message in gathered}) == 1:
            return None
        values = {
            "hook": hook,
            "iter_num": ctx.iter_num,
            "micro_step": ctx.micro_step,
            "task_loss": ctx.task_loss,
            "val_loss": ctx.val_loss,
            **_shared(ctx),
        }
        return _diverged(ctx, hook, [orjson.loads(text) for text in self._all_gather(_json(values))])

    def find_weight_divergence(self, ctx: OccamContext, hook: str, checksum: str) -> Divergence | None:
        """Compare a checksum of the weights on all ranks. Return None if it is equal."""
        if self.all_gather is None:
            return None
        gathered = self.gather_json({"updated": ctx.updated, "weights": checksum})
        if len({each["weights"] for each in gathered}) == 1:
            return None
        event, message = _diverged(ctx, hook, gathered)
        hint = (
            "average the gradients once per step with run.average_gradients(parameters), "
            "after the last verdict, and start with equal weights"
        )
        return Divergence(event, f"{message} (checksums; {hint})")

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
    event = {
        "iter_num": ctx.iter_num,
        "micro_step": ctx.micro_step,
        "hook": hook,
        "updated": [each["updated"] for each in gathered],
        "differs": differs,
    }
    values = "; ".join(f"{item['field']} {_values_by_rank(item['values'][:4])}" for item in differs[:3])
    hint = ""
    if any(one["field"] in ("task_loss", "val_loss") for one in differs):
        hint = " (ockham.Run.distributed takes the loss of each rank; otherwise pass the mean over all ranks)"
    return Divergence(event, f"ranks part at iteration {ctx.iter_num} in {hook}: {values}{hint}")


def _pack_loss(loss: float, tokens: int | None) -> bytes:
    if tokens is None:
        return _LOSS.pack(loss, -1)
    return _LOSS.pack(loss, tokens if tokens >= 0 else -2)


def _json(value: Any) -> bytes:
    return orjson.dumps(to_json_value(value), option=orjson.OPT_SORT_KEYS, default=str)


def _values_by_rank(values: Sequence[Any]) -> str:
    """Return `VALUE on rank N` for each rank."""
    return ", ".join(f"{value} on rank {rank}" for rank, value in enumerate(values))
