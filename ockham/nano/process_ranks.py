"""Ranks of a training that another program started: those of its process group in `torch.distributed`."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from ockham.errors import BadInputError
from ockham.nano.distributed import DistributedRanks

# Kinds of gradients in an exchanged message.
MISSING, DENSE, SPARSE = range(3)


class ProcessRanks(DistributedRanks):
    """This process among those of the default process group. Its owner destroys the group.

    Messages are exchanged in a gloo group of their own, so the training may use NCCL. Without a process group
    this is rank 0 of 1. Every rank must create its object at the same time.

    Raises:
        BadInputError: If `torch.distributed` is not initialised though several processes were started.

    """

    def __init__(self) -> None:
        is_initialized = dist.is_available() and dist.is_initialized()
        world_size = os.environ.get("WORLD_SIZE", "1")
        if not is_initialized and world_size != "1":
            raise BadInputError(
                f"torch.distributed: not initialised, though WORLD_SIZE is {world_size}; "
                "call torch.distributed.init_process_group() before ockham.Run.distributed()"
            )
        super().__init__(
            dist.get_rank() if is_initialized else 0, dist.get_world_size() if is_initialized else 1
        )
        if self.world_size > 1:
            self._control_group = dist.new_group(backend="gloo")

    def average_parameter_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradient of each parameter by its mean over the ranks. Every rank must call this.

        A gradient that is missing on a rank counts as zero. One that is missing on all ranks stays missing.
        Sharded parameters are left as they are, because FSDP2 reduces their gradients in the backward pass.

        Raises:
            BadInputError: If a gradient is sparse.

        """
        chosen = [p for p in parameters if p.requires_grad and not isinstance(p, DTensor)]
        if self.world_size == 1 or not chosen:
            return
        groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter, is_present in zip(chosen, self._find_present(chosen), strict=True):
            if not is_present:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            groups.setdefault((parameter.grad.dtype, parameter.grad.device), []).append(parameter.grad)
        for gradients in groups.values():
            self.average_gradients(gradients)

    def _find_present(self, parameters: list[torch.nn.Parameter]) -> list[bool]:
        """Return for each parameter whether any rank has a gradient."""
        own = bytes(_gradient_kind(p) for p in parameters)
        gathered = self.all_gather(own)
        if len({len(text) for text in gathered}) > 1:
            sizes = ", ".join(f"{len(text)} on rank {rank}" for rank, text in enumerate(gathered))
            raise BadInputError(f"average_gradients: the ranks pass different numbers of parameters: {sizes}")
        kinds = [max(each) for each in zip(*gathered, strict=True)]
        if SPARSE in kinds:
            raise BadInputError("average_gradients: a gradient is sparse; use dense gradients (sparse=False)")
        return [kind == DENSE for kind in kinds]


def _gradient_kind(parameter: torch.nn.Parameter) -> int:
    if parameter.grad is None:
        return MISSING
    return SPARSE if parameter.grad.is_sparse else DENSE
