"""GPT-2's weights from a Hugging Face folder, and back into one: config.json and safetensors, never pickle.

Names are GPT-2's on both sides. What differs: Hugging Face keeps each matrix of attention and MLP as (in, out)
(`Conv1D`), torch's Linear as (out, in); and its files may hold the causal mask and the tied head a second time.
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

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_MASKS = (".attn.bias", ".attn.masked_bias")  # buffers of older files: the causal mask


def load_pretrained(model: GPT, folder: Path, sha256: str = "") -> str:
    """Put a folder's weights into a model; a shorter context takes the first positions.

    Args:
        model: of the folder's architecture.
        folder: with config.json, and model.safetensors or its index and shards.
        sha256: what the weights must have as digest; empty: any.

    Returns:
        The digest of the model's weights, as `checkpoint.saved` would give it.

    Raises:
        CheckpointError: naming the tensor or file that is missing, of another shape, or not finite.

    """
    state = _to_local_names(_tensors(folder), folder)
    if "wpe.weight" in state:
        state["wpe.weight"] = state["wpe.weight"][: model.block_size]
    unknown = sorted(set(state) - {name for name, _ in model.named_parameters()})
    if unknown:
        raise CheckpointError(
            f"{folder}: tensor {unknown[0]!r:.80} has no place in the model; GPT-2 was expected"
        )
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{folder}: tensor {name!r} holds values that are not finite")
    digest = weights_digest(state)
    if sha256 and digest != sha256:
        raise CheckpointError(f"{folder}: the weights have digest {digest}, and {sha256} was expected")
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
    weights: Mapping[str, torch.Tensor], settings: Mapping[str, Any], vocab_size: int
) -> dict[str, bytes]:
    """A model as `transformers.GPT2LMHeadModel.from_pretrained` reads it: config.json and model.safetensors.

    GPT-2 has biases everywhere: where this model has none they are written as zeros, which computes the same.

    Raises:
        BadInputError: if the model was trained under a recipe that GPT-2 does not have.

    """
    require_gpt2_architecture(settings, "transformers reads it as GPT-2")
    state = {name: tensor.detach().cpu().float() for name, tensor in weights.items()}
    for name, tensor in list(state.items()):
        bias = name.removesuffix("weight") + "bias"
        if name.startswith(("h.", "ln_f.")) and name.endswith(".weight") and bias not in state:
            state[bias] = torch.zeros(tensor.shape[0])
    turned = {
        f"transformer.{name}": (tensor.t() if name.endswith(_TRANSPOSED) else tensor).contiguous()
        for name, tensor in state.items()
    }
    end_of_text = 50_256 if vocab_size > 50_256 else None
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
        **{theirs: settings[ours] for theirs, ours in HF_NAMES.items() if ours != "vocab_size"}, "vocab_size": vocab_size,
        "activation_function": "gelu_new" if settings.get("gelu") == "tanh" else "gelu", **REQUIRED_HF_VALUES,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.get("dropout", 0.0)),
        "bos_token_id": end_of_text, "eos_token_id": end_of_text,
    }  # fmt: skip
    return {
        CONFIG: json.dumps(config, indent=2).encode(),
        WEIGHTS: save(turned, metadata={"format": "pt"}),
    }


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, from one file or from the shards that the index names."""
    if (folder / WEIGHTS).is_file():
        return load_tensors(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        why = f"; {pickled[0]} is a pickle and is not read: save it again as safetensors" if pickled else ""
        raise CheckpointError(f"{folder}: no {WEIGHTS}, and no {INDEX}{why}")
    placed = read_json(folder, INDEX).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f"{folder / INDEX}: weight_map must be an object of tensor to file name")
    found: dict[str, torch.Tensor] = {}
    for name in sorted(set(placed.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX}: {name!r:.80} is not the plain name of a file beside it")
        found.update(load_tensors(folder / name))
    missing = sorted(set(placed) - set(found))
    if missing:
        raise CheckpointError(f"{folder / INDEX}: tensor {missing[0]!r:.80} is in none of the shards")
    return found


def _to_local_names(found: Mapping[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """Tensors by our names, as float32, without masks and without the head, which must be the embedding itself."""
    plain = {name.removeprefix("transformer."): tensor for name, tensor in found.items()}
    head = plain.pop("lm_head.weight", None)
    if head is not None and "wte.weight" in plain and not torch.equal(head, plain["wte.weight"]):
        raise CheckpointError(
            f"{folder}: lm_head.weight differs from wte.weight, and the model here ties them"
        )
    ours = {name: tensor.float() for name, tensor in plain.items() if not name.endswith(_MASKS)}
    turned = {name for name in ours if name.endswith(_TRANSPOSED) and ours[name].dim() == 2}
    return {name: (tensor.t() if name in turned else tensor).contiguous() for name, tensor in ours.items()}
