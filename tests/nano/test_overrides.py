"""Sizes and recipes by name, and `--set`."""

from __future__ import annotations

import typing
from dataclasses import asdict

import pytest

from ockham.errors import BadInputError
from ockham.nano import Settings, build_settings, split_overrides


def test_larger_gpt2_size_has_the_gpt2_schedule():
    """gpt2-xl has another width than gpt2."""
    xl = build_settings("gpt2-xl")
    assert xl.n_layer == 48
    assert xl.n_embd == 1600
    assert xl.block_size == 1024
    assert xl.learning_rate == 6e-4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["max_itres=5"], "did you mean 'max_iters'"),
        (["max_iters=many"], "max_iters takes a whole number"),
        (["learning_rate=nan"], "learning_rate takes a number"),
        (["learning_rate=fast"], "learning_rate takes a number"),
        (["dtype=float8"], "one of auto, float32, bfloat16"),
        (["max_iters"], "the value is missing; use max_iters=VALUE"),
        (["max_itres"], "did you mean 'max_iters'"),
        (["n_head=3"], "multiple of n_head"),
        (["max_iters=0"], "greater than 0"),
        (["dropout=1.0"], "below 1"),
        (["threads=-1"], "must not be negative"),
        (["size=micro"], "size cannot be set; use --size"),
        (["sizes=micro"], "no setting 'sizes'; (?!did you mean 'size')"),
    ],
)
def test_invalid_override_is_rejected_with_a_hint(overrides, message):
    """The message contains the wrong name or value and what is accepted."""
    with pytest.raises(BadInputError, match=message):
        build_settings("nano", overrides)


def test_unknown_size_suggests_the_nearest_name():
    """`--size gtp2` offers gpt2."""
    with pytest.raises(BadInputError, match="did you mean 'gpt2'"):
        build_settings("gtp2")


def test_overrides_with_a_dot_belong_to_the_policy():
    """A dot in the value has no influence."""
    assert split_overrides(["max_iters=5", "gate.target=0.3", "learning_rate=0.1"]) == (
        ["max_iters=5", "learning_rate=0.1"],
        ["gate.target=0.3"],
    )


@pytest.mark.parametrize(
    ("size", "recipe", "message"),
    [
        ("gpt2", "", "size=gpt2: .* size=nano; this cannot change"),
        ("", "nanogpt", "optimizer=adamw: .* optimizer=muon; this cannot change"),
        ("nanno", "", "no size 'nanno'"),
        ("", "fats", "no recipe 'fats'"),
    ],
)
def test_resumed_run_keeps_its_size_and_recipe(size, recipe, message):
    """Other values are rejected. The recorded values may be given again."""
    recorded = asdict(build_settings("nano", ["max_iters=50"], recipe="fast"))
    with pytest.raises(BadInputError, match=message):
        build_settings(size, [], recorded, recipe=recipe)
    assert asdict(build_settings("nano", [], recorded, recipe="fast")) == recorded
    assert asdict(build_settings("", [], recorded)) == recorded


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("name", [n for n, hint in typing.get_type_hints(Settings).items() if hint is int])
def test_whole_number_that_the_log_cannot_contain_is_refused(name, sign):
    """The message names the setting, its limit, and the value in few characters."""
    with pytest.raises(BadInputError) as caught:
        build_settings("demo", [f"{name}={sign}{2**53}"])
    assert name in str(caught.value)
    assert len(str(caught.value)) < 120
    with pytest.raises(BadInputError):
        build_settings("demo", [f"{name}={sign}{'9' * 400}"])
