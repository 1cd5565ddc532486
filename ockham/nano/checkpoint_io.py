"""Checkpoints: safetensors for tensors and JSON for the rest, never pickle.

checkpoints/<snapshot_id>/
  model.safetensors       weights; the metadata contains run, iteration, settings and the log's tree head
  optimizer.safetensors   moments and counters of the optimizer   } only of kind `resume`
  anchor.safetensors      weights of the anchor                   }
  state.json              plugin state, counters, RNG, settings   }

`ockham.record.checkpoints` writes the folder atomically.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import nn

from ockham.errors import CheckpointError
from ockham.nano.anchor import copy_into
from ockham.nano.dtensor import distribute_like, to_full
from ockham.nano.optimizer import AnyOptimizer

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
ANCHOR = "anchor.safetensors"


def serialize_model(model: nn.Module, metadata: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the weights as safetensors with metadata (values as JSON), and the digest of the weights."""
    tensors = {name: to_full(parameter).cpu().contiguous() for name, parameter in model.named_parameters()}
    texts = {
        key: orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() for key, value in metadata.items()
    }
    return save(tensors, metadata=texts), weights_digest(tensors)


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over name, dtype, shape and little-endian bytes of each tensor, in order of name.

    The format of the file has no influence.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def serialize_optimizer(model: nn.Module, optimizer: AnyOptimizer) -> bytes:
    """Return moments and counters by parameter name."""
    tensors = {
        f"{name}/{key}": to_full(value).cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return save(tensors)


def load_optimizer(model: nn.Module, optimizer: AnyOptimizer, path: Path) -> None:
    """Restore the moments saved by `serialize_optimizer`."""
    tensors = load_tensors(path)
    for name, parameter in model.named_parameters():
        state = {
            key.split("/")[1]: distribute_like(value.to(parameter.device), parameter)
            for key, value in tensors.items()
            if key.split("/")[0] == name
        }
        if state:
            optimizer.state[parameter] = state


def load_model(model: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into a model.

    Raises:
        CheckpointError: If the file is unreadable or belongs to a model of another shape.

    """
    tensors = load_tensors(path)
    try:
        copy_into(model, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def serialize_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors by name as safetensors."""
    return save({name: to_full(tensor).cpu().contiguous() for name, tensor in tensors.items()})


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a model.safetensors: run, iteration, settings and the tree head before it.

    Raises:
        CheckpointError: If the file is unreadable.

    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a safetensors file by name.

    Raises:
        CheckpointError: If the file is unreadable.

    """
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
