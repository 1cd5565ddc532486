"""Policies for what-if questions: overrides of the recorded policy follow the rules of all policies."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError, PolicyError
from ockham.policy import load_policy
from ockham.replay.variants import expand_range, expand_variants, override_policy


@pytest.fixture(scope="module")
def recorded():
    return load_policy("balanced")


def entry(policy, name):
    return next(one for one in policy.content["plugins"] if one["name"] == name)


def test_override_of_the_recorded_policy_equals_the_policy_of_a_run(recorded):
    """The revisions are equal."""
    for setting in (
        "gate.target=0.3",
        "gate.shadow=true",
        "hyperparameters.evaluations=5",
        "hyperparameters.pull=none",
    ):
        asked = override_policy(recorded, [setting])
        assert asked.revision == load_policy("balanced", [setting]).revision != recorded.revision
        assert asked.source.endswith(f"with {setting}")
    assert recorded.revision == load_policy("balanced").revision
    assert (
        entry(override_policy(recorded, ["gate.shadow=true", "gate.shadow=false"]), "gate")["shadow"] is False
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gate.shadow=off", "gate.shadow takes true or false, got str 'off'"),
        ("gate.shadow=1", "gate.shadow takes true or false, got int 1"),
        ("hyperparameters.evaluations=x", "evaluations takes a whole number, got str 'x'"),
        ("hyperparameters.evaluations=-4", "evaluations takes a number >= 0, got -4"),
        ("hyperparameters.pull=foo", "pull takes one of decoupled, coupled, none, got 'foo'"),
        ("hyperparameters.evals=1", "no hyperparameter 'evals'; "),
        ("gate.target={", "is not a YAML value"),
        ("gate.target=" + "[" * 5000, "is not a YAML value"),
        ("gate.aim=1", "plugin 'gate' has no setting 'aim'"),
        ("gait.target=1", "no plugin 'gait' in the recorded policy; did you mean 'gate'"),
        ("gate=1", "write a policy setting as plugin.setting=value"),
        ("gate.target", "write a policy setting as plugin.setting=value"),
    ],
)
def test_invalid_override_is_refused(recorded, setting, message):
    """The error names the setting."""
    with pytest.raises(PolicyError, match=message) as raised:
        override_policy(recorded, [setting])
    assert str(raised.value).startswith("--set ")


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("gate.target=0.3", ["gate.target=0.3"]),
        ("gate.target=-1..1:3", ["gate.target=-1", "gate.target=0", "gate.target=1"]),
        ("gate.target=1..0:2", ["gate.target=1", "gate.target=0"]),
        ("gate.target=0.1..0.4:4", [f"gate.target=0.{i}" for i in (1, 2, 3, 4)]),
        ("gate.mode=fixed", ["gate.mode=fixed"]),
        ("gate.note=a,b", ["gate.note=a,b"]),
    ],
)
def test_range_expands_to_its_values(setting, values):
    """Both ends are included, in the fewest digits."""
    assert expand_range(setting) == values


@pytest.mark.parametrize("count", ["0", "1", "201", "x", "-3"])
def test_range_has_at_least_two_values(count):
    """And at most a readable number."""
    with pytest.raises(BadInputError, match=r"--set .gate\.target=0\.\.1:"):
        expand_range(f"gate.target=0..1:{count}")


def test_number_of_policies_is_limited(recorded):
    """Policies times combinations."""
    assert len(expand_variants(recorded, [], ["gate.target=0.1..0.9:200"])) == 200
    for policies, settings in (
        (["tight", "balanced"], ["gate.target=0.1..0.9:101"]),
        ([], ["gate.target=0..1:100", "gate.eta=0..1:3"]),
    ):
        with pytest.raises(BadInputError, match="at most 200 policies"):
            expand_variants(recorded, policies, settings)
    assert [label for label, _ in expand_variants(recorded, ["tight"], [])] == ["tight"]


def test_combinations_are_one_policy_each(recorded):
    """Each has a label."""
    assert expand_range("gate.target=0.1..0.9") == [f"gate.target=0.{i}" for i in range(1, 10)]
    asked = expand_variants(recorded, ["tight", "balanced"], ["gate.target=0.1..0.5:2", "gate.eta=0.2"])
    assert [label for label, _ in asked] == [
        f"{name} gate.target={target} gate.eta=0.2"
        for name in ("tight", "balanced")
        for target in ("0.1", "0.5")
    ]
    assert len({policy.revision for _, policy in asked}) == 4


@pytest.mark.parametrize(
    ("policies", "settings", "error", "message"),
    [
        ([], [], BadInputError, "say what to ask about"),
        ([], ["gate.target=a..b"], BadInputError, r"a range is written gate\.target=0\.1"),
        ([], ["gate.target=high"], PolicyError, "target"),
        (["tihgt"], [], PolicyError, "did you mean 'tight'"),
        ([], ["gate.target=0.2,0.3,0.5"], BadInputError, r"a range: gate\.target=0\.2\.\.0\.5:3$"),
    ],
)
def test_invalid_variants_are_refused_with_advice(recorded, policies, settings, error, message):
    """A list of values gets the range to type."""
    with pytest.raises(error, match=message):
        expand_variants(recorded, policies, settings)
