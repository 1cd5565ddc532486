"""Policies of a what-if analysis: presets, files, overrides of the recorded one, sweeps of one setting."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from ockham.errors import BadInputError, PolicyError, suggest_name
from ockham.event import to_json_value
from ockham.plugins import BUILT_IN
from ockham.policy import Policy, load_policy
from ockham.policy.document import check_hyperparameter, parse_override, require_bool
from ockham.policy.plugin_registry import check_setting, plugin_class

# Values of a range where no number is given.
SWEEP = 9
MAX_POLICIES = 200


def expand_variants(
    recorded: Policy, policies: Sequence[str], settings: Sequence[str], *, trust: bool = False
) -> list[tuple[str, Policy]]:
    """Return each policy under each combination of settings, with a label.

    Args:
        recorded: Policy of the run. Settings apply to it if no policy is named.
        policies: Names of presets and paths of policy files.
        settings: `gate.target=0.3`, or a range: `gate.target=0.1..0.9` for nine values, `=0.3..0.9:7` for
            seven.
        trust: Import third-party plugins of the recorded policy to check their settings.

    Raises:
        BadInputError: If nothing or too much is requested.
        PolicyError: If a policy or setting cannot be used.

    """
    if not policies and not settings:
        raise BadInputError(
            "say what to ask about: --policy NAME or --set gate.target=0.3 (a range: 0.1..0.9)"
        )
    combinations = list(itertools.product(*(expand_range(setting) for setting in settings)))
    if len(combinations) * max(1, len(policies)) > MAX_POLICIES:
        raise BadInputError(
            f"{len(combinations)} combinations are too many; at most {MAX_POLICIES} policies at a time"
        )
    found = []
    for name in policies or [""]:
        for chosen in combinations:
            label = f"{name} {' '.join(chosen)}".strip()
            policy = load_policy(name, chosen) if name else override_policy(recorded, chosen, trust=trust)
            found.append((label, policy))
    return found


def expand_range(setting: str) -> list[str]:
    """Return `gate.target=0.1..0.9` as nine settings, and any other setting unchanged.

    Raises:
        BadInputError: If the ends of a range are not numbers, or values are separated by commas.

    """
    key, _, text = setting.partition("=")
    low, dots, rest = text.partition("..")
    if not dots:
        _reject_list(setting, key, text)
        return [setting]
    high, _, number = rest.partition(":")
    try:
        ends, count = (float(low), float(high)), int(number or SWEEP)
    except ValueError:
        raise BadInputError(
            f"--set {setting!r}: a range is written {key}=0.1..0.9 or {key}=0.1..0.9:5"
        ) from None
    if not 2 <= count <= MAX_POLICIES:
        raise BadInputError(f"--set {setting!r}: a range has 2 to {MAX_POLICIES} values")
    return [f"{key}={ends[0] + (ends[1] - ends[0]) * i / (count - 1):.12g}" for i in range(count)]


def _reject_list(setting: str, key: str, text: str) -> None:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return
    if len(values) > 1:
        raise BadInputError(
            f"--set {setting!r}: one value, or a range: {key}={min(values):g}..{max(values):g}:{len(values)}"
        )


def override_policy(policy: Policy, settings: Sequence[str], *, trust: bool = False) -> Policy:
    """Return a recorded policy with overrides such as `gate.target=0.3`.

    Raises:
        PolicyError: If the plugin or setting does not exist, the value has the wrong type, or the plugin is
            untrusted third-party code.

    """
    content = policy.content
    plugins = {entry["name"]: entry for entry in content["plugins"]}
    for text in settings:
        target, key, value = parse_override(text)
        place = f"--set {text!r}: "
        if target == "hyperparameters":
            content["hyperparameters"][key] = check_hyperparameter(key, value, place)
        elif target in plugins:
            entry = plugins[target]
            if key == "shadow":
                entry["shadow"] = require_bool(value, f"{target}.shadow", place)
            elif not trust and entry["use"] not in BUILT_IN:
                raise PolicyError(
                    f"{place}plugin {target!r} is third-party code ({entry['use']}); "
                    "pass --trust-plugins to import it and check its settings"
                )
            else:
                entry["settings"][key] = check_setting(plugin_class(entry["use"]), target, key, value, place)
        else:
            hint = suggest_name(target, [*plugins, "hyperparameters"])
            raise PolicyError(f"{place}no plugin {target!r} in the recorded policy{hint}")
    canonical = json.dumps(
        to_json_value(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return Policy(canonical.encode(), f"{policy.source} with {' '.join(settings)}")
