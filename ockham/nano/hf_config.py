"""Architecture of weights: Hugging Face's config.json, and the settings that a resumed run must keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError, CheckpointError, suggest_name

CONFIG = "config.json"
# Hugging Face's name -> name of the setting.
HF_NAMES: Mapping[str, str] = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "n_positions": "block_size",
    "vocab_size": "vocab_size",
}
# Values that this model implements. A file may omit them.
REQUIRED_HF_VALUES: Mapping[str, Any] = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}
# Settings that weights and optimizer moments depend on.
ARCHITECTURE_SETTINGS = (
    "size",
    "n_layer",
    "n_head",
    "n_embd",
    "block_size",
    "bias",
    "gelu",
    "vocab_multiple",
    "optimizer",
    "norm",
    "positions",
    "qk_norm",
    "activation",
    "logit_softcap",
)
_GELUS = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "exact"}


def read_hf_config(folder: Path) -> dict[str, Any]:
    """Return the trainer's settings that match a folder's config.json: sizes, biases, the form of GELU.

    Raises:
        CheckpointError: If the model is not a GPT-2, or computes something else than the model here.

    """
    path = folder / CONFIG
    config = read_json(folder, CONFIG)
    if config.get("model_type") != "gpt2":
        raise CheckpointError(f"{path}: model_type is {config.get('model_type')!r:.60}; accepted: 'gpt2'")
    for name, required in {**REQUIRED_HF_VALUES, "n_inner": None}.items():
        value = config.get(name, required)
        is_default_width = name == "n_inner" and value == 4 * config.get("n_embd", 0)
        if value != required and not is_default_width:
            raise CheckpointError(f"{path}: {name} is {value!r:.60}; accepted: {required!r}")
    gelu = config.get("activation_function", "gelu_new")
    if gelu not in _GELUS:
        raise CheckpointError(f"{path}: activation_function {gelu!r:.60}{suggest_name(str(gelu), _GELUS)}")
    settings: dict[str, Any] = {"bias": True, "gelu": _GELUS[gelu]}
    for name, setting in HF_NAMES.items():
        value = config.get(name)
        if type(value) is not int or value <= 0:
            raise CheckpointError(f"{path}: {name} is {value!r:.60}; a whole number above 0 is required")
        settings[setting] = value
    return settings


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a Hugging Face folder.

    Raises:
        CheckpointError: If the file does not exist or is not a JSON object.

    """
    path = folder / name
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; use a Hugging Face folder with {CONFIG} and model.safetensors"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def require_same_architecture(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    """Check that the requested settings match the weights and moments of a recorded run.

    Raises:
        BadInputError: If a setting differs. The message contains the setting and both values.

    """
    for name in ARCHITECTURE_SETTINGS:
        if name in recorded and requested.get(name, recorded[name]) != recorded[name]:
            raise BadInputError(
                f"{name}={requested[name]}: the weights were made with {name}={recorded[name]}; "
                "this cannot change"
            )
