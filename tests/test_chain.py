"""The chain: every turn has one owner and one reason, shadow changes nothing, an error says where."""

from __future__ import annotations

import math

import pytest

from ockham.chain import PluginChain, base_knobs, start_knobs
from ockham.context import FIELDS, OccamContext
from ockham.errors import BadInputError, ContextError, PluginError
from ockham.plugin import OccamPlugin
from ockham.plugins.limiter import LimiterPlugin


def plugin(name="p", shadow=False, **hooks):
    def method(function):
        return lambda self, ctx: function(ctx)

    made = type(name, (OccamPlugin,), {hook: method(function) for hook, function in hooks.items()})()
    made.name, made.shadow = name, shadow
    return made


def run(*plugins, hook="on_batch_start", ctx=None):
    made = []
    ctx = ctx or OccamContext(3, 2.0, learning_rate=0.1)
    getattr(PluginChain(plugins, made.append), hook)(ctx)
    return ctx, made


def halve(ctx):
    ctx.learning_rate *= 0.5


def test_a_turn_without_a_word_is_logged():
    """Before, after, and UNEXPLAINED."""
    ctx, made = run(plugin(on_batch_start=halve))
    assert ctx.learning_rate == 0.05
    assert [(d.reason_code, d.changes) for d in made] == [("UNEXPLAINED", (("learning_rate", 0.1, 0.05),))]


def test_each_turn_has_one_owner():
    """after of plugin i = before of plugin i + 1."""
    _, made = run(plugin("a", on_batch_start=halve), plugin("b", on_batch_start=halve))
    assert [(d.plugin, d.order, d.changes[0].before, d.changes[0].after) for d in made] == [
        ("a", 0, 0.1, 0.05), ("b", 1, 0.05, 0.025),
    ]  # fmt: skip


def test_knobs_go_to_the_call_that_names_them():
    """Fields that no call names belong to the last one."""

    def turn(ctx):
        ctx.learning_rate, ctx.lambda_ockham, ctx.grad_clip = 1.0, 2.0, 3.0
        ctx.decide("A", "FIRST", fields=("lambda_ockham",))
        ctx.decide("B", "SECOND")

    with pytest.raises(PluginError):
        run(plugin(on_batch_start=turn))  # one letter is no stable code

    def turn_again(ctx):
        ctx.learning_rate, ctx.lambda_ockham = 1.0, 2.0
        ctx.decide("AA", "FIRST", fields=("lambda_ockham",))
        ctx.decide("BB", "SECOND")

    _, made = run(plugin(on_batch_start=turn_again))
    assert [(d.reason_code, [c.field for c in d.changes]) for d in made] == [
        ("FIRST", ["lambda_ockham"]), ("SECOND", ["learning_rate"]),
    ]  # fmt: skip


def test_a_verdict_without_a_turn_is_logged():
    """The gate says something about every batch."""
    _, made = run(plugin(on_batch_start=lambda ctx: ctx.decide("UPDATE", "SURPRISING", 2.0, 1.0)))
    assert (made[0].observed, made[0].threshold, made[0].changes) == (2.0, 1.0, ())


def test_silence_is_not_logged():
    """No turn, no word, no decision; and a hook that the plugin lacks is not called."""
    assert run(plugin(on_batch_start=lambda ctx: ctx))[1] == []
    assert run(plugin(on_batch_start=halve), hook="on_batch_end")[1] == []


def test_shadow_decides_and_changes_nothing():
    """Logged as shadow; the knob is as it was; an acting plugin sees only the real ones."""
    seen = []
    ctx, made = run(
        plugin("watching", shadow=True, on_batch_start=halve),
        plugin("acting", on_batch_start=lambda ctx: seen.append(ctx.learning_rate)),
    )
    assert ctx.learning_rate == 0.1
    assert seen == [0.1]
    assert [(d.shadow, d.changes[0].after) for d in made] == [(True, 0.05)]


def test_plugins_in_shadow_see_each_other():
    """What the acting chain would have done."""
    _, made = run(
        plugin("a", shadow=True, on_batch_start=halve), plugin("b", shadow=True, on_batch_start=halve)
    )
    assert [d.changes[0].after for d in made] == [0.05, 0.025]


def test_a_copy_that_is_returned_counts():
    """Old plugins may return another context: its knobs are taken, other facts are refused."""

    def copied(ctx):
        return OccamContext(ctx.iter_num, ctx.task_loss, learning_rate=0.7)

    ctx, _ = run(plugin(on_batch_start=copied), ctx=OccamContext(3, 2.0, learning_rate=0.1))
    assert ctx.learning_rate == 0.7
    with pytest.raises(PluginError, match="other facts: task_loss"):
        run(plugin(on_batch_start=lambda ctx: OccamContext(ctx.iter_num, 9.0)))
    with pytest.raises(PluginError, match="not int"):
        run(plugin(on_batch_start=lambda ctx: 7))


def test_a_plugin_that_raises_is_named_and_leaves_no_trace():
    """Plugin, hook, iteration; what it had turned before is put back."""

    def breaks(ctx):
        ctx.learning_rate = 9.0
        raise ZeroDivisionError("oops")

    ctx = OccamContext(7, 2.0, learning_rate=0.1)
    with pytest.raises(
        PluginError, match="'bad' failed in on_batch_start at iteration 7: ZeroDivisionError: oops"
    ) as told:
        run(plugin("bad", on_batch_start=breaks), ctx=ctx)
    assert (told.value.plugin, told.value.hook, told.value.iter_num) == ("bad", "on_batch_start", 7)
    assert ctx.learning_rate == 0.1


@pytest.mark.parametrize("name", ["task_loss", "iter_num", "grad_norm", "val_loss"])
def test_facts_and_gauges_are_the_trainers(name):
    """The error names what may be turned."""
    with pytest.raises(PluginError, match="plugins may turn: learning_rate"):
        run(plugin(on_batch_start=lambda ctx: setattr(ctx, name, 1)))


@pytest.mark.parametrize("value", [math.nan, "fast", None, [1.0], True])
def test_a_knob_takes_only_its_kind(value):
    """NaN, text, nothing, lists and booleans are no learning rate."""
    with pytest.raises(PluginError, match="learning_rate"):
        run(plugin(on_batch_start=lambda ctx: setattr(ctx, "learning_rate", value)))


def test_names_are_unique_and_plugins_are_plugins():
    """Two of one name, or something else, are refused at once."""
    with pytest.raises(BadInputError, match="two plugins are called 'a'"):
        PluginChain([plugin("a"), plugin("a")])
    with pytest.raises(BadInputError, match="is no plugin"):
        PluginChain([object()])


def test_ceilings_of_two_owners_are_the_lower_one():
    """Trainer and policy both cap the gradient."""
    base = base_knobs(
        [LimiterPlugin(complexity_ceiling=0.3, grad_norm_ceiling=2.0)],
        {"grad_clip": 5.0, "lambda_ockham": 0.1},
    )
    assert base == {"grad_clip": 2.0, "lambda_ockham": 0.1, "drift_ceiling": 0.3}
    assert start_knobs(base, {"grad_clip": 1.0, "learning_rate": 0.5})["grad_clip"] == 1.0
    assert start_knobs(base, {"grad_clip": 9.0})["grad_clip"] == 2.0


def test_only_iter_num_and_task_loss_have_no_default():
    """And every field has a unit, a role and a sentence."""
    OccamContext(0, 1.0)
    with pytest.raises(TypeError):
        OccamContext(0)
    with pytest.raises(ContextError, match="did you mean 'learning_rate'"):
        OccamContext(0, 1.0, learning_rat=1.0)
    assert all(field.doc.endswith(".") for field in FIELDS)


def test_custom_metrics_carry_over():
    """A plugin's own numbers, by name."""
    ctx = OccamContext(0, 1.0)
    ctx.custom["perplexity"] = 2.7
    assert ctx.following(1, 0.9).custom == {"perplexity": 2.7}
