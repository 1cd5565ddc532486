"""A policy file with everything that it extends and the overrides, and the source location of each key."""

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
    "on_verdict_not_applied": ("warn", "stop"),
}
BANDS = ("update_rate", "accept_rate")


@dataclass
class PolicyDocument:
    """A policy file after `extends` and overrides, before plugins are created."""

    name: str = "custom"
    description: str = ""
    shadow: bool = False
    targets: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = ""
    locations: dict[tuple[str, ...], str] = field(default_factory=dict)

    def place(self, *path: str) -> str:
        """Return `file:line: ` of a key, or of the nearest key above it."""
        while path:
            if path in self.locations:
                return f"{self.locations[path]}: "
            path = path[:-1]
        return f"{self.source}: " if self.source else ""


def read_policy(name_or_path: str | Path, overrides: Sequence[str] = ()) -> PolicyDocument:
    """Read a preset or file with everything that it extends, and apply the overrides.

    Raises:
        PolicyError: If a key or value cannot be used. The message names file and line.

    """
    document = PolicyDocument()
    for path in reversed(resolve_extends(name_or_path)):
        _merge(document, path, load_yaml(path))
    for override in overrides:
        _override(document, override)
    return document


def check_schema(document: PolicyDocument, plugins: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the complete document against `schemas/policy.v1.schema.json`.

    Raises:
        PolicyError: If it does not fit. The message names location and field.

    """
    content = {
        "policy": VERSION,
        "name": document.name,
        "description": document.description,
        "shadow": document.shadow,
        "targets": document.targets,
        "hyperparameters": document.hyperparameters,
        "plugins": plugins,
    }
    error = next(
        jsonschema_rs.Draft202012Validator(load_schema("policy")).iter_errors(to_json_value(content)), None
    )
    if error is not None:
        path = [str(part) for part in error.instance_path]
        raise PolicyError(f"{document.place(*path)}{'.'.join(path) or 'policy'}: {error.message:.300}")


def _merge(document: PolicyDocument, path: Path, loaded: CommentedMap) -> None:
    """Merge a file into what it extends: settings one by one, all other keys as a whole."""
    _store_locations(document, path, loaded, ())
    for key in loaded:
        if key not in KEYS:
            raise PolicyError(
                f"{document.place(key)}unknown key {key!r} in a policy{suggest_name(str(key), KEYS)}"
            )
    document.source = str(path) if path.parent != resources.presets_dir() else f"preset {path.stem}"
    document.name = _text(document, loaded, "name", path.stem)
    document.description = _text(document, loaded, "description", document.description)
    if loaded.get("policy", VERSION) != VERSION or isinstance(loaded.get("policy"), bool):
        raise PolicyError(f"{document.place('policy')}policy is the version of this format, {VERSION}")
    document.shadow = require_bool(loaded.get("shadow", document.shadow), "shadow", document.place("shadow"))
    for key, value in _mapping(document, loaded, "targets").items():
        if value is None:
            # null removes the target band of this rate.
            document.targets.pop(key, None)
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
    """Merge settings one by one, or replace them if the plugin has another class."""
    used = below.get("use", name)
    if settings.get("use", used) != used:
        below.clear()
    below.update({str(key): _plain(value) for key, value in settings.items()})


def require_bool(value: Any, what: str, place: str) -> bool:
    """Return *value* if it is a boolean.

    Raises:
        PolicyError: If it is not. Text such as "yes" is not a boolean.

    """
    if not isinstance(value, bool):
        raise PolicyError(f"{place}{what} takes true or false, got {type(value).__name__} {value!r:.60}")
    return value


def parse_override(override: str) -> tuple[str, str, Any]:
    """Return target, setting and value of `gate.target=0.3`. The value is typed by the rules of YAML.

    Raises:
        PolicyError: If the form differs, or the value is not YAML.

    """
    key, equals, text = override.partition("=")
    target, _, setting = key.strip().partition(".")
    if not equals or not setting:
        raise PolicyError(f"--set {override!r}: write a policy setting as plugin.setting=value")
    try:
        value = _plain(YAML(typ="safe", pure=True).load(text)) if text.strip() else ""
    except (YAMLError, ValueError, RecursionError):
        raise PolicyError(f"--set {override!r}: {text!r} is not a YAML value") from None
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
        hint = suggest_name(target, [*document.plugins, "hyperparameters"])
        raise PolicyError(f"--set {override!r}: no plugin {target!r} in policy {document.name!r}{hint}")
    above = document.place("plugins", target).removesuffix(": ").removesuffix(" with --set")
    document.locations["plugins", target] = f"{above} with --set"
    document.locations["plugins", target, setting] = "--set"
    _merge_settings(target, document.plugins[target], {setting: value})


def check_hyperparameter(key: str, value: Any, place: str) -> Any:
    """Return the value of a hyperparameter as its type.

    Raises:
        PolicyError: If the name does not exist, or the value is not accepted.

    """
    if key not in HYPERPARAMETER_TYPES:
        raise PolicyError(f"{place}no hyperparameter {key!r}{suggest_name(key, HYPERPARAMETER_TYPES)}")
    expected = HYPERPARAMETER_TYPES[key]
    if isinstance(expected, tuple):
        if value not in expected:
            raise PolicyError(f"{place}{key} takes one of {', '.join(expected)}, got {value!r}")
        return str(value)
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int and not (expected is float and isinstance(value, float)):
        accepted = "number" if expected is float else "whole number"
        raise PolicyError(f"{place}{key} takes a {accepted}, got {type(value).__name__} {value!r}")
    if not value >= 0:
        raise PolicyError(f"{place}{key} takes a number >= 0, got {value!r}")
    return expected(value)


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
    """Return the YAML name of a type instead of the name of the parser's class."""
    if isinstance(value, Mapping):
        return "mapping"
    return "list" if isinstance(value, list) else type(value).__name__


def _store_locations(document: PolicyDocument, path: Path, node: Any, above: tuple[str, ...]) -> None:
    if not isinstance(node, CommentedMap):
        return
    for key in node:
        key_path = (*above, str(key))
        document.locations[key_path] = f"{path}:{node.lc.key(key)[0] + 1}"
        _store_locations(document, path, node[key], key_path)


def _plain(value: Any) -> Any:
    """Return a YAML value as a plain Python value. Number types of ruamel.yaml do not fit type hints."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
