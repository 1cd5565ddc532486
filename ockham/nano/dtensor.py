"""Tensors that may lie in shares on many ranks (DTensor): this rank's share, the whole, and a share of a whole.

Everything here is the tensor itself where one process has all of it.
"""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def to_local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part, in the same storage."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def to_full(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor, for which every rank must ask."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def distribute_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor, which every rank has, laid out as `other` of the same shape."""
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def from_local_like(part: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A rank's part as the share of a tensor laid out as `other`."""
    if not isinstance(other, DTensor):
        return part
    return DTensor.from_local(
        part, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )
