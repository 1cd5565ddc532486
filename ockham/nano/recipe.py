"""Recipes: what of the mathematics differs from nanoGPT's, one switch a line; a recipe is a set of settings by name.

`nanogpt` is the default and changes nothing. `fast` is opt-in: what modded-nanogpt and nanochat found to reach a loss in
fewer steps, as far as it is readable. Each switch is a setting of its own: `--recipe fast --set qk_norm=false` leaves one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ockham.errors import BadInputError, suggest_name


@dataclass(frozen=True)
class ArchitectureOptions:
    """The switches that change the model; as they stand here, it is GPT-2's.

    Attributes:
        norm: `layer` has gains; `rms` has none and subtracts no mean (Zhang & Sennrich 2019).
        positions: `learned` is a vector for each; `rotary` turns queries and keys (Su et al. 2021).
        qk_norm: queries and keys to RMS 1 in each head, so that no logit of attention runs away (Henry et al. 2020).
        activation: `gelu`, or `relu2`, its square (So et al. 2021).
        zero_init: projections into the residual start at 0, so that a block starts as nothing.
        logit_softcap: logits are kept within +-cap by cap * tanh(logit / cap) (Gemma 2); 0: not.

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
        "optimizer": "muon",       # hidden matrices; AdamW goes on with embeddings, head and gains
        "norm": "rms",
        "positions": "rotary",
        "qk_norm": True,
        "activation": "relu2",
        "zero_init": True,
        "logit_softcap": 15.0,
    },
}  # fmt: skip
# How many times a size's learning rates a recipe takes. Scaled to the RMS of AdamW, Muon's usual .02 (Jordan et al. 2024)
# comes to 3 to 4 times what AdamW takes at these widths; at 1 and 2 times the loss was worse (docs/speed.md).
LEARNING_RATE_MULTIPLIERS: Mapping[str, float] = {"fast": 4.0}


def recipe_settings(name: str) -> Mapping[str, Any]:
    """The settings of a recipe.

    Raises:
        BadInputError: with the nearest name, if there is none of that name.

    """
    if name not in RECIPES:
        raise BadInputError(f"no recipe {name!r}{suggest_name(name, RECIPES)}")
    return RECIPES[name]


def architecture_options(settings: Any) -> ArchitectureOptions:
    """The switches of the model out of the trainer's settings, an object or a mapping; what it does not name is GPT-2's."""
    told = settings if isinstance(settings, Mapping) else vars(settings)
    return ArchitectureOptions(
        **{field.name: told[field.name] for field in fields(ArchitectureOptions) if field.name in told}
    )


def require_gpt2_architecture(settings: Any, what: str) -> None:
    """Refuse settings under which a model is not GPT-2's.

    Args:
        settings: the trainer's.
        what: begins the sentence, such as `init_from`.

    Raises:
        BadInputError: naming the first switch that is turned.

    """
    ours, plain = architecture_options(settings), ArchitectureOptions()
    for field in fields(ArchitectureOptions):
        name = field.name
        if getattr(ours, name) != getattr(plain, name):
            raise BadInputError(
                f"{what}: GPT-2 has {name}={getattr(plain, name)}, and the settings say {name}={getattr(ours, name)}"
            )
