"""Policy: YAML in, every mistake named with file, line and nearest name; canonical bytes and their digest out."""

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
    """A third party's plugin, named in a policy as package.module:Class."""

    def __init__(self, level: float = 1.0, label: str = "a") -> None:
        self.level, self.label = level, label


QUIET = f"{__name__}:Quiet"


def settings_of(policy, name):
    return next(entry["settings"] for entry in policy.content["plugins"] if entry["name"] == name)


def schema():
    return json.loads((resources.schemas_dir() / "policy.v1.schema.json").read_bytes())


# presets


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_fits_the_schema_by_the_plain_package(name):
    """The shipped YAML itself, before our own reader touches it."""
    jsonschema.Draft202012Validator.check_schema(schema())
    document = YAML(typ="safe").load(resources.presets_dir() / f"{name}.yaml")
    jsonschema.Draft202012Validator(schema()).validate(document)


def test_each_preset_promises_its_band_and_runs_in_chain_order():
    """finite first, limiter behind all that turn knobs, anchor last; the bands of the documents."""
    bands = {"tight": [0.2, 0.4], "balanced": [0.5, 0.7], "exploratory": [0.8, 0.95]}
    accept = {"tight": [0.01, 0.05], "balanced": [0.05, 0.15], "exploratory": [0.15, 0.3]}
    for name, band in bands.items():
        policy = load_policy(name)
        assert policy.targets == {"update_rate": band, "accept_rate": accept[name]}
        assert [plugin_name(plugin) for plugin in policy.build()] == [
            "finite", "gate", "compressor", "limiter", "watchdog", "memory", "anchor"]  # fmt: skip
        assert band[0] < settings_of(policy, "gate")["target"] < band[1]


def test_observe_acts_on_nothing():
    """Every plugin in shadow, no pull, no promise."""
    policy = load_policy("observe")
    assert all(plugin.shadow for plugin in policy.build())
    assert policy.hyperparameters["lambda_ockham"] == 0
    assert policy.hyperparameters["pull"] == "none"
    assert policy.targets == {}


@pytest.mark.parametrize(("alias", "name"), [("ockham_tight", "tight"), ("production_balanced", "balanced")])
def test_users_names_are_the_same_policies(alias, name):
    """Byte for byte, so with one revision."""
    assert load_policy(alias).canonical == load_policy(name).canonical
    assert {alias, name} <= set(preset_names())


def test_load_preset_gives_plugins_and_memory():
    """The pair that the first documents promise."""
    plugins, memory = load_preset("production_balanced")
    assert isinstance(memory, OckhamMemory)
    assert memory not in plugins
    with pytest.raises(PolicyError, match="did you mean 'balanced'"):
        load_preset("balancd")


# canonical bytes and revision


def test_the_revision_is_the_digest_of_the_canonical_bytes():
    """A verifier needs SHA-256 and nothing else."""
    policy = load_policy("tight")
    assert policy.revision == "sha256:" + hashlib.sha256(policy.canonical).hexdigest()
    plain = json.dumps(
        json.loads(policy.canonical), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert plain.encode() == policy.canonical


def test_spelling_does_not_change_the_revision_and_a_value_does(written):
    """Order of keys, comments, 1e-2 for 0.01 and an int for a float are input only."""
    one = load_policy(written("name: x\nextends: balanced\nplugins:\n  gate: {target: 0.5, eta: 0.1}\n"))
    two = load_policy(
        written("plugins: {gate: {eta: 1e-1, target: 5e-1}}   # other\nextends: balanced\nname: x\n")
    )
    other = load_policy(written("name: x\nextends: balanced\nplugins:\n  gate: {target: 0.51}\n"))
    assert one.canonical == two.canonical
    assert one.revision != other.revision


def test_every_default_is_spelled_out():
    """A new default in the code can't change what an old revision meant."""
    from ockham.plugin import setting_names

    for entry, plugin in zip(
        load_policy("balanced").content["plugins"], load_policy("balanced").build(), strict=True
    ):
        assert set(entry["settings"]) == set(setting_names(type(plugin)))


@given(
    target=st.floats(0.01, 1), threshold=st.floats(0.01, 1), ceiling=st.none() | st.floats(0.5, math.inf),
    halt=st.none() | st.floats(2, math.inf), label=st.text(max_size=20).filter(lambda text: text not in NONFINITE),
)  # fmt: skip
def test_a_policy_survives_its_own_bytes(target, threshold, ceiling, halt, label):
    """Objects to bytes to objects: the same settings to the last bit, infinity included."""
    from ockham.plugins.watchdog import KLWatchdogPlugin

    plugins = [OckhamGatePlugin(target=target), CompressorPlugin(threshold=threshold), LimiterPlugin(ceiling),
               KLWatchdogPlugin(halt=halt), Quiet(label=label)]  # fmt: skip
    policy = policy_from_plugins(plugins)
    again = policy_from_json(policy.canonical)
    assert again.revision == policy.revision
    assert [plugin.settings() for plugin in again.build()] == [plugin.settings() for plugin in plugins]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"plugins":[]}', b'{"plugins":[{"name":1}]}', b'{"plugins":1}'],
)
def test_bytes_that_are_no_policy_are_refused(data):
    """With one clear line, whatever they are."""
    with pytest.raises(PolicyError, match=r"not a (canonical )?policy: "):
        policy_from_json(data)


@pytest.mark.parametrize(
    "part", ["name", "targets", "hyperparameters", "plugins", "use", "settings", "shadow"]
)
@pytest.mark.parametrize("other", [None, 3, [], [[]]])
def test_a_policy_with_a_part_of_another_kind_is_refused(part, other):
    """A stranger's record may hold anything; it is refused before anything is built from it."""
    content = json.loads(load_policy("tight").canonical)
    (content if part in content else content["plugins"][0])[part] = other
    with pytest.raises(PolicyError, match=r"not a (canonical )?policy: "):
        policy_from_json(
            json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        )


def test_bytes_with_other_spacing_are_refused():
    """Two spellings of one policy would have two revisions."""
    spaced = json.dumps(json.loads(load_policy("tight").canonical), sort_keys=True).encode()
    with pytest.raises(PolicyError, match="canonical"):
        policy_from_json(spaced)


def test_third_party_code_is_imported_only_with_trust():
    """Who replays a stranger's record says so first."""
    policy = policy_from_plugins([Quiet()])
    assert isinstance(policy.build()[0], Quiet)
    with pytest.raises(PolicyError, match=r"third-party code .*Quiet.*not imported"):
        policy.build(trust=False)


def test_a_plugin_is_found_by_its_entry_point(monkeypatch, written):
    """Installed packages add theirs to the group ockham.plugins."""
    point = metadata.EntryPoint("hushed", QUIET, "ockham.plugins")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == "ockham.plugins" else [])
    policy = load_policy(written("plugins: {hushed: {level: 3}}\n"))
    assert policy.content["plugins"][0]["use"] == "hushed"
    assert policy.build()[0].settings() == {"level": 3.0, "label": "a"}
    with pytest.raises(PolicyError, match="did you mean 'hushed'"):
        load_policy(written("plugins: {hushd: {}}\n"))


# extends and overrides


def test_extends_lays_settings_one_by_one(written):
    """What the file does not say is the base's; null takes a plugin or a promise out."""
    path = written(
        "extends: tight\ntargets: {accept_rate: null}\nplugins: {gate: {eta: 0.2}, watchdog: null}\n"
    )
    policy = load_policy(path)
    assert (settings_of(policy, "gate")["target"], settings_of(policy, "gate")["eta"]) == (0.3, 0.2)
    assert "watchdog" not in [entry["name"] for entry in policy.content["plugins"]]
    assert policy.targets == {"update_rate": [0.2, 0.4]}
    assert policy.name == "mine"


def test_extends_a_file_beside_it(written):
    """Relative to the file, not to the working directory."""
    written("extends: tight\nplugins: {gate: {target: 0.21}}\n", "base.yaml")
    assert settings_of(load_policy(written("extends: base.yaml\n")), "gate")["target"] == 0.21


def test_a_circle_of_extends_is_named(written):
    """Not a recursion error."""
    written("extends: b.yaml\n", "a.yaml")
    with pytest.raises(PolicyError, match=r"extends itself through b\.yaml > a\.yaml > b\.yaml"):
        load_policy(written("extends: a.yaml\n", "b.yaml"))


def test_another_class_under_a_known_name_starts_anew(written):
    """The settings of the one that it replaces are not its own; repeating the name of its class changes nothing."""
    own = load_policy(written(f"extends: balanced\nplugins:\n  gate: {{use: '{QUIET}', level: 2}}\n"))
    assert settings_of(own, "gate") == {"level": 2.0, "label": "a"}
    assert isinstance(own.build()[1], Quiet)
    same = load_policy(written("extends: tight\nplugins: {gate: {use: gate, eta: 0.2}}\n"))
    assert settings_of(same, "gate")["target"] == 0.3


def test_a_second_plugin_of_a_kind_has_its_own_name(written):
    """`use` says what it is."""
    path = written("extends: balanced\nplugins: {audit: {use: gate, mode: random, shadow: true}}\n")
    audit = next(plugin for plugin in load_policy(path).build() if plugin.name == "audit")
    assert isinstance(audit, OckhamGatePlugin)
    assert (audit.mode, audit.shadow) == ("random", True)


def test_overrides_are_typed_by_yaml_and_by_the_parameter():
    """The last word is the command line's."""
    policy = load_policy("balanced", ["gate.target=3e-1", "limiter.learning_rate_ceiling=null", "gate.shadow=true",
                                      "hyperparameters.evaluations=12", "compressor.window=9"])  # fmt: skip
    assert settings_of(policy, "gate")["target"] == 0.3
    assert settings_of(policy, "limiter")["learning_rate_ceiling"] is None
    assert policy.hyperparameters["evaluations"] == 12
    assert [plugin.name for plugin in policy.build() if plugin.shadow] == ["gate"]
    assert (
        type(
            settings_of(load_policy("balanced", ["memory.quality_threshold=3"]), "memory")[
                "quality_threshold"
            ]
        )
        is float
    )


# objects


def test_policy_of_objects_names_classes_by_path():
    """Built-in ones by their short name, others by module and class; non-finite settings as strings."""
    policy = policy_from_plugins([OckhamGatePlugin(surprise_threshold=2.0), Quiet(level=math.inf)])
    uses = {entry["name"]: entry["use"] for entry in policy.content["plugins"]}
    assert uses == {"gate": "gate", "Quiet": QUIET}
    assert b'"level":"Infinity"' in policy.canonical
    assert json.loads(policy.canonical)["plugins"][1]["settings"] == to_json_value(
        {"label": "a", "level": math.inf}
    )
