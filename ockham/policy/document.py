"""A policy file with what it extends and the overrides on top, and the place of everything for errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from ockham import resources
from ockham.errors import PolicyError, suggest_name
from ockham.event import to_json_value
from ockham.policy.yaml_loader import KEYS, load_yaml, resolve_extends
from ockham.record.schema import load_schema

VERSION = 1
HYPERPARAMETER_TYPES: Mapping[str, type | tuple[str, ...]] = {
    "lambda_ockham": float,
    "evaluations": int,
    "pull": ("decoupled", "coupled", "none"),
    "grad_clip": float,
}
BANDS = ("update_rate", "accept_rate")


@dataclass
class PolicyDocument:
    """A policy file after `extends` and overrides, before plugins are made."""

    name: str = "custom"
    description: str = ""
    shadow: bool = False
    targets: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = ""
    locations: dict[tuple[str, ...], str] = field(default_factory=dict)

    def place(self, *path: str) -> str:
        """`file:line: ` of a key, or of the nearest one above it."""
        while path:
            if path in self.locations:
                return f"{self.locations[path]}: "
            path = path[:-1]
        return f"{self.source}: " if self.source else ""


def read_policy(name_or_path: str | Path, overrides: Sequence[str] = ()) -> PolicyDocument:
    """Read a preset or file with everything it extends, then put overrides on top.

    Raises:
        PolicyError: naming file and line.

    """
    document = PolicyDocument()
    for path in reversed(resolve_extends(name_or_path)):
        _merge(document, path, load_yaml(path))
    for override in overrides:
        _override(document, override)
    return document


def check_schema(document: PolicyDocument, plugins: Mapping[str, Mapping[str, Any]]) -> None:
    """The second opinion: the whole document against `schemas/policy.v1.schema.json`.

    Raises:
        PolicyError: naming place and field.

    """
    whole = {
        "policy": VERSION, "name": document.name, "description": document.description, "shadow": document.shadow,
        "targets": document.targets, "hyperparameters": document.hyperparameters, "plugins": plugins,
    }  # fmt: skip
    error = next(
        jsonschema_rs.Draft202012Validator(load_schema("policy")).iter_errors(to_json_value(whole)), None
    )
    if error is not None:
        path = [str(part) for part in error.instance_path]
        raise PolicyError(f"{document.place(*path)}{'.'.join(path) or 'policy'}: {error.message:.300}")


def _merge(document: PolicyDocument, path: Path, loaded: CommentedMap) -> None:
    """Lay a file over what it extends: settings one by one, everything else whole."""
    _note_places(document, path, loaded, ())
    for key in loaded:
        if key not in KEYS:
            raise PolicyError(
                f"{document.place(key)}no key {key!r} in a policy{suggest_name(str(key), KEYS)}"
            )
    document.source = str(path) if path.parent != resources.presets_dir() else f"preset {path.stem}"
    document.name = _text(document, loaded, "name", path.stem)
    document.description = _text(document, loaded, "description", document.description)
    if loaded.get("policy", VERSION) != VERSION or isinstance(loaded.get("policy"), bool):
        raise PolicyError(f"{document.place('policy')}policy is the version of this format, {VERSION}")
    document.shadow = require_bool(loaded.get("shadow", document.shadow), "shadow", document.place("shadow"))
    for key, value in _mapping(document, loaded, "targets").items():
        if value is None:
            document.targets.pop(key, None)  # no promise about this rate
        else:
            document.targets[key] = _parse_band(document, key, value)
    for key, value in _mapping(document, loaded, "hyperparameters").items():
        document.hyperparameters[key] = check_hyperparameter(
            key, value, document.place("hyperparameters", key)
        )
    for name, settings in ((str(key), value) for key, value in _mapping(document, loaded, "plugins").items()):
        if settings is None and name in document.plugins:
            del document.plugins[name]
            continue
        if not isinstance(settings, Mapping):
            raise PolicyError(
                f"{document.place('plugins', name)}plugin {name!r} takes a mapping of settings, {{}} for none"
            )
        _merge_settings(name, document.plugins.setdefault(name, {}), settings)


def _merge_settings(name: str, below: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Settings one by one, unless they are those of another class."""
    used = below.get("use", name)
    if settings.get("use", used) != used:
        below.clear()
    below.update({str(key): _plain(value) for key, value in settings.items()})


def require_bool(value: Any, what: str, place: str) -> bool:
    """A switch; text that looks like one is none."""
    if not isinstance(value, bool):
        raise PolicyError(f"{place}{what} takes true or false, got {type(value).__name__} {value!r:.60}")
    return value


def parse_override(override: str) -> tuple[str, str, Any]:
    """Target, setting and value of `gate.target=0.3`, typed by the rules of YAML.

    Raises:
        PolicyError: if it is written otherwise, or the value is no YAML.

    """
    key, equals, text = override.partition("=")
    target, _, setting = key.strip().partition(".")
    if not equals or not setting:
        raise PolicyError(f"--set {override!r}: a setting of the policy is written plugin.setting=value")
    try:
        value = _plain(YAML(typ="safe", pure=True).load(text)) if text.strip() else ""
    except (YAMLError, ValueError, RecursionError):
        raise PolicyError(f"--set {override!r}: {text!r} is no YAML value") from None
    return target, setting, value


def _override(document: PolicyDocument, override: str) -> None:
    target, setting, value = parse_override(override)
    if target == "hyperparameters":
        document.locations["hyperparameters", setting] = "--set"
        document.hyperparameters[setting] = check_hyperparameter(
            setting, value, document.place("hyperparameters", setting)
        )
        return
    if target not in document.plugins:
        raise PolicyError(
            f"--set {override!r}: no plugin {target!r} in policy {document.name!r}{suggest_name(target, [*document.plugins, 'hyperparameters'])}"
        )
    above = document.place("plugins", target).removesuffix(": ").removesuffix(" with --set")
    document.locations["plugins", target] = f"{above} with --set"
    document.locations["plugins", target, setting] = "--set"
    _merge_settings(target, document.plugins[target], {setting: value})


def check_hyperparameter(key: str, value: Any, place: str) -> Any:
    """The value of a hyperparameter, of its own type.

    Raises:
        PolicyError: if there is none of that name, or it takes other values.

    """
    if key not in HYPERPARAMETER_TYPES:
        raise PolicyError(f"{place}no hyperparameter {key!r}{suggest_name(key, HYPERPARAMETER_TYPES)}")
    wanted = HYPERPARAMETER_TYPES[key]
    if isinstance(wanted, tuple):
        if value not in wanted:
            raise PolicyError(f"{place}{key} takes one of {', '.join(wanted)}, got {value!r}")
        return str(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (wanted is float and isinstance(value, float)):
        raise PolicyError(
            f"{place}{key} takes a {'number' if wanted is float else 'whole number'}, got {type(value).__name__} {value!r}"
        )
    if not value >= 0:
        raise PolicyError(f"{place}{key} takes a number >= 0, got {value!r}")
    return wanted(value)


def _parse_band(document: PolicyDocument, key: str, value: Any) -> list[float]:
    place = document.place("targets", key)
    if key not in BANDS:
        raise PolicyError(f"{place}no target {key!r}{suggest_name(key, BANDS)}")
    numbers = (
        [float(item) for item in value]
        if isinstance(value, Sequence)
        and all(isinstance(i, (int, float)) and not isinstance(i, bool) for i in value)
        else []
    )
    if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= 1:
        raise PolicyError(f"{place}{key} takes [low, high] within 0..1, got {value!r}")
    return numbers


def _mapping(document: PolicyDocument, loaded: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = loaded.get(key, {})
    if not isinstance(value, Mapping):
        raise PolicyError(f"{document.place(key)}{key} takes a mapping, got {_kind(value)}")
    return value


def _text(document: PolicyDocument, loaded: Mapping[str, Any], key: str, default: str) -> str:
    value = loaded.get(key, default)
    if not isinstance(value, str):
        raise PolicyError(f"{document.place(key)}{key} takes text, got {_kind(value)} {value!r}")
    return value.strip()


def _kind(value: Any) -> str:
    """A type by the name that YAML has for it, not by that of the class which the parser made."""
    if isinstance(value, Mapping):
        return "mapping"
    return "list" if isinstance(value, list) else type(value).__name__


def _note_places(document: PolicyDocument, path: Path, node: Any, above: tuple[str, ...]) -> None:
    if not isinstance(node, CommentedMap):
        return
    for key in node:
        where = (*above, str(key))
        document.locations[where] = f"{path}:{node.lc.key(key)[0] + 1}"
        _note_places(document, path, node[key], where)


def _plain(value: Any) -> Any:
    """A YAML scalar as a plain Python value: ruamel's own number types would not fit a type hint."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
