"""Checkpoints: safetensors for tensors, JSON for the rest, never pickle.

checkpoints/<snapshot_id>/
  model.safetensors       weights; its metadata names run, iteration, settings, and the log's tree head before it
  optimizer.safetensors   AdamW's moments and counters      } of kind `resume` alone
  anchor.safetensors      the anchor's weights              }
  state.json              plugin state, counters, RNG, settings

`ockham.record.checkpoints` writes the folder, whole or not at all.
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

MODEL, OPTIMIZER, ANCHOR = "model.safetensors", "optimizer.safetensors", "anchor.safetensors"


def serialize_model(model: nn.Module, metadata: Mapping[str, Any]) -> tuple[bytes, str]:
    """The weights as safetensors with metadata (values as JSON), and the digest of the weights alone."""
    tensors = {name: to_full(parameter).cpu().contiguous() for name, parameter in model.named_parameters()}
    told = {key: orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() for key, value in metadata.items()}
    return save(tensors, metadata=told), weights_digest(tensors)


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of each tensor by name: the file around it does not count."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def serialize_optimizer(model: nn.Module, optimizer: AnyOptimizer) -> bytes:
    """Moments and counters by parameter name."""
    tensors = {
        f"{name}/{key}": to_full(value).cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return save(tensors)


def load_optimizer(model: nn.Module, optimizer: AnyOptimizer, path: Path) -> None:
    """Take up the moments that `serialize_optimizer` kept."""
    tensors = load_tensors(path)
    for name, parameter in model.named_parameters():
        own = {key.split("/")[1]: value for key, value in tensors.items() if key.split("/")[0] == name}
        if own:
            kept = {key: distribute_like(value.to(parameter.device), parameter) for key, value in own.items()}
            optimizer.state[parameter] = kept


def load_model(model: nn.Module, path: Path) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        CheckpointError: if it is unreadable or belongs to a model of another shape.

    """
    try:
        copy_into(model, load_tensors(path))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def serialize_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Any tensors by name as safetensors."""
    return save({name: to_full(tensor).cpu().contiguous() for name, tensor in tensors.items()})


def read_metadata(path: Path) -> dict[str, Any]:
    """What the metadata of a model.safetensors says: run, iteration, and the tree head before it."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file by name."""
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from None
