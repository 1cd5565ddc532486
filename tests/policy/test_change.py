"""Change of a policy while its run continues."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import PolicyError
from ockham.plugin import OccamPlugin
from ockham.policy import load_policy, policy_from_json, policy_from_plugins
from ockham.policy.change import change_policy, changed_base_knobs


class Level(OccamPlugin):
    """A plugin with a setting, a state, and no module that a policy could import."""

    name = "level"

    def __init__(self, level: float = 1.0, refuses: bool = False) -> None:
        self.level = level
        self.refuses = refuses
        self.seen = [math.nan, 2.0]

    def load_state_dict(self, state):
        if self.refuses:
            raise ValueError("not this state")
        super().load_state_dict(state)


@given(st.floats(0.05, 0.95), st.booleans())
def test_changed_policy_equals_one_that_was_loaded_with_the_settings(target, shadow):
    """The revision is that of the same policy from a file."""
    policy = load_policy("balanced")
    overrides = [f"gate.target={target!r}", f"gate.shadow={str(shadow).lower()}"]
    if target == 0.6 and not shadow:
        return
    change = change_policy(policy, policy.build(), overrides)
    assert change.policy.canonical == load_policy("balanced", overrides).canonical
    assert policy_from_json(change.policy.canonical).revision == change.policy.revision
    assert [c.after for c in change.changes] == [target, shadow]
    gate = next(plugin for plugin in change.plugins if plugin.name == "gate")
    assert (gate.target, gate.shadow) == (target, shadow)


def test_state_is_copied_and_the_old_plugins_do_not_change():
    """Also values that JSON cannot store, and classes that no policy could import."""
    plugins = [Level()]
    plugins[0].seen = [3.0, math.inf]
    policy = policy_from_plugins(plugins)
    change = change_policy(policy, plugins, ["level.level=2"])
    assert (change.plugins[0].level, change.plugins[0].seen) == (2.0, [3.0, math.inf])
    change.plugins[0].seen.append(1.0)
    assert (plugins[0].level, plugins[0].seen) == (1.0, [3.0, math.inf])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("level.level=1.0", "has the value 1.0 already"),
        ("level.level=high", "takes"),
        ("level.nothing=1", "no setting"),
        ("level.shadow=yes", "takes true or false"),
        ("other.level=1", "no plugin 'other'"),
        ("hyperparameters.pull=none", "read once"),
        ("hyperparameters.nothing=1", "no hyperparameter"),
        ("level.refuses=true", "cannot load its state: not this state"),
        ("level", "plugin.setting=value"),
    ],
)
def test_change_that_cannot_be_used_is_an_error(override, message):
    """Before anything is recorded."""
    plugins = [Level()]
    with pytest.raises(PolicyError, match=message):
        change_policy(policy_from_plugins(plugins), plugins, [override])


def test_change_of_required_measurements_is_an_error():
    """The trainer has set up its measurements before the first batch."""
    policy = load_policy("balanced")
    with pytest.raises(PolicyError, match="changes what the trainer measures"):
        change_policy(policy, policy.build(), ["watchdog.every=10"])


def test_base_knobs_follow_a_hyperparameter():
    """The knobs at which each batch starts."""
    policy = load_policy("balanced")
    change = change_policy(policy, policy.build(), ["hyperparameters.lambda_ockham=0.5"])
    assert changed_base_knobs(change)["lambda_ockham"] == 0.5
