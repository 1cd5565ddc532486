"""Policies to ask about: presets and files, the recorded one with settings on top, and sweeps of one setting."""

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

SWEEP = 9  # values of a range where no number is given
MAX_POLICIES = 200


def expand_variants(
    recorded: Policy, policies: Sequence[str], settings: Sequence[str], *, trust: bool = False
) -> list[tuple[str, Policy]]:
    """Each policy under each combination of settings, with a label.

    Args:
        recorded: what the run was under; settings go on it where no policy is named.
        policies: presets by name and policy files by path.
        settings: `gate.target=0.3`, or a range: `gate.target=0.1..0.9` for nine values, `=0.3..0.9:7` for seven.
        trust: import third-party plugins of the recorded policy, to check their settings.

    Raises:
        BadInputError: if nothing is asked, or too much.
        PolicyError: if a policy or setting can't be used.

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
    """`gate.target=0.1..0.9` as nine settings; anything else as itself.

    Raises:
        BadInputError: if a range has no numbers for ends, or values are listed by commas.

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
    """A recorded policy with settings such as `gate.target=0.3` put on it.

    Raises:
        PolicyError: if it has no such plugin or setting, the value has the wrong type, or the plugin is third-party code and
            not trusted.

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
                    f"{place}plugin {target!r} is third-party code ({entry['use']}); --trust-plugins imports it to check its settings"
                )
            else:
                entry["settings"][key] = check_setting(plugin_class(entry["use"]), target, key, value, place)
        else:
            raise PolicyError(
                f"{place}no plugin {target!r} in the recorded policy{suggest_name(target, [*plugins, 'hyperparameters'])}"
            )
    canonical = json.dumps(
        to_json_value(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return Policy(canonical.encode(), f"{policy.source} with {' '.join(settings)}")
