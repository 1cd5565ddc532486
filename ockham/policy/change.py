"""Change of a policy while its run continues: new settings of plugins that keep their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ockham.chain import PluginChain, base_knobs
from ockham.errors import PolicyError, suggest_name
from ockham.event import Value, from_json_value, to_json_value
from ockham.plugin import OccamPlugin
from ockham.policy.document import (
    PolicyDocument,
    check_hyperparameter,
    check_schema,
    parse_override,
    require_bool,
)
from ockham.policy.plugin_registry import check_setting
from ockham.policy.policy import HYPERPARAMETERS, Policy, build_policy, create_plugin

# The trainer reads these once, before the first batch.
_FIXED_HYPERPARAMETERS = frozenset({"evaluations", "pull"})
_PLACE = "--set: "


class SettingChange(NamedTuple):
    """One changed setting as `plugin.setting`, with its values in JSON."""

    setting: str
    before: Any
    after: Any


class PolicyChange(NamedTuple):
    """Result of a change: the policy, its plugins with the present state, and the changed settings."""

    policy: Policy
    plugins: list[OccamPlugin]
    changes: tuple[SettingChange, ...]


def change_policy(policy: Policy, plugins: Sequence[OccamPlugin], overrides: Sequence[str]) -> PolicyChange:
    """Return the policy with other settings, and new plugins in the order of the chain.

    Args:
        policy: The present policy.
        plugins: Its plugins. They are not changed. No class is imported.
        overrides: Settings such as `gate.target=0.5`, `gate.shadow=true` or `hyperparameters.grad_clip=1.0`.

    Raises:
        PolicyError: If a setting cannot be used, cannot be changed during a run, or would not change.

    """
    content = policy.content
    entries = {entry["name"]: entry for entry in content["plugins"]}
    classes = {name: type(plugin) for name, plugin in zip(entries, plugins, strict=True)}
    changes = []
    for override in overrides:
        target, setting, value = parse_override(override)
        if target == "hyperparameters":
            settings = content["hyperparameters"]
            value = _check_hyperparameter(setting, value)
        elif target not in entries:
            hint = suggest_name(target, [*entries, "hyperparameters"])
            raise PolicyError(f"{_PLACE}no plugin {target!r} in policy {policy.name!r}{hint}")
        elif setting == "shadow":
            settings, value = entries[target], require_bool(value, override, _PLACE)
        else:
            settings = entries[target]["settings"]
            value = check_setting(classes[target], target, setting, value, _PLACE)
        changes.append(
            SettingChange(f"{target}.{setting}", to_json_value(settings.get(setting)), to_json_value(value))
        )
        settings[setting] = value
    return _build(policy, content, classes, tuple(changes), plugins)


def _check_hyperparameter(setting: str, value: Any) -> Any:
    if setting in _FIXED_HYPERPARAMETERS:
        raise PolicyError(
            f"{_PLACE}hyperparameters.{setting} is read once, before the first batch; "
            "stop the run, and resume it with another --policy"
        )
    return check_hyperparameter(setting, value, _PLACE)


def _build(
    policy: Policy,
    content: Mapping[str, Any],
    classes: Mapping[str, type[OccamPlugin]],
    changes: tuple[SettingChange, ...],
    plugins: Sequence[OccamPlugin],
) -> PolicyChange:
    document = PolicyDocument(
        name=content["name"],
        description=content["description"],
        targets=content["targets"],
        hyperparameters=content["hyperparameters"],
        source="intervention",
    )
    built = [
        create_plugin(
            entry["name"], classes[entry["name"]], entry["settings"], shadow=entry["shadow"], place=_PLACE
        )
        for entry in content["plugins"]
    ]
    uses = [entry["use"] for entry in content["plugins"]]
    names = [entry["name"] for entry in content["plugins"]]
    check_schema(
        document,
        {
            name: {"use": use, **plugin.settings()}
            for name, use, plugin in zip(names, uses, built, strict=True)
        },
    )
    changed = build_policy(document, list(zip(names, uses, built, strict=True)))
    if changed.revision == policy.revision:
        raise PolicyError(f"{_PLACE}{changes[0].setting} has the value {changes[0].after!r} already")
    if PluginChain(built).required_measurements() != PluginChain(plugins).required_measurements():
        raise PolicyError(
            f"{_PLACE}{changes[0].setting} changes what the trainer measures; "
            "stop the run, and resume it with another --policy"
        )
    for old, new in zip(plugins, built, strict=True):
        _copy_state(old, new)
    return PolicyChange(changed, built, changes)


def _copy_state(old: OccamPlugin, new: OccamPlugin) -> None:
    """Load the state of a plugin as a replay loads it from the log."""
    try:
        new.load_state_dict(from_json_value(to_json_value(old.state_dict())))
    except Exception as error:
        raise PolicyError(f"{_PLACE}plugin {new.name!r} cannot load its state: {error}") from None


def changed_base_knobs(change: PolicyChange) -> dict[str, Value]:
    """Return the knob values at which each batch starts under the changed policy."""
    return base_knobs(change.plugins, {**HYPERPARAMETERS, **change.policy.hyperparameters})
