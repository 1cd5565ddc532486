"""Sizes and recipes by name, and `--set`."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ockham.errors import BadInputError
from ockham.nano import build_settings, split_overrides


def test_sizes_build_on_each_other():
    """gpt2-xl has GPT-2's schedule and its own width."""
    xl = build_settings("gpt2-xl")
    assert (xl.n_layer, xl.n_embd, xl.block_size, xl.learning_rate) == (48, 1600, 1024, 6e-4)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["max_itres=5"], "did you mean 'max_iters'"),
        (["max_iters=many"], "max_iters takes a whole number"),
        (["learning_rate=nan"], "learning_rate takes a number"),
        (["learning_rate=fast"], "learning_rate takes a number"),
        (["dtype=float8"], "one of auto, float32, bfloat16"),
        (["max_iters"], "a value was expected, as in max_iters=VALUE"),
        (["max_itres"], "did you mean 'max_iters'"),
        (["n_head=3"], "multiple of n_head"),
        (["max_iters=0"], "greater than 0"),
        (["dropout=1.0"], "under 1"),
        (["threads=-1"], "must not be negative"),
        (["size=micro"], "said by --size"),
        (["sizes=micro"], "no setting 'sizes'; (?!did you mean 'size')"),
    ],
)
def test_bad_settings_are_named(overrides, told):
    """A wrong name or value says which, and what would be accepted."""
    with pytest.raises(BadInputError, match=told):
        build_settings("nano", overrides)


def test_an_unknown_size_offers_the_nearest():
    """`--size gtp2` offers gpt2."""
    with pytest.raises(BadInputError, match="did you mean 'gpt2'"):
        build_settings("gtp2")


def test_overrides_go_where_the_dot_says():
    """A setting with a dot is the policy's, also when its value has one."""
    assert split_overrides(["max_iters=5", "gate.target=0.3", "learning_rate=0.1"]) == (
        ["max_iters=5", "learning_rate=0.1"],
        ["gate.target=0.3"],
    )


@pytest.mark.parametrize(
    ("size", "recipe", "told"),
    [
        ("gpt2", "", "size=gpt2: .* size=nano, which stays"),
        ("", "nanogpt", "optimizer=adamw: .* optimizer=muon, which stays"),
        ("nanno", "", "no size 'nanno'"),
        ("", "fats", "no recipe 'fats'"),
    ],
)
def test_a_run_that_goes_on_keeps_size_and_recipe(size, recipe, told):
    """Others are refused and not passed over; the words that it was begun with may be typed again."""
    begun = asdict(build_settings("nano", ["max_iters=50"], recipe="fast"))
    with pytest.raises(BadInputError, match=told):
        build_settings(size, [], begun, recipe=recipe)
    assert asdict(build_settings("nano", [], begun, recipe="fast")) == begun
    assert asdict(build_settings("", [], begun)) == begun
