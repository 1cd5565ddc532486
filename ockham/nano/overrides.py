"""What was typed for the trainer: a size, a recipe, and `--set name=value`, made into settings."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ockham.errors import BadInputError, suggest_name
from ockham.nano.config import MODEL_SIZES, Settings
from ockham.nano.hf_config import read_hf_config, require_same_architecture
from ockham.nano.recipe import LEARNING_RATE_MULTIPLIERS, recipe_settings

_AS_GPT2 = ("gpt2-medium", "gpt2-large", "gpt2-xl")
_FINE_TUNING = {"learning_rate": 3e-5, "min_lr": 3e-6, "dropout": 0.0, "vocab_multiple": 1}


def build_settings(
    size: str = "", overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None, *, recipe: str = ""
) -> Settings:  # fmt: skip
    """Settings of a size (`nano`) under a recipe (`nanogpt`), with `name=value` on top.

    `base` takes the place of both, as on resume; a size or recipe that is named beside it must be its own.

    Raises:
        BadInputError: naming the size, recipe or setting, the nearest name, and what it takes.

    """
    known = typing.get_type_hints(Settings)
    values = _size_defaults(size or "nano", recipe)
    asked: dict[str, Any] = dict(recipe_settings(recipe)) if recipe else {}
    for override in overrides:
        name, equals, text = (part.strip() for part in override.partition("="))
        if name == "size":
            raise BadInputError(
                f"--set {override!r}: the size is said by --size, which may stand beside --set"
            )
        if name not in known:
            close = suggest_name(name, {*known} - {"size"})
            raise BadInputError(
                f"--set {override!r}: no setting {name!r}{close}; the policy's are written plugin.setting=value"
            )
        if not equals:
            raise BadInputError(f"--set {override!r}: a value was expected, as in {name}=VALUE")
        asked[name] = _parse_value(name, text, known[name])
    if base is not None:
        values = {name: value for name, value in base.items() if name in known}
        require_same_architecture(values, {**asked, **({"size": size} if size else {})})
        if asked.get("init_from", values.get("init_from", "")) != values.get("init_from", ""):
            raise BadInputError(f"init_from={asked['init_from']!r}: what goes on has its weights already")
    elif asked.get("init_from"):
        values |= _pretrained(asked)
    return Settings(**{**values, **asked})


def _size_defaults(size: str, recipe: str) -> dict[str, Any]:
    """What a size says, with the learning rates that a recipe makes of its own."""
    if size not in MODEL_SIZES:
        raise BadInputError(f"no size {size!r}{suggest_name(size, MODEL_SIZES)}")
    values: dict[str, Any] = {
        **(MODEL_SIZES["gpt2"] if size in _AS_GPT2 else {}),
        **MODEL_SIZES[size],
        "size": size,
    }
    for name in ("learning_rate", "min_lr"):
        values[name] = values.get(name, getattr(Settings, name)) * LEARNING_RATE_MULTIPLIERS.get(recipe, 1.0)
    return values


def _pretrained(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of a folder of weights, and learning rates that leave something of them, as nanoGPT has them."""
    found = read_hf_config(Path(asked["init_from"]))
    for name, value in found.items():
        shorter = name == "block_size" and 0 < asked.get(name, value) <= value
        if asked.get(name, value) != value and not shorter:
            raise BadInputError(
                f"--set {name}={asked[name]}: the weights of {asked['init_from']} have {name}={value}"
            )
    if asked.get("vocab_multiple", 1) != 1:
        raise BadInputError("--set vocab_multiple: weights that others trained know no padded tokens")
    return {**found, **_FINE_TUNING}


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """`--set` for the trainer (`max_iters=600`) and for the policy (`gate.target=0.3`, with a dot)."""
    dotted = ["." in override.partition("=")[0] for override in overrides]
    ours = [text for text, dot in zip(overrides, dotted, strict=True) if not dot]
    return ours, [text for text, dot in zip(overrides, dotted, strict=True) if dot]


def _parse_value(name: str, text: str, wanted: Any) -> Any:
    told = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    try:
        if wanted is int:
            return int(text.replace("_", ""))
        if wanted is float:
            number = float(text)
            if math.isfinite(number):
                return number
        elif wanted is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        elif (wanted is str and text) or (
            typing.get_origin(wanted) is Literal and text in typing.get_args(wanted)
        ):
            return text
    except ValueError:
        pass
    accepted = told.get(wanted) or "one of " + ", ".join(typing.get_args(wanted))
    raise BadInputError(f"--set {name}={text!r:.60}: {name} takes {accepted}")
