"""Policies: YAML input, canonical bytes and digest. Errors contain file, line and the nearest name."""

from __future__ import annotations

import hashlib
import json
import math
from importlib import metadata

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ockham import resources
from ockham.chain import plugin_name
from ockham.errors import PolicyError
from ockham.event import NONFINITE, to_json_value
from ockham.plugin import OccamPlugin
from ockham.plugins.compressor import CompressorPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy import load_policy, load_preset, policy_from_json, policy_from_plugins
from ockham.policy.yaml_loader import preset_names

PRESETS = ("balanced", "exploratory", "observe", "tight")


class Quiet(OccamPlugin):
    """Third-party plugin that a policy names as package.module:Class."""

    def __init__(self, level: float = 1.0, label: str = "a") -> None:
        self.level, self.label = level, label


QUIET = f"{__name__}:Quiet"


def plugin_settings(policy, name):
    return next(entry["settings"] for entry in policy.content["plugins"] if entry["name"] == name)


def schema():
    return json.loads((resources.schemas_dir() / "policy.v1.schema.json").read_bytes())


# Presets.


@pytest.mark.parametrize("name", PRESETS)
def test_preset_fits_the_schema_by_an_independent_validator(name):
    """The YAML is checked before our reader."""
    jsonschema.Draft202012Validator.check_schema(schema())
    document = YAML(typ="safe").load(resources.presets_dir() / f"{name}.yaml")
    jsonschema.Draft202012Validator(schema()).validate(document)


def test_preset_has_its_bands_and_chain_order():
    """Only the update rate is a target; finite is first, limiter after all knob plugins, anchor last."""
    bands = {"tight": [0.2, 0.4], "balanced": [0.5, 0.7], "exploratory": [0.8, 0.95]}
    for name, band in bands.items():
        policy = load_policy(name)
        assert policy.targets == {"update_rate": band}
        assert [plugin_name(plugin) for plugin in policy.build()] == [
            "finite",
            "gate",
            "spike",
            "compressor",
            "limiter",
            "watchdog",
            "memory",
            "anchor",
        ]
        assert band[0] < plugin_settings(policy, "gate")["target"] < band[1]


def test_observe_preset_acts_on_nothing():
    """Every plugin is in shadow, without pull or bands."""
    policy = load_policy("observe")
    assert all(plugin.shadow for plugin in policy.build())
    assert policy.hyperparameters["lambda_ockham"] == 0
    assert policy.hyperparameters["pull"] == "none"
    assert policy.targets == {}


@pytest.mark.parametrize(("alias", "name"), [("ockham_tight", "tight"), ("production_balanced", "balanced")])
def test_preset_aliases_have_the_same_revision(alias, name):
    """The bytes are equal."""
    assert load_policy(alias).canonical == load_policy(name).canonical
    assert {alias, name} <= set(preset_names())


def test_load_preset_returns_plugins_and_memory():
    """This is the legacy interface."""
    plugins, memory = load_preset("production_balanced")
    assert isinstance(memory, OckhamMemory)
    assert memory not in plugins
    with pytest.raises(PolicyError, match="did you mean 'balanced'"):
        load_preset("balancd")


# Canonical bytes and revision.


def test_revision_is_the_digest_of_the_canonical_bytes():
    """A verifier needs only SHA-256."""
    policy = load_policy("tight")
    assert policy.revision == "sha256:" + hashlib.sha256(policy.canonical).hexdigest()
    plain = json.dumps(
        json.loads(policy.canonical), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert plain.encode() == policy.canonical


def test_revision_depends_on_values_only(written):
    """Key order, comments and number forms have no effect."""
    one = load_policy(written("name: x\nextends: balanced\nplugins:\n  gate: {target: 0.5, eta: 0.1}\n"))
    two = load_policy(
        written("plugins: {gate: {eta: 1e-1, target: 5e-1}}   # other\nextends: balanced\nname: x\n")
    )
    other = load_policy(written("name: x\nextends: balanced\nplugins:\n  gate: {target: 0.51}\n"))
    assert one.canonical == two.canonical
    assert one.revision != other.revision


def test_canonical_policy_contains_every_default():
    """New defaults do not change an old revision."""
    from ockham.plugin import setting_names

    for entry, plugin in zip(
        load_policy("balanced").content["plugins"], load_policy("balanced").build(), strict=True
    ):
        assert set(entry["settings"]) == set(setting_names(type(plugin)))


@given(
    target=st.floats(0.01, 1),
    threshold=st.floats(0.01, 1),
    ceiling=st.none() | st.floats(0.5, math.inf),
    halt=st.none() | st.floats(2, math.inf),
    label=st.text(max_size=20).filter(lambda text: text not in NONFINITE),
)
def test_policy_survives_its_canonical_bytes(target, threshold, ceiling, halt, label):
    """Settings are equal to the last bit, infinity included."""
    from ockham.plugins.watchdog import KLWatchdogPlugin

    plugins = [
        OckhamGatePlugin(target=target),
        CompressorPlugin(threshold=threshold),
        LimiterPlugin(ceiling),
        KLWatchdogPlugin(halt=halt),
        Quiet(label=label),
    ]
    policy = policy_from_plugins(plugins)
    again = policy_from_json(policy.canonical)
    assert again.revision == policy.revision
    assert [plugin.settings() for plugin in again.build()] == [plugin.settings() for plugin in plugins]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"plugins":[]}', b'{"plugins":[{"name":1}]}', b'{"plugins":1}'],
)
def test_invalid_policy_bytes_are_refused(data):
    """With one clear line."""
    with pytest.raises(PolicyError, match=r"not a (canonical )?policy: "):
        policy_from_json(data)


@pytest.mark.parametrize(
    "part", ["name", "targets", "hyperparameters", "plugins", "use", "settings", "shadow"]
)
@pytest.mark.parametrize("other", [None, 3, [], [[]]])
def test_policy_with_a_wrong_type_is_refused(part, other):
    """Nothing is built from it."""
    content = json.loads(load_policy("tight").canonical)
    (content if part in content else content["plugins"][0])[part] = other
    with pytest.raises(PolicyError, match=r"not a (canonical )?policy: "):
        policy_from_json(
            json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        )


def test_policy_bytes_with_other_spacing_are_refused():
    """One policy has one revision."""
    spaced = json.dumps(json.loads(load_policy("tight").canonical), sort_keys=True).encode()
    with pytest.raises(PolicyError, match="canonical"):
        policy_from_json(spaced)


def test_third_party_code_is_imported_with_trust_only():
    """A replay of untrusted runs does not import it."""
    policy = policy_from_plugins([Quiet()])
    assert isinstance(policy.build()[0], Quiet)
    with pytest.raises(PolicyError, match=r"third-party code .*Quiet.*not imported"):
        policy.build(trust=False)


def test_plugin_is_found_by_its_entry_point(monkeypatch, written):
    """The group is ockham.plugins."""
    point = metadata.EntryPoint("hushed", QUIET, "ockham.plugins")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == "ockham.plugins" else [])
    policy = load_policy(written("plugins: {hushed: {level: 3}}\n"))
    assert policy.content["plugins"][0]["use"] == "hushed"
    assert policy.build()[0].settings() == {"level": 3.0, "label": "a"}
    with pytest.raises(PolicyError, match="did you mean 'hushed'"):
        load_policy(written("plugins: {hushd: {}}\n"))


# Base policies and overrides.


def test_extends_merges_settings_one_by_one(written):
    """null removes a plugin or a band."""
    path = written(
        "extends: tight\ntargets: {update_rate: null, accept_rate: [0, 0.1]}\n"
        "plugins: {gate: {eta: 0.2}, watchdog: null}\n"
    )
    policy = load_policy(path)
    assert (plugin_settings(policy, "gate")["target"], plugin_settings(policy, "gate")["eta"]) == (0.3, 0.2)
    assert "watchdog" not in [entry["name"] for entry in policy.content["plugins"]]
    assert policy.targets == {"accept_rate": [0.0, 0.1]}
    assert policy.name == "mine"


def test_extends_is_relative_to_the_file(written):
    """The working folder has no effect."""
    written("extends: tight\nplugins: {gate: {target: 0.21}}\n", "base.yaml")
    assert plugin_settings(load_policy(written("extends: base.yaml\n")), "gate")["target"] == 0.21


def test_cycle_of_extends_is_named(written):
    """The error is a PolicyError that lists the cycle, not a RecursionError."""
    written("extends: b.yaml\n", "a.yaml")
    with pytest.raises(PolicyError, match=r"extends itself through b\.yaml > a\.yaml > b\.yaml"):
        load_policy(written("extends: a.yaml\n", "b.yaml"))


def test_another_class_replaces_all_settings(written):
    """Repeating the class changes nothing."""
    own = load_policy(written(f"extends: balanced\nplugins:\n  gate: {{use: '{QUIET}', level: 2}}\n"))
    assert plugin_settings(own, "gate") == {"level": 2.0, "label": "a"}
    assert isinstance(own.build()[1], Quiet)
    same = load_policy(written("extends: tight\nplugins: {gate: {use: gate, eta: 0.2}}\n"))
    assert plugin_settings(same, "gate")["target"] == 0.3


def test_second_plugin_of_a_class_has_its_own_name(written):
    """`use` names the class."""
    path = written("extends: balanced\nplugins: {audit: {use: gate, mode: random, shadow: true}}\n")
    audit = next(plugin for plugin in load_policy(path).build() if plugin.name == "audit")
    assert isinstance(audit, OckhamGatePlugin)
    assert (audit.mode, audit.shadow) == ("random", True)


def test_overrides_are_typed_by_yaml_and_parameter():
    """They take precedence."""
    policy = load_policy(
        "balanced",
        [
            "gate.target=3e-1",
            "limiter.learning_rate_ceiling=null",
            "gate.shadow=true",
            "hyperparameters.evaluations=12",
            "compressor.window=9",
        ],
    )
    assert plugin_settings(policy, "gate")["target"] == 0.3
    assert plugin_settings(policy, "limiter")["learning_rate_ceiling"] is None
    assert policy.hyperparameters["evaluations"] == 12
    assert [plugin.name for plugin in policy.build() if plugin.shadow] == ["gate", "spike"]
    assert (
        type(
            plugin_settings(load_policy("balanced", ["memory.quality_threshold=3"]), "memory")[
                "quality_threshold"
            ]
        )
        is float
    )


# Policies of plugin objects.


def test_policy_of_objects_names_classes_by_path():
    """Built-in ones by their short name."""
    policy = policy_from_plugins([OckhamGatePlugin(surprise_threshold=2.0), Quiet(level=math.inf)])
    uses = {entry["name"]: entry["use"] for entry in policy.content["plugins"]}
    assert uses == {"gate": "gate", "Quiet": QUIET}
    assert b'"level":"Infinity"' in policy.canonical
    assert json.loads(policy.canonical)["plugins"][1]["settings"] == to_json_value(
        {"label": "a", "level": math.inf}
    )
