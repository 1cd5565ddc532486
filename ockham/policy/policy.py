"""Policy: the resolved settings of a plugin chain.

A YAML 1.2 file is input only. It is checked, completed with every default, and stored as canonical JSON
(sorted keys, no spaces, UTF-8, non-finite numbers as strings). The policy revision is the SHA-256 of exactly
these bytes, so a verifier needs no YAML.

    name: mine
    extends: balanced
    plugins:
      gate: {target: 0.3}
      quiet: {use: "my_package.plugins:Quiet", shadow: true, level: 2}
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ockham.chain import plugin_name
from ockham.errors import PluginSettingError, PolicyError
from ockham.event import NONFINITE, from_json_value, to_json_value
from ockham.plugin import OccamPlugin
from ockham.plugins import BUILT_IN
from ockham.plugins.anchor import AnchorPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy.document import PolicyDocument, check_schema, read_policy, require_bool
from ockham.policy.plugin_registry import check_setting, code_digest, plugin_class, plugin_reference

HYPERPARAMETERS: Mapping[str, Any] = {
    "lambda_ockham": 0.01,
    "evaluations": 60,
    "pull": "decoupled",
    # A policy that names no limit keeps the trainer's own.
    "grad_clip": math.inf,
    "on_verdict_not_applied": "warn",
}
POLICY_KEY_TYPES = {"name": str, "targets": dict, "hyperparameters": dict, "plugins": list}
PLUGIN_KEY_TYPES = {"name": str, "use": str, "settings": dict, "shadow": bool}
KNOB_PLUGINS = ("gate", "eq", "saturation", "compressor")


@dataclass(frozen=True)
class Policy:
    """A resolved policy.

    Attributes:
        canonical: The policy as canonical JSON. All other values are read from it.
        source: Origin of the policy for people: a preset, a file, or `objects`.

    """

    canonical: bytes
    source: str

    @property
    def content(self) -> dict[str, Any]:
        """The policy as plain Python values."""
        return dict(from_json_value(json.loads(self.canonical)))

    @property
    def name(self) -> str:
        """Name of the policy."""
        return str(self.content["name"])

    @property
    def revision(self) -> str:
        """`sha256:` and the digest of the canonical bytes."""
        return f"sha256:{hashlib.sha256(self.canonical).hexdigest()}"

    @property
    def targets(self) -> dict[str, list[float]]:
        """Target bands of the policy: `update_rate` and `accept_rate`, each [low, high] in 0..1."""
        return dict(self.content["targets"])

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """`lambda_ockham`, `evaluations`, `pull` and `grad_clip`."""
        return dict(self.content["hyperparameters"])

    def build(self, *, trust: bool = True) -> list[OccamPlugin]:
        """Create the plugins in the order of the chain.

        Args:
            trust: Import third-party classes. If false, such a class raises an error.

        Raises:
            PolicyError: If a class cannot be used.

        """
        plugins = []
        for entry in self.content["plugins"]:
            if not trust and entry["use"] not in BUILT_IN:
                raise PolicyError(
                    f"plugin {entry['name']!r}: third-party code ({entry['use']}) is not imported here"
                )
            plugins.append(
                create_plugin(
                    entry["name"], plugin_class(entry["use"]), entry["settings"], shadow=entry["shadow"]
                )
            )
        return plugins


def load_policy(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Policy:
    """Load a preset by name or a policy file by path, and apply overrides such as `gate.target=0.3`.

    Args:
        name_or_path: Name of a preset, or path of a YAML file. Text is a path only if it has a separator or
            an extension, such as `./mine.yaml`.
        overrides: Settings in the form `plugin.setting=value`.

    Raises:
        PolicyError: If anything in it cannot be used. The message names file, line and the nearest known
            name.

    Example:
        >>> load_policy("balanced", ["gate.target=0.3"]).name
        'balanced'

    """
    document = read_policy(name_or_path, overrides)
    entries = []
    for name, settings in document.plugins.items():
        use, place = str(settings.pop("use", name)), document.place("plugins", name)
        shadow = require_bool(settings.pop("shadow", document.shadow), f"{name}.shadow", place)
        cls = plugin_class(use, place)
        for key in settings:
            settings[key] = check_setting(cls, name, key, settings[key], document.place("plugins", name, key))
        entries.append((name, use, create_plugin(name, cls, settings, shadow=shadow, place=place)))
    check_schema(document, {name: {"use": use, **plugin.settings()} for name, use, plugin in entries})
    return build_policy(document, entries)


def load_preset(name: str) -> tuple[list[OccamPlugin], OckhamMemory]:
    """Return the plugins of a preset and its memory.

    Raises:
        PolicyError: If the preset does not exist or has no memory.

    """
    plugins = load_policy(name).build()
    memory = next((plugin for plugin in plugins if isinstance(plugin, OckhamMemory)), None)
    if memory is None:
        raise PolicyError(f"preset {name!r} has no memory")
    return [plugin for plugin in plugins if plugin is not memory], memory


def policy_from_json(canonical: bytes) -> Policy:
    """Return the policy of canonical bytes, as a run stores them in `policies/`.

    Raises:
        PolicyError: If the bytes are not a policy.

    """
    try:
        content = json.loads(canonical)
        fits = (
            canonical == _canonical(content)
            and {key: type(content[key]) for key in POLICY_KEY_TYPES} == POLICY_KEY_TYPES
        )
        fits = fits and all(
            {key: type(entry[key]) for key in PLUGIN_KEY_TYPES} == PLUGIN_KEY_TYPES
            for entry in content["plugins"]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyError(f"not a policy: {error}") from None
    if not fits or not content["plugins"]:
        raise PolicyError("not a canonical policy: a key is missing, or spacing or key order differ")
    return Policy(canonical, "record")


def policy_from_plugins(
    plugins: Sequence[OccamPlugin], name: str = "custom", hyperparameters: Mapping[str, Any] | None = None
) -> Policy:
    """Return the policy that describes plugin objects."""
    entries = [(plugin_name(plugin), plugin_reference(type(plugin)), plugin) for plugin in plugins]
    document = PolicyDocument(
        name=name, hyperparameters={**HYPERPARAMETERS, **(hyperparameters or {})}, source="objects"
    )
    return build_policy(document, entries)


def with_default_plugins(
    plugins: Sequence[OccamPlugin], memory: OckhamMemory | None = None
) -> list[OccamPlugin]:
    """Return plugins in the order of a chain: `finite`, the given plugins, memory, `anchor`.

    Plugins that are already present are not added again.
    """
    kinds = {type(plugin) for plugin in plugins}
    first = [] if FinitePlugin in kinds else [FinitePlugin()]
    last = [] if AnchorPlugin in kinds else [AnchorPlugin(per_run=0)]
    return [*first, *plugins, *([memory] if memory is not None else []), *last]


def plugin_sources(policy: Policy, plugins: Sequence[OccamPlugin]) -> list[dict[str, Any]]:
    """Return name, class and source digest of each plugin for the event `policy.loaded`."""
    return [
        {
            "plugin": entry["name"],
            "use": entry["use"],
            "shadow": entry["shadow"],
            "code_sha256": code_digest(type(plugin)),
        }
        for entry, plugin in zip(policy.content["plugins"], plugins, strict=True)
    ]


def build_policy(document: PolicyDocument, entries: Sequence[tuple[str, str, OccamPlugin]]) -> Policy:
    """Return the policy of a document and of the name, class name and object of each plugin.

    Raises:
        PolicyError: If the plugins do not fit together.

    """
    _check_order(document, [plugin for _, _, plugin in entries])
    content = {
        "policy": 1,
        "name": document.name,
        "description": document.description,
        "targets": document.targets,
        "hyperparameters": {**HYPERPARAMETERS, **document.hyperparameters},
        "plugins": [
            {"name": name, "use": use, "shadow": plugin.shadow, "settings": _settings(name, plugin)}
            for name, use, plugin in entries
        ],
    }
    return Policy(_canonical(content), document.source)


def _settings(name: str, plugin: OccamPlugin) -> dict[str, Any]:
    settings = plugin.settings()
    for key, value in settings.items():
        if isinstance(value, str) and value in NONFINITE:
            raise PolicyError(f"{name}.{key} is the text {value!r}, which a policy uses for the number")
    return dict(to_json_value(settings))


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(
        to_json_value(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def create_plugin(
    name: str, cls: type[OccamPlugin], settings: Mapping[str, Any], *, shadow: bool, place: str = ""
) -> OccamPlugin:
    """Return a new plugin.

    Raises:
        PolicyError: If it does not accept a setting. The message starts with *place*.

    """
    try:
        plugin = cls(**settings)
    except PluginSettingError as error:
        message = str(error) if error.plugin == name else f"plugin {name!r}: {error}"
        raise PolicyError(f"{place}{message}") from None
    except Exception as error:
        raise PolicyError(f"{place}plugin {name!r}: {error}") from None
    if not isinstance(plugin, OccamPlugin):
        raise PolicyError(f"{place}plugin {name!r}: {cls.__name__} does not derive from ockham.OccamPlugin")
    plugin.name, plugin.shadow = name, shadow
    return plugin


def _check_order(document: PolicyDocument, plugins: Sequence[OccamPlugin]) -> None:
    names = [plugin_name(plugin) for plugin in plugins]
    if "limiter" in names:
        late = [name for name in names[names.index("limiter") + 1 :] if name in KNOB_PLUGINS]
        if late:
            place = document.place("plugins", late[0])
            raise PolicyError(
                f"{place}{late[0]!r} is after the limiter, which must be the last plugin with knobs"
            )
    ceiling = next((p.complexity_ceiling for p in plugins if isinstance(p, LimiterPlugin)), None)
    drift = next((p.complexity_threshold for p in plugins if isinstance(p, OckhamMemory)), None)
    if ceiling is not None and drift is not None and not drift < ceiling:
        place = document.place("plugins", "memory", "complexity_threshold")
        raise PolicyError(
            f"{place}memory.complexity_threshold {drift:g} must be below "
            f"limiter.complexity_ceiling {ceiling:g}; a projection ends on the ceiling within rounding"
        )
