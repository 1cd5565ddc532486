"""Recipes: named sets of settings that change the mathematics compared with nanoGPT.

`nanogpt` is the default and changes nothing. `fast` contains readable changes of modded-nanogpt and nanochat
that reach a loss in fewer steps. Each change is a separate setting, so `--recipe fast --set qk_norm=false`
leaves one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ockham.errors import BadInputError, suggest_name


@dataclass(frozen=True)
class ArchitectureOptions:
    """Settings that change the model. The defaults are GPT-2's.

    Attributes:
        norm: `layer` has gains. `rms` has none and subtracts no mean (Zhang & Sennrich 2019).
        positions: `learned` has a vector per position. `rotary` rotates queries and keys (Su et al. 2021).
        qk_norm: Normalise queries and keys to RMS 1 in each head. Attention logits then stay bounded (Henry
            et al. 2020).
        activation: `gelu`, or `relu2`, the square of ReLU (So et al. 2021).
        zero_init: Initialise the projections into the residual with 0. Each block then starts as the
            identity.
        logit_softcap: Keep logits within +-cap by cap * tanh(logit / cap) (Gemma 2). 0 sets no cap.

    """

    norm: Literal["layer", "rms"] = "layer"
    positions: Literal["learned", "rotary"] = "learned"
    qk_norm: bool = False
    activation: Literal["gelu", "relu2"] = "gelu"
    zero_init: bool = False
    logit_softcap: float = 0.0


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "nanogpt": {
        "optimizer": "adamw",
        "norm": "layer",
        "positions": "learned",
        "qk_norm": False,
        "activation": "gelu",
        "zero_init": False,
        "logit_softcap": 0.0,
    },
    "fast": {
        # Only for the hidden matrices. Embeddings, head and gains use AdamW.
        "optimizer": "muon",
        "norm": "rms",
        "positions": "rotary",
        "qk_norm": True,
        "activation": "relu2",
        "zero_init": True,
        "logit_softcap": 15.0,
    },
}
# Factor on a size's learning rates. Scaled to the RMS of AdamW, Muon's usual 0.02 (Jordan et al. 2024) is
# 3 to 4 times AdamW's rate at these widths. At 1 and 2 times the loss was worse.
LEARNING_RATE_MULTIPLIERS: Mapping[str, float] = {"fast": 4.0}


def recipe_settings(name: str) -> Mapping[str, Any]:
    """Return the settings of a recipe.

    Raises:
        BadInputError: If the name is unknown. The message contains the nearest name.

    """
    if name not in RECIPES:
        raise BadInputError(f"no recipe {name!r}{suggest_name(name, RECIPES)}")
    return RECIPES[name]


def architecture_options(settings: Any) -> ArchitectureOptions:
    """Return the architecture options in the trainer's settings, an object or a mapping.

    Defaults are GPT-2's.
    """
    values = settings if isinstance(settings, Mapping) else vars(settings)
    names = [field.name for field in fields(ArchitectureOptions) if field.name in values]
    return ArchitectureOptions(**{name: values[name] for name in names})


def require_gpt2_architecture(settings: Any, subject: str) -> None:
    """Check that the settings describe a GPT-2.

    Args:
        settings: Settings of the trainer.
        subject: First words of the error message, such as `init_from`.

    Raises:
        BadInputError: If an option differs. The message names the first one.

    """
    options = architecture_options(settings)
    for field in fields(ArchitectureOptions):
        value = getattr(options, field.name)
        if value != field.default:
            raise BadInputError(
                f"{subject}: the settings have {field.name}={value}; GPT-2 has {field.name}={field.default}"
            )
