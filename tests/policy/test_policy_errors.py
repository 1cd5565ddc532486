"""Policy errors: one line with file, line and nearest name. Schema and code accept the same files."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham import resources
from ockham.errors import PolicyError
from ockham.event import to_json_value
from ockham.policy import load_policy, policy_from_json


def schema():
    return json.loads((resources.schemas_dir() / "policy.v1.schema.json").read_bytes())


# Schema and code accept the same policies.


def test_schema_has_every_setting_with_its_default():
    """Code and schema agree."""
    from ockham.plugins import BUILT_IN, load_built_in
    from ockham.policy.plugin_registry import default_settings

    described = schema()["$defs"]
    for name in BUILT_IN:
        properties = described[f"plugin_{name}"]["properties"]
        given_by_code = default_settings(load_built_in(name))
        assert set(properties) - {"use", "shadow"} == set(given_by_code), name
        for key, default in given_by_code.items():
            assert properties[key]["default"] == default, (name, key)
            assert properties[key]["description"].endswith("."), (name, key)


def test_schema_has_the_interval_of_every_setting():
    """Checked at the ends and next to them."""
    from ockham.plugin import in_interval
    from ockham.plugins import BUILT_IN, load_built_in

    validator = jsonschema.Draft202012Validator(schema())
    for name in BUILT_IN:
        whole = {
            key
            for key, hint in load_built_in(name).__init__.__annotations__.items()
            if hint.startswith("int")
        }
        for key, interval in load_built_in(name).limits.items():
            low, high = (float(end) for end in interval[1:-1].split(","))
            near = (
                [low, low - 1, low + 1, high, 10.0]
                if key in whole
                else [low, low - 1e-9, low + 1e-9, high, high + 1]
            )
            for value in near:
                typed = int(value) if key in whole and math.isfinite(value) else value
                accepted = validator.is_valid({"plugins": {name: {key: to_json_value(typed)}}})
                assert accepted == in_interval(typed, interval), (name, key, interval, typed)


def test_schema_is_checked_on_every_load(written):
    """The error has the location."""
    path = written("extends: balanced\nhyperparameters:\n  lambda_ockham: .inf\n")
    with pytest.raises(PolicyError, match=r"mine\.yaml:3: hyperparameters\.lambda_ockham: "):
        load_policy(path)


@pytest.mark.parametrize(
    ("override", "metadata"),
    [
        ("gate.target", "plugin.setting=value"),
        ("target=1", "plugin.setting=value"),
        ("gatt.target=1", "did you mean 'gate'"),
        ("gate.targt=0.5", "--set: plugin 'gate' has no setting 'targt'; did you mean 'target'"),
        ("gate.target=high", "--set: gate.target takes a number, got str 'high'"),
        ("gate.target=.nan", "gate.target takes a number, got float nan"),
        ("gate.target=true", "gate.target takes a number, got bool True"),
        ("gate.target=2", "balanced.yaml:13 with --set: gate: target must be in [0.001, 1], got 2.0"),
        ("gate.target=[", "is not a YAML value"),
        ("gate.target=" + "[" * 3_000, "is not a YAML value"),
        (
            "gate.surprise_threshold=2.0",
            "surprise_threshold requires mode 'fixed', got mode 'target_rate'",
        ),
        ("watchdog.every=0", "watchdog: every must be in [1, inf), got 0"),
        ("gate.shadow=perhaps", "gate.shadow takes true or false"),
        ("gate.mode=fixd", "one of 'target_rate', 'fixed', 'random'"),
        ("compressor.window=1.5", "takes a whole number, got float 1.5"),
        ("hyperparameters.evaluatons=1", "did you mean 'evaluations'"),
        ("hyperparameters.lambda_ockham=.nan", ">= 0"),
        ("hyperparameters.lambda_ockham=.inf", "hyperparameters.lambda_ockham"),
        ("hyperparameters.pull=hard", "one of decoupled, coupled, none"),
    ],
)
def test_invalid_override_is_one_clear_line(override, metadata):
    """Thing, place and what is accepted."""
    with pytest.raises(PolicyError) as caught:
        load_policy("balanced", [override])
    assert metadata in str(caught.value)
    assert "\n" not in str(caught.value)


# Invalid files.


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("plugins:\n  gatt: {}\n", ":2: no plugin 'gatt'; did you mean 'gate'"),
        ("plugins:\n  gate:\n    treshold: 1\n", ":3: plugin 'gate' has no setting 'treshold'"),
        ("plugins:\n  gate:\n    target: '0.5'\n", ":3: gate.target takes a number, got str '0.5'"),
        ("plugins:\n  gate:\n    target: .nan\n", ":3: gate.target takes a number, got float nan"),
        ("plugins:\n  gate:\n    target: yes\n", ":3: gate.target takes a number, got str 'yes'"),
        ("plugins:\n  gate: {target: 0.1}\n  gate: {target: 0.2}\n", ":3: found duplicate key"),
        ("name: a\nname: b\n", ":2: found duplicate key"),
        ("plugns: {}\n", ":1: unknown key 'plugns' in a policy; did you mean 'plugins'"),
        (
            "name: a\ntargets: {update_rat: [0, 1]}\n",
            ":2: no target 'update_rat'; did you mean 'update_rate'",
        ),
        ("targets: {update_rate: [0.5]}\n", ":1: update_rate takes [low, high] within 0..1"),
        ("targets: {update_rate: [0.7, 0.5]}\n", "takes [low, high] within 0..1"),
        ("targets: {update_rate: [0, .nan]}\n", "takes [low, high] within 0..1"),
        ("targets: {update_rate: [false, true]}\n", "takes [low, high] within 0..1"),
        ("hyperparameters:\n  grad_clip: -1\n", ":2: grad_clip takes a number >= 0"),
        ("hyperparameters:\n  evaluations: 1.5\n", ":2: evaluations takes a whole number"),
        ("policy: 2\n", ":1: policy is the version of this format, 1"),
        ("policy: true\n", ":1: policy is the version of this format, 1"),
        ("shadow: 'no'\n", ":1: shadow takes true or false, got str 'no'"),
        ("plugins:\n  gate: {shadow: 'no'}\n", ":2: gate.shadow takes true or false, got str 'no'"),
        ("plugins:\n  gate: 0.5\n", ":2: plugin 'gate' takes a mapping of settings"),
        ("plugins: [gate]\n", ":1: plugins takes a mapping, got list"),
        ("name: [3]\n", ":1: name takes text, got list [3]"),
        ("name: 3\n", ":1: name takes text, got int 3"),
        ("name: ''\n", "name"),
        ("- a\n", ":1: a policy is a mapping"),
        ("", ":1: a policy is a mapping"),
        ("name: [\n", ":2: "),
        ("name: !!python/object:os.system {}\n", "name takes text"),
        ("plugins: {limiter: {}, gate: {}}\n", "'gate' is after the limiter"),
        (
            "plugins:\n  limiter: {complexity_ceiling: 0.1}\n  memory: {complexity_threshold: 0.1}\n",
            ":3: memory.complexity_threshold 0.1 must be below",
        ),
        ("plugins:\n  own: {use: 'no.such.module:X'}\n", ":2: plugin 'no.such.module:X' cannot be imported"),
        (
            "plugins:\n  own: {use: 'json:loads'}\n",
            ":2: 'json:loads' is not a class that derives from ockham.OccamPlugin",
        ),
        ("plugins:\n  own: {use: 'json:Nothing'}\n", ":2: module 'json' has no class 'Nothing'"),
        ("plugins:\n  own: {use: ':x'}\n", ":2: "),
        ("plugins:\n  own: {use: 'a b'}\n", ":2: no plugin 'a b'"),
        ("extends: balancd\n", "did you mean 'balanced'"),
        ("extends: 3\n", "no preset '3'"),
        ("extends: [a]\n", "no preset"),
    ],
)
def test_mistake_in_a_file_is_named_with_line_and_suggestion(written, text, metadata):
    """One clear line."""
    with pytest.raises(PolicyError) as caught:
        load_policy(written(text))
    assert metadata in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value) or "presets: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("a: &a [1]\nb: *a\n", "mine.yaml:2: a policy has no aliases"),
        ("name: " + "[" * 3_000, "mine.yaml:1: a policy has at most 16 levels"),
        ("plugins: " + "{a: " * 400 + "1" + "}" * 400, "mine.yaml:1: a policy has at most"),
    ],
)
def test_expanding_yaml_is_refused(written, text, metadata):
    """Aliases could stand for millions of values."""
    with pytest.raises(PolicyError, match=metadata):
        load_policy(written(text))


@pytest.mark.parametrize("name", ["balancd", "nothing.yaml", ".", "", "a\0b", "x" * 5_000])
def test_missing_policy_is_an_error_with_suggestions(name):
    """The nearest preset, or the list."""
    with pytest.raises(PolicyError, match="presets: adapt, balanced") as caught:
        load_policy(name)
    assert str(caught.value).count("exploratory") == 1


def test_folder_is_not_a_policy_file(tmp_path):
    """A path is never taken for a preset name."""
    with pytest.raises(PolicyError, match="no policy file"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"name: \x00\n", b"\x80", b"name: a\r\nplugins:\r\n\t- x\n"]
)
def test_binary_file_is_refused(tmp_path, data):
    """The error is a PolicyError that names the file."""
    (tmp_path / "p.yaml").write_bytes(data)
    with pytest.raises(PolicyError, match=r"p\.yaml"):
        load_policy(tmp_path / "p.yaml")


@given(st.text(st.sampled_from("plugins:gate{}[]targe \n-\"'&*!|>#%@`0.15,~?nul\t"), max_size=60))
def test_any_text_gives_a_policy_or_a_policy_error(text):
    """Any input of a user."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            policy = load_policy(path)
        except PolicyError:
            return
        assert policy_from_json(policy.canonical).revision == policy.revision
