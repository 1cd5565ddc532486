"""Settings from the command line: size, recipe and `--set name=value`."""

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
) -> Settings:
    """Return the settings of a size (`nano`) under a recipe (`nanogpt`), with overrides.

    Args:
        size: Name of the model size. Empty uses `nano`.
        overrides: Settings as `name=value`.
        base: Settings that replace size and recipe, as on resume. A size or recipe that is given too must
            match.
        recipe: Name of the recipe. Empty uses `nanogpt`.

    Raises:
        BadInputError: If a name or value is invalid. The message contains the nearest name and the accepted
            values.

    """
    requested = {**(recipe_settings(recipe) if recipe else {}), **_parse_overrides(overrides)}
    if base is None:
        values = _size_defaults(size or "nano", recipe)
        if requested.get("init_from"):
            values |= _pretrained_defaults(requested)
        return Settings(**{**values, **requested})
    known = typing.get_type_hints(Settings)
    values = {name: value for name, value in base.items() if name in known}
    if size:
        _size_defaults(size, recipe)
    require_same_architecture(values, {**requested, **({"size": size} if size else {})})
    recorded_source = values.get("init_from", "")
    if requested.get("init_from", recorded_source) != recorded_source:
        raise BadInputError(f"init_from={requested['init_from']!r}: a resumed run has its weights already")
    return Settings(**{**values, **requested})


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return `name=value` texts as settings."""
    known = typing.get_type_hints(Settings)
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = (part.strip() for part in override.partition("="))
        if name == "size":
            raise BadInputError(
                f"--set {override!r}: size cannot be set; use --size, also together with --set"
            )
        if name not in known:
            suggestion = suggest_name(name, {*known} - {"size"})
            raise BadInputError(
                f"--set {override!r}: no setting {name!r}{suggestion}; "
                "settings of the policy have the form plugin.setting=value"
            )
        if not equals:
            raise BadInputError(f"--set {override!r}: the value is missing; use {name}=VALUE")
        values[name] = _parse_value(name, text, known[name])
    return values


def _size_defaults(size: str, recipe: str) -> dict[str, Any]:
    """Return the settings of a size, with the learning rates scaled for the recipe."""
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


def _pretrained_defaults(requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of a folder of weights, and nanoGPT's settings for fine-tuning."""
    architecture = read_hf_config(Path(requested["init_from"]))
    for name, value in architecture.items():
        is_shorter = name == "block_size" and 0 < requested.get(name, value) <= value
        if requested.get(name, value) != value and not is_shorter:
            raise BadInputError(
                f"--set {name}={requested[name]}: the weights of {requested['init_from']} have {name}={value}"
            )
    if requested.get("vocab_multiple", 1) != 1:
        raise BadInputError("--set vocab_multiple: pretrained weights have no padded tokens; accepted: 1")
    return {**architecture, **_FINE_TUNING}


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split `--set` into overrides of the trainer (`max_iters=600`) and of the policy (`gate.target=0.3`)."""
    dotted = ["." in override.partition("=")[0] for override in overrides]
    trainer_overrides = [text for text, dot in zip(overrides, dotted, strict=True) if not dot]
    policy_overrides = [text for text, dot in zip(overrides, dotted, strict=True) if dot]
    return trainer_overrides, policy_overrides


def _parse_value(name: str, text: str, type_hint: Any) -> Any:
    """Return a text as a value of the setting's type."""
    descriptions = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    try:
        if type_hint is int:
            return int(text.replace("_", ""))
        if type_hint is float and math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    if type_hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if type_hint is str and text:
        return text
    if typing.get_origin(type_hint) is Literal and text in typing.get_args(type_hint):
        return text
    accepted = descriptions.get(type_hint) or "one of " + ", ".join(typing.get_args(type_hint))
    raise BadInputError(f"--set {name}={text!r:.60}: {name} takes {accepted}")
