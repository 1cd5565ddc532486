"""Import of GPT-2's weights from a Hugging Face folder, and export to one. Pickle is never used.

Both sides use GPT-2's names. Hugging Face stores each matrix of attention and MLP as (in, out) (`Conv1D`),
torch's Linear as (out, in). Its files may also contain the causal mask and a copy of the tied head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from ockham.errors import CheckpointError, DataError
from ockham.nano.anchor import copy_into
from ockham.nano.checkpoint_io import load_tensors, weights_digest
from ockham.nano.data import BYTES_VOCAB
from ockham.nano.hf_config import CONFIG, HF_NAMES, REQUIRED_HF_VALUES, read_json
from ockham.nano.model import GPT
from ockham.nano.recipe import require_gpt2_architecture

if TYPE_CHECKING:
    from ockham.nano.trainer import Trainer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Buffers of older files: the causal mask.
_MASKS = (".attn.bias", ".attn.masked_bias")


def load_pretrained(model: GPT, folder: Path, sha256: str = "") -> str:
    """Load a folder's weights into a model. A shorter context uses the first positions.

    Args:
        model: Model with the folder's architecture.
        folder: Contains config.json, and model.safetensors or its index and shards.
        sha256: Expected digest of the weights. Empty accepts any.

    Returns:
        Digest of the weights, computed as in `checkpoint.saved`.

    Raises:
        CheckpointError: If a tensor or file is missing, has another shape, or is not finite.

    """
    state = _to_local_names(_load_all_tensors(folder), folder)
    if "wpe.weight" in state:
        state["wpe.weight"] = state["wpe.weight"][: model.block_size]
    unknown = sorted(set(state) - {name for name, _ in model.named_parameters()})
    if unknown:
        raise CheckpointError(
            f"{folder}: tensor {unknown[0]!r:.80} does not belong to the model; GPT-2 is required"
        )
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{folder}: tensor {name!r} contains values that are not finite")
    digest = weights_digest(state)
    if sha256 and digest != sha256:
        raise CheckpointError(f"{folder}: the weights have digest {digest}; expected {sha256}")
    try:
        copy_into(model, state)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    return digest


def init_from_pretrained(trainer: Trainer) -> None:
    """Load the weights of `settings.init_from`. Their digest is stored in the settings as `init_sha256`.

    Raises:
        CheckpointError: If they do not fit the model, or differ from `init_sha256`.
        DataError: If the data is bytes and the weights expect other tokens.

    """
    metadata, vocab_size = trainer.batches.corpus.metadata, trainer.model.vocab_size
    if metadata["kind"] == "bytes" and vocab_size != BYTES_VOCAB:
        raise DataError(
            f"{metadata['name']}: text is read as bytes, but the weights have {vocab_size} tokens; "
            "convert it with `ockham tokenize` first"
        )
    settings = trainer.settings
    digest = load_pretrained(trainer.model, Path(settings.init_from), settings.init_sha256)
    trainer.settings = replace(settings, init_sha256=digest)


def export_hf_files(
    weights: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    vocab_size: int,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Return config.json and model.safetensors for `transformers.GPT2LMHeadModel.from_pretrained`.

    GPT-2 has biases everywhere. Missing biases are written as zeros, which computes the same.
    *metadata* is stored as JSON values.

    Raises:
        BadInputError: If the model was trained under a recipe that GPT-2 does not support.

    """
    require_gpt2_architecture(settings, "export to transformers")
    state = {name: tensor.detach().cpu().float() for name, tensor in weights.items()}
    for name, tensor in list(state.items()):
        bias = name.removesuffix("weight") + "bias"
        if name.startswith(("h.", "ln_f.")) and name.endswith(".weight") and bias not in state:
            state[bias] = torch.zeros(tensor.shape[0])
    tensors = {
        f"transformer.{name}": (tensor.t() if name.endswith(_TRANSPOSED) else tensor).contiguous()
        for name, tensor in state.items()
    }
    end_of_text = 50_256 if vocab_size > 50_256 else None
    architecture = {name: settings[setting] for name, setting in HF_NAMES.items() if setting != "vocab_size"}
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **architecture,
        "vocab_size": vocab_size,
        "activation_function": "gelu_new" if settings.get("gelu") == "tanh" else "gelu",
        **REQUIRED_HF_VALUES,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.get("dropout", 0.0)),
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }
    texts = {name: json.dumps(value, sort_keys=True) for name, value in (metadata or {}).items()}
    return {
        CONFIG: json.dumps(config, indent=2).encode(),
        WEIGHTS: save(tensors, metadata={"format": "pt", **texts}),
    }


def _load_all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder, from one file or from the shards that the index names."""
    if (folder / WEIGHTS).is_file():
        return load_tensors(folder / WEIGHTS)
    index = folder / INDEX
    if not index.is_file():
        pickles = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        hint = f"; {pickles[0]} is a pickle and is not read, save it as safetensors" if pickles else ""
        raise CheckpointError(f"{folder}: no {WEIGHTS}, and no {INDEX}{hint}")
    shards = read_json(folder, INDEX).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index}: weight_map is not an object of tensor to file name")
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index}: {name!r:.80} is not a file name; shards are in the same folder")
        tensors.update(load_tensors(folder / name))
    missing = sorted(set(shards) - set(tensors))
    if missing:
        raise CheckpointError(f"{index}: tensor {missing[0]!r:.80} is missing from the shards")
    return tensors


def _to_local_names(tensors: Mapping[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors with local names, as float32, without masks and head.

    The head must equal the embedding.
    """
    plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    head = plain.pop("lm_head.weight", None)
    if head is not None and "wte.weight" in plain and not torch.equal(head, plain["wte.weight"]):
        raise CheckpointError(
            f"{folder}: lm_head.weight differs from wte.weight; the model here requires equal weights"
        )
    state = {}
    for name, tensor in plain.items():
        if not name.endswith(_MASKS):
            is_transposed = name.endswith(_TRANSPOSED) and tensor.dim() == 2
            values = tensor.float()
            state[name] = (values.t() if is_transposed else values).contiguous()
    return state
