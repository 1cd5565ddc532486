"""The architecture that weights are made for: what a Hugging Face folder's config.json says, and what a run keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError, CheckpointError, suggest_name

CONFIG = "config.json"
HF_NAMES: Mapping[str, str] = {  # their name -> ours
    "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "n_positions": "block_size", "vocab_size": "vocab_size",
}  # fmt: skip
REQUIRED_HF_VALUES: Mapping[str, Any] = {  # what this model computes; a file may leave it out
    "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True, "add_cross_attention": False,
}  # fmt: skip
ARCHITECTURE_SETTINGS = (  # what weights, and the moments beside them, are made for
    "size", "n_layer", "n_head", "n_embd", "block_size", "bias", "gelu", "vocab_multiple", "optimizer", "norm",
    "positions", "qk_norm", "activation", "logit_softcap",
)  # fmt: skip
_GELUS = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "exact"}


def read_hf_config(folder: Path) -> dict[str, Any]:
    """The trainer's settings that a folder's config.json asks for: sizes, biases, the form of GELU.

    Raises:
        CheckpointError: if it is no GPT-2, or one that computes something else than the model here.

    """
    told = read_json(folder, CONFIG)
    if told.get("model_type") != "gpt2":
        raise CheckpointError(
            f"{folder / CONFIG}: model_type is {told.get('model_type')!r:.60}; weights of 'gpt2' can be read"
        )
    for name, wanted in {**REQUIRED_HF_VALUES, "n_inner": None}.items():
        value = told.get(name, wanted)
        if value != wanted and not (name == "n_inner" and value == 4 * told.get("n_embd", 0)):
            raise CheckpointError(
                f"{folder / CONFIG}: {name} is {value!r:.60}, and the model here has {wanted!r}"
            )
    gelu = told.get("activation_function", "gelu_new")
    if gelu not in _GELUS:
        raise CheckpointError(
            f"{folder / CONFIG}: activation_function {gelu!r:.60}{suggest_name(str(gelu), _GELUS)}"
        )
    found: dict[str, Any] = {"bias": True, "gelu": _GELUS[gelu]}
    for name, ours in HF_NAMES.items():
        value = told.get(name)
        if type(value) is not int or value <= 0:
            raise CheckpointError(
                f"{folder / CONFIG}: {name} is {value!r:.60}; a whole number above 0 was expected"
            )
        found[ours] = value
    return found


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of such a folder.

    Raises:
        CheckpointError: if it is not there, or holds something else.

    """
    path = folder / name
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a Hugging Face folder with {CONFIG} and model.safetensors was expected"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object was expected")
    return value


def require_same_architecture(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse another model, or another optimizer's state, than those that the weights and moments belong to.

    Raises:
        BadInputError: naming the setting, what was asked, and what it is.

    """
    for name in ARCHITECTURE_SETTINGS:
        if name in recorded and asked.get(name, recorded[name]) != recorded[name]:
            raise BadInputError(
                f"{name}={asked[name]}: the weights that it goes on from were made with {name}={recorded[name]}, which stays"
            )
