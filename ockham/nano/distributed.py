"""Ranks: the processes that torchrun started, and what they say to one another. One process is rank 0 of 1.

What is said is small (a loss, a verdict, the state of a checkpoint) and goes over gloo from host to host, whatever the
gradients take; so a verdict never waits for the device twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

import orjson
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ockham.errors import BadInputError, RankLostError
from ockham.event import from_json_value, to_json_value
from ockham.nano.collective_timeout import CollectiveTimeout, Waits
from ockham.nano.config import Settings
from ockham.nano.device import MAX_THREADS, available_cores
from ockham.nano.signals import InterruptFlag
from ockham.record.rank_group import RankGroup

RENDEZVOUS_SECONDS = 600.0  # for the ranks to find one another, before the settings are known
FRAME_BYTES = 256  # bytes of the first exchange; longer texts take a second one
BUCKET_ELEMENTS = (
    1 << 25
)  # elements of one all-reduce: 128 MiB of float32, so that gradients are never held twice
_HEAD = struct.Struct("<q")
_SAID = struct.Struct("<d?")
Value = TypeVar("Value")


class DistributedRanks(RankGroup):
    """This process among those of one run; use as a context manager around all of it.

    Attributes:
        rank: from 0.
        world_size: how many there are.
        local_rank: this process among those of its machine.
        max_restarts: how often torchrun may start all of them again.
        interrupt: truthy once this process is asked to end; `all_reduce_mean` tells the others.
        group: what gradients and shares of weights go over, from `init_groups` on.

    Raises:
        RankLostError: from every method, once another rank has ended or does not answer.

    """

    def __init__(self) -> None:
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.max_restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
        self.interrupt: InterruptFlag | bool = False
        self.group: dist.ProcessGroup | None = None
        self._timeout = RENDEZVOUS_SECONDS
        self._watch: CollectiveTimeout | None = None
        self._stopping = False
        self._control: dist.ProcessGroup | None = None
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        super().__init__(
            int(os.environ.get("RANK", "0")), world_size, self._gather if world_size > 1 else None
        )

    def __enter__(self) -> Self:
        """Meet the others, where there are any."""
        if self.world_size > 1:
            # torchrun keeps its store when it starts the ranks again, with the addresses of the dead ones (pytorch#135712).
            again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            most = timedelta(seconds=RENDEZVOUS_SECONDS)
            try:
                store, rank, world_size = next(rendezvous("env://", timeout=most))
                dist.init_process_group(
                    _backend(), timeout=most, store=PrefixStore(f"ockham/{again}", store), rank=rank,
                    world_size=world_size,
                )  # fmt: skip
            except (RuntimeError, ValueError) as error:
                raise self._rank_lost_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Part; after an error without asking the others, who may be gone."""
        if self.world_size > 1 and error is None:
            dist.destroy_process_group()

    def init_groups(self, settings: Settings) -> Settings:
        """The settings with what the ranks must share filled in: threads, and the time that they wait for each other.

        Raises:
            BadInputError: if there are more ranks on this machine than GPUs to use.

        """
        if self.world_size == 1:
            return settings
        self.run_on_all(lambda: self._choose_gpu(settings.device))
        self._timeout = seconds = settings.rank_timeout
        self._control = dist.new_group(backend="gloo", timeout=timedelta(seconds=seconds))
        if "nccl" in _backend() and settings.device != "cpu":
            # NCCL ends a process by an abort, which leaves the log open: `Watch` comes first
            seconds = 2 * seconds + 60
        self.group = dist.new_group(backend=_backend(), timeout=timedelta(seconds=seconds))
        threads = settings.threads or max(1, min(MAX_THREADS, available_cores() // self.local_world_size))
        compiled = "no" if settings.parallel == "fsdp" and settings.compile == "auto" else settings.compile
        return dataclasses.replace(settings, threads=-self.all_reduce_max(-threads), compile=compiled)

    @contextlib.contextmanager
    def with_timeout_watchdog(self, end: Callable[[str, str], None]) -> Iterator[None]:
        """End the run and this process where others are waited for that never answer, and no error says so.

        Args:
            end: called on a thread of its own with a reason code and a sentence, such as `Run.finish`.

        """
        if self.world_size == 1:
            yield
            return
        asked = self.interrupt
        signalled = asked.signal_received if isinstance(asked, InterruptFlag) else bool
        with CollectiveTimeout(self._timeout, end, signalled) as self._watch:
            try:
                yield
            finally:
                self._watch.set_wait("")
        self._watch = None

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """Around work of the device that other ranks take part in; it is over at the latest when the host next asks.

        Raises:
            RankLostError: if one of them has ended or does not answer.

        """
        self._waits("device")
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise self._rank_lost_error(error) from error
            raise

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank; JSON values, non-finite numbers among them."""
        if self.world_size == 1:
            return value
        text = orjson.dumps(to_json_value(value)) if self.rank == 0 else b""
        return from_json_value(orjson.loads(self._gather(text)[0]))  # type: ignore[no-any-return]

    def all_reduce_mean(self, loss: float) -> float:
        """Mean over the ranks, the same to the last bit on each: the number that a verdict may be judged on.

        Added up in order of rank by each rank for itself; not finite where one of them is not.
        """
        if self.world_size == 1:
            self._stopping = bool(self.interrupt)
            return loss
        said = [_SAID.unpack(text) for text in self._gather(_SAID.pack(loss, bool(self.interrupt)))]
        self._stopping = any(stop for _, stop in said)
        return float(sum(value for value, _ in said)) / self.world_size

    @property
    def stop_requested(self) -> bool:
        """Whether any rank was asked to end when `all_reduce_mean` was last called: the same answer on every rank."""
        return self._stopping if self.world_size > 1 else bool(self.interrupt)

    @torch.no_grad()
    def average_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        """Put the mean over the ranks in the place of each gradient, by one all-reduce for each 128 MiB of them."""
        if self.world_size == 1 or not gradients:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with self.collective():
                dist.all_reduce(flat, group=self.group)
            flat /= self.world_size
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            views = [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)]
            torch._foreach_copy_(bucket, views)

    def _choose_gpu(self, device: str) -> None:
        if device.partition(":")[0] not in ("auto", "cuda") or not torch.cuda.is_available():
            return
        if self.local_rank >= torch.cuda.device_count():
            raise BadInputError(
                f"{self.local_world_size} ranks on this machine and {torch.cuda.device_count()} GPUs: "
                "start fewer with --nproc-per-node, or take --device cpu"
            )
        torch.cuda.set_device(self.local_rank)

    def _gather(self, own: bytes) -> list[bytes]:
        """What every rank says, in order; one exchange of 256 bytes, and a second one where a text is longer."""
        self._waits("host")
        try:
            framed = self._exchange(_HEAD.pack(len(own)) + own[: FRAME_BYTES - _HEAD.size], FRAME_BYTES)
            sizes = [_HEAD.unpack(frame[: _HEAD.size])[0] for frame in framed]
            whole = [frame[_HEAD.size :] for frame in framed]
            if max(sizes) > FRAME_BYTES - _HEAD.size:
                whole = self._exchange(own, max(sizes))
        except RuntimeError as error:
            raise self._rank_lost_error(error) from error
        self._waits("")
        return [text[:size] for text, size in zip(whole, sizes, strict=True)]

    def _exchange(self, own: bytes, size: int) -> list[bytes]:
        sent = torch.frombuffer(bytearray(own.ljust(size, b"\0")), dtype=torch.uint8)
        got = [torch.empty(size, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(got, sent, group=self._control)
        return [part.numpy().tobytes() for part in got]

    def _waits(self, waits: Waits) -> None:
        if self._watch is not None:
            self._watch.set_wait(waits)

    def _rank_lost_error(self, error: Exception) -> RankLostError:
        told = str(error).strip().partition("\n")[0].rpartition("] ")[2].partition(". ")[0]
        return RankLostError(f"another rank has ended or does not answer: {told:.200}")


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"


def _buckets(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    buckets: list[list[torch.Tensor]] = []
    room = 0
    for tensor in tensors:
        if not buckets or tensor.numel() > room:
            buckets.append([])
            room = BUCKET_ELEMENTS
        buckets[-1].append(tensor)
        room -= tensor.numel()
    return buckets
