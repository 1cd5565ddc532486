"""Tensors that may be sharded over several ranks (DTensor): local parts, full tensors and redistribution.

If one process has the full tensor, each function returns the tensor itself.
"""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def to_local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of this rank, in the same storage."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: torch.Tensor) -> bool:
    """Return True if no rank has the full tensor."""
    return isinstance(tensor, DTensor) and not all(place.is_replicate() for place in tensor.placements)


def to_full(tensor: torch.Tensor) -> torch.Tensor:
    """Return the full tensor. Every rank must call this."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def distribute_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a full tensor, which every rank has, sharded like *other* of the same shape."""
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def from_local_like(part: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a rank's part as a tensor that is sharded like *other*."""
    if not isinstance(other, DTensor):
        return part
    return DTensor.from_local(
        part, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )
