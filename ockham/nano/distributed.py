"""Ranks: the processes that torchrun started, and the messages between them. One process is rank 0 of 1.

Messages are small (a loss, a verdict, the state of a checkpoint). They are sent over gloo from host to host,
whichever backend the gradients use. So a verdict never waits for the device twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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

# Time to find the other ranks, before the settings are known.
RENDEZVOUS_SECONDS = 600.0
# Size of the first exchange. Longer messages need a second one.
FRAME_BYTES = 256
# Elements of one all-reduce: 128 MiB of float32, so that gradients are never copied as a whole.
BUCKET_ELEMENTS = 1 << 25
_SIZE_HEADER = struct.Struct("<q")
_LOSS_AND_STOP = struct.Struct("<d?")
Value = TypeVar("Value")


class DistributedRanks:
    """This process among those of one run. Use it as a context manager around the whole run.

    Args:
        rank: Rank of this process, from 0. None takes it from the environment of torchrun.
        world_size: Number of ranks. None takes it from the environment of torchrun.

    Attributes:
        rank: Rank of this process, from 0.
        world_size: Number of ranks.
        local_rank: Rank of this process on its machine.
        max_restarts: How often torchrun may restart all ranks.
        interrupt: Truthy as soon as this process has been asked to end. `all_reduce_mean` informs the others.
        group: Process group of gradients and sharded weights. Set by `init_groups`.

    Raises:
        RankLostError: By every method, if another rank has ended or does not answer.

    """

    def __init__(self, rank: int | None = None, world_size: int | None = None) -> None:
        self.rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        self.world_size = int(os.environ.get("WORLD_SIZE", "1")) if world_size is None else world_size
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.max_restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
        self.interrupt: InterruptFlag | bool = False
        self.group: dist.ProcessGroup | None = None
        self._peers = RankGroup(self.rank, self.world_size, self.all_gather)
        self._timeout_seconds = RENDEZVOUS_SECONDS
        self._watchdog: CollectiveTimeout | None = None
        self._stop_requested = False
        self._control_group: dist.ProcessGroup | None = None

    def __enter__(self) -> Self:
        """Connect to the other ranks, if there are any."""
        if self.world_size > 1:
            # torchrun keeps its store across restarts, with the addresses of dead ranks (pytorch#135712).
            restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            timeout = timedelta(seconds=RENDEZVOUS_SECONDS)
            try:
                store, rank, world_size = next(rendezvous("env://", timeout=timeout))
                dist.init_process_group(
                    _backend(),
                    timeout=timeout,
                    store=PrefixStore(f"ockham/{restart}", store),
                    rank=rank,
                    world_size=world_size,
                )
            except (RuntimeError, ValueError) as error:
                raise self._rank_lost_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect. After an error the other ranks are not contacted, because they may have ended."""
        if self.world_size > 1 and error is None:
            dist.destroy_process_group()

    def init_groups(self, settings: Settings) -> Settings:
        """Create the process groups. Return the settings with the values that all ranks share.

        Raises:
            BadInputError: If this machine has fewer GPUs than ranks.

        """
        if self.world_size == 1:
            return settings
        self._peers.run_on_all(lambda: self._choose_gpu(settings.device))
        self._timeout_seconds = seconds = settings.rank_timeout
        self._control_group = dist.new_group(backend="gloo", timeout=timedelta(seconds=seconds))
        # NCCL refuses two ranks on one GPU. A device with a number is the same for all ranks of a machine.
        backend = "gloo" if ":" in settings.device and self.local_world_size > 1 else _backend()
        if "nccl" in backend and settings.device != "cpu":
            # NCCL aborts the process, which leaves the log open. `CollectiveTimeout` has to come first.
            seconds = 2 * seconds + 60
        self.group = dist.new_group(backend=backend, timeout=timedelta(seconds=seconds))
        threads = settings.threads or max(1, min(MAX_THREADS, available_cores() // self.local_world_size))
        threads = -self._peers.all_reduce_max(-threads)
        should_compile = settings.compile
        if settings.parallel == "fsdp" and settings.compile == "auto":
            should_compile = "no"
        return dataclasses.replace(settings, threads=threads, compile=should_compile)

    @contextlib.contextmanager
    def with_timeout_watchdog(self, finish: Callable[[str, str], None]) -> Iterator[None]:
        """Context manager that ends the run and this process if other ranks never answer.

        It covers waits that raise no error.

        Args:
            finish: Called on a separate thread with a reason code and a message, such as `Run.finish`.

        """
        if self.world_size == 1:
            yield
            return
        interrupt = self.interrupt
        signalled = interrupt.signal_received if isinstance(interrupt, InterruptFlag) else bool
        with CollectiveTimeout(self._timeout_seconds, finish, signalled) as self._watchdog:
            try:
                yield
            finally:
                self._watchdog.set_wait("")
        self._watchdog = None

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """Context manager for device work in which other ranks take part.

        The wait ends when the host next exchanges a message.

        Raises:
            RankLostError: If another rank has ended or does not answer.

        """
        self._set_wait("device")
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise self._rank_lost_error(error) from error
            raise

    def raise_on_all(self) -> AbstractContextManager[None]:
        """Context manager that raises on all ranks if its block fails on one of them.

        Raises:
            RunError: On the ranks whose block did not fail.

        """
        return self._peers.raise_on_all()

    def run_on_rank_zero(self, action: Callable[[], Value]) -> Value | None:
        """Return the result of *action* on rank 0. The other ranks wait for it and return None."""
        return self._peers.run_on_rank_zero(action)

    def all_gather(self, message: bytes) -> list[bytes]:
        """Return the messages of all ranks, in order of rank.

        Messages of up to 248 bytes take one exchange, longer ones two.
        """
        if self.world_size == 1:
            return [message]
        self._set_wait("host")
        try:
            header = _SIZE_HEADER.pack(len(message))
            frames = self._exchange(header + message[: FRAME_BYTES - len(header)], FRAME_BYTES)
            sizes = [_SIZE_HEADER.unpack(frame[: len(header)])[0] for frame in frames]
            messages = [frame[len(header) :] for frame in frames]
            if max(sizes) > FRAME_BYTES - len(header):
                messages = self._exchange(message, max(sizes))
        except RuntimeError as error:
            raise self._rank_lost_error(error) from error
        self._set_wait("")
        return [text[:size] for text, size in zip(messages, sizes, strict=True)]

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value on every rank. It is a JSON value and may contain non-finite numbers."""
        if self.world_size == 1:
            return value
        text = orjson.dumps(to_json_value(value)) if self.rank == 0 else b""
        return from_json_value(orjson.loads(self.all_gather(text)[0]))  # type: ignore[no-any-return]

    def all_reduce_mean(self, loss: float) -> float:
        """Return the mean over the ranks, identical to the last bit on each of them.

        Each rank adds the values in order of rank. The mean is not finite if one value is not.
        """
        if self.world_size == 1:
            self._stop_requested = bool(self.interrupt)
            return loss
        message = _LOSS_AND_STOP.pack(loss, bool(self.interrupt))
        gathered = [_LOSS_AND_STOP.unpack(text) for text in self.all_gather(message)]
        self._stop_requested = any(stop for _, stop in gathered)
        return float(sum(value for value, _ in gathered)) / self.world_size

    @property
    def stop_requested(self) -> bool:
        """True if any rank had been asked to end at the last `all_reduce_mean`. Equal on every rank."""
        return self._stop_requested if self.world_size > 1 else bool(self.interrupt)

    @torch.no_grad()
    def average_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by its mean over the ranks, with one all-reduce per 128 MiB."""
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
        if device not in ("auto", "cuda") or not torch.cuda.is_available():
            return
        if self.local_rank >= torch.cuda.device_count():
            raise BadInputError(
                f"{self.local_world_size} ranks on this machine: only {torch.cuda.device_count()} GPUs; "
                "start fewer ranks with --nproc-per-node, or use --device cuda:0 for one GPU, or cpu"
            )
        torch.cuda.set_device(self.local_rank)

    def _exchange(self, message: bytes, size: int) -> list[bytes]:
        buffer = torch.frombuffer(bytearray(message.ljust(size, b"\0")), dtype=torch.uint8)
        gathered = [torch.empty(size, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(gathered, buffer, group=self._control_group)
        return [part.numpy().tobytes() for part in gathered]

    def _set_wait(self, waits: Waits) -> None:
        if self._watchdog is not None:
            self._watchdog.set_wait(waits)

    def _rank_lost_error(self, error: Exception) -> RankLostError:
        cause = str(error).strip().partition("\n")[0].rpartition("] ")[2].partition(". ")[0]
        return RankLostError(f"another rank has ended or does not answer: {cause:.200}")


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"


def _buckets(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    buckets: list[list[torch.Tensor]] = []
    free_elements = 0
    for tensor in tensors:
        if not buckets or tensor.numel() > free_elements:
            buckets.append([])
            free_elements = BUCKET_ELEMENTS
        buckets[-1].append(tensor)
        free_elements -= tensor.numel()
    return buckets
