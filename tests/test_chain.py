"""Plugin chain: owners of knob changes, shadow plugins without effect, and errors that name the plugin."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.chain import PluginChain, base_knobs, merge_scheduled_knobs
from ockham.context import FIELDS_BY_NAME, KNOBS, OccamContext
from ockham.errors import BadInputError, ContextError, PluginError
from ockham.event import Change
from ockham.plugin import HOOKS, OccamPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy import load_policy, policy_from_plugins


class Turn(OccamPlugin):
    """Plugin that multiplies one knob by a factor. It records a decision only if it has a reason."""

    def __init__(self, name="turn", factor=0.5, knob="learning_rate", reason=None, shadow=False):
        self.name, self.factor, self.knob, self.reason, self.shadow = name, factor, knob, reason, shadow
        self.seen = []

    def on_batch_start(self, ctx):
        self.seen.append(getattr(ctx, self.knob))
        setattr(ctx, self.knob, getattr(ctx, self.knob) * self.factor)
        if self.reason:
            ctx.decide("TURN", self.reason, 1.0, 2.0, numbers={"factor": self.factor})
        return ctx


def run(*plugins, hook="on_batch_start", **fields):
    made = []
    ctx = OccamContext(7, 1.5, **fields)
    chain = PluginChain(plugins, made.append)
    assert getattr(chain, hook)(ctx) is ctx
    return ctx, made


def test_each_knob_change_has_one_plugin_with_before_and_after():
    """The second change starts where the first one ended."""
    ctx, made = run(Turn("a", 0.5, reason="HALVED"), Turn("b", 0.1, reason="TENTH"), learning_rate=1.0)
    assert ctx.learning_rate == 0.05
    assert [(d.plugin, d.order, d.changes) for d in made] == [
        ("a", 0, (Change("learning_rate", 1.0, 0.5),)),
        ("b", 1, (Change("learning_rate", 0.5, 0.05),)),
    ]
    first = made[0]
    assert (first.iter_num, first.micro_step, first.hook, first.shadow) == (7, 0, "on_batch_start", False)
    assert (first.action, first.reason_code, first.observed, first.threshold) == ("TURN", "HALVED", 1.0, 2.0)
    assert first.numbers == {"factor": 0.5}


def test_change_without_a_reason_is_logged_as_unexplained():
    """A legacy plugin that returns the context runs unchanged."""
    _, made = run(Turn(knob="lambda_ockham"), lambda_ockham=0.02)
    assert [(d.action, d.reason_code, d.changes) for d in made] == [
        ("TURN", "UNEXPLAINED", (Change("lambda_ockham", 0.02, 0.01),))
    ]


def test_no_change_and_no_reason_is_no_decision():
    """Setting a knob to its value is not a change."""
    assert run(Turn(factor=1.0))[1] == []
    assert run(OccamPlugin())[1] == []


def test_reason_without_a_change_is_a_decision():
    """`decide` is enough."""
    _, made = run(Turn(factor=1.0, reason="LOOKED"))
    assert [(d.reason_code, d.changes) for d in made] == [("LOOKED", ())]


def test_knobs_are_attributed_to_the_call_that_names_them():
    """The others go to the last call."""

    class Several(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.learning_rate, ctx.grad_clip, ctx.updated = 0.5, 1.0, False
            ctx.decide("CLAMP", "CLIPPED", fields=("grad_clip",))
            ctx.decide("SKIP", "BORED")

    _, made = run(Several(), learning_rate=1.0)
    assert [(d.reason_code, [c.field for c in d.changes]) for d in made] == [
        ("CLIPPED", ["grad_clip"]),
        ("BORED", ["learning_rate", "updated"]),
    ]


knobs = st.sampled_from(["learning_rate", "lambda_ockham", "grad_clip"])
turns = st.lists(st.tuples(knobs, st.sampled_from([0.5, 1.0, 2.0]), st.booleans()), max_size=8)


@given(turns, st.sampled_from([None, "WHY"]))
def test_acting_changes_add_up_to_the_final_knobs(turned, reason):
    """This holds for generated chains."""
    plugins = [Turn(str(i), f, k, reason, shadow) for i, (k, f, shadow) in enumerate(turned)]
    ctx, made = run(*plugins, grad_clip=4.0)
    state = {"learning_rate": 1e-3, "lambda_ockham": 0.01, "grad_clip": 4.0}
    for decision in made:
        if not decision.shadow:
            for change in decision.changes:
                assert state[change.field] == change.before
                state[change.field] = change.after
    assert state == {name: getattr(ctx, name) for name in state}
    acting = [p for p in plugins if not p.shadow]
    alone, _ = run(*[Turn(p.name, p.factor, p.knob) for p in acting], grad_clip=4.0)
    assert alone.knobs() == ctx.knobs(), "shadow plugins change nothing"


def test_shadow_decision_is_logged_and_changes_nothing():
    """It contains the change that acting would have made."""
    ctx, made = run(Turn("s", reason="HALVED", shadow=True), learning_rate=1.0)
    assert ctx.learning_rate == 1.0
    assert [(d.shadow, d.changes) for d in made] == [(True, (Change("learning_rate", 1.0, 0.5),))]


def test_shadow_plugins_see_shadow_knobs_and_acting_ones_real_knobs():
    """An acting change counts for both."""
    first, real = Turn("s1", shadow=True), Turn("real", 0.1, "lambda_ockham")
    acting, second, third = (
        Turn("a", 0.1),
        Turn("s2", shadow=True),
        Turn("s3", 1.0, "lambda_ockham", shadow=True),
    )
    ctx, _ = run(first, second, acting, real, third, learning_rate=1.0, lambda_ockham=1.0)
    assert (first.seen, second.seen) == ([1.0], [0.5])
    assert acting.seen == [1.0]
    assert third.seen == [0.1]
    assert (ctx.learning_rate, ctx.lambda_ockham) == (0.1, 0.1)


def test_shadow_ceiling_affects_shadow_knobs_only():
    """Shadow knobs start at their own base values."""
    limiter = LimiterPlugin(complexity_ceiling=0.2, grad_norm_ceiling=1.0)
    limiter.shadow = True
    ctx, made = run(limiter, grad_clip=5.0)
    assert (ctx.grad_clip, made) == (5.0, [])
    assert (ctx.shadow_knobs["grad_clip"], ctx.shadow_knobs["drift_ceiling"]) == (1.0, 0.2)


def test_shadow_knobs_last_from_batch_start_to_evaluation():
    """A skip in shadow is visible at batch end."""

    class Look(OccamPlugin):
        shadow = True

        def __init__(self):
            self.seen = []

        def on_batch_end(self, ctx):
            self.seen.append(ctx.updated)

    gate, look = OckhamGatePlugin(surprise_threshold=9.0), Look()
    gate.shadow = True
    chain = PluginChain([gate, look])
    ctx = chain.on_batch_start(OccamContext(0, 1.5))
    chain.on_batch_end(ctx)
    assert (ctx.updated, look.seen) == (True, [False])


def test_hook_can_return_none_the_context_or_a_copy():
    """All three change the same knob."""

    class Nothing(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.updated = False

    class Same(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.updated = False
            return ctx

    class Copied(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.decide("LOOK", "SEEN")
            twin = copy.copy(ctx)
            twin.updated = False
            twin.custom["mine"] = 1.0
            return twin.decide("SKIP", "BORED")

    for plugin in (Nothing(), Same(), Copied()):
        ctx, made = run(plugin)
        assert ctx.updated is False
        assert made[-1].changes == (Change("updated", True, False),)
    assert [d.reason_code for d in made] == ["SEEN", "BORED"], "each is logged once"
    assert ctx.custom == {"mine": 1.0}


def test_returned_copy_with_other_facts_is_refused():
    """So is any other object."""

    class Other(OccamPlugin):
        def __init__(self, back):
            self.back = back

        def on_batch_start(self, ctx):
            return self.back

    with pytest.raises(PluginError, match="other facts: iter_num, task_loss"):
        run(Other(OccamContext(8, 2.5)))
    with pytest.raises(PluginError, match="returns the context or None, got bool"):
        run(Other(True))


@pytest.mark.parametrize("hook", ["on_batch_start", "on_batch_end", "on_evaluate", "on_consolidate"])
def test_plugin_error_names_plugin_hook_and_iteration(hook):
    """The knobs are restored, and the chain remains usable."""
    made = []

    def fail(self, ctx):
        ctx.halt = True
        ctx.decide("TURN", "HALF_DONE")
        if ctx.iter_num == 7:
            raise ValueError("no more")

    plugin = type("Brittle", (OccamPlugin,), {hook: fail})()
    chain = PluginChain([Turn("first"), plugin], made.append)
    ctx = OccamContext(7, 1.5, learning_rate=1.0)
    with pytest.raises(
        PluginError, match=f"'Brittle' failed in {hook} at iteration 7: ValueError: no more"
    ) as caught:
        getattr(chain, hook)(ctx)
    assert (caught.value.plugin, caught.value.hook, caught.value.iter_num) == ("Brittle", hook, 7)
    assert isinstance(caught.value.__cause__, ValueError)
    assert not ctx.halt
    assert ctx.learning_rate == (0.5 if hook == "on_batch_start" else 1.0)
    assert ctx.notes == []
    assert all(decision.plugin == "first" for decision in made)
    getattr(chain, hook)(OccamContext(8, 1.5))
    assert made[-1].reason_code == "HALF_DONE"


CHANGES = {"float": 0.125, "bool": True, "floats": (2.0,)}


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("knob", KNOBS)
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_changes_only_knobs_that_can_still_be_carried_out(hook, knob, shadow):
    """The table of the documentation is the oracle. The knobs are restored, and no decision is logged."""
    documented = {
        "on_batch_start": set(KNOBS) - {"accepted", "step"},
        "on_gradients": {"learning_rate", "grad_clip", "step"},
        "on_batch_end": {"consolidating", "rollback", "halt"},
        "on_evaluate": {"accepted", "consolidating", "rollback", "halt"},
        "on_consolidate": {"rollback", "halt"},
    }
    value = knob not in {"updated", "step"} and CHANGES[FIELDS_BY_NAME[knob].kind]

    def change(self, ctx):
        setattr(ctx, knob, value)
        ctx.decide("TURN", "CHANGED")

    made = []
    plugin = type("Late", (OccamPlugin,), {hook: change})()
    plugin.shadow = shadow
    ctx = OccamContext(7, 1.5)
    before, run = ctx.knobs(), getattr(PluginChain([plugin], made.append), hook)
    if knob in documented[hook]:
        run(ctx)
        assert [decision.changes[0].field for decision in made] == [knob]
        return
    with pytest.raises(PluginError, match=f"'Late' failed in {hook} .*{knob} can be changed by"):
        run(ctx)
    assert ctx.knobs() == before
    assert made == []


def test_plugin_error_in_shadow_keeps_the_real_knobs():
    """Shadow knobs do not leak."""

    class Brittle(OccamPlugin):
        shadow = True

        def on_batch_start(self, ctx):
            ctx.updated = False
            raise ValueError

    ctx = OccamContext(0, 1.5)
    with pytest.raises(PluginError):
        PluginChain([Turn(shadow=True), Brittle()]).on_batch_start(ctx)
    assert ctx.knobs() == OccamContext(0, 1.5).knobs()


def test_plugin_that_sets_a_fact_or_invalid_metric_is_named():
    """The error belongs to that plugin."""

    class SetsFact(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.task_loss = 0.0

    class Says(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.custom["note"] = "text"

    for cls, metadata in (
        (SetsFact, "task_loss is a fact"),
        (Says, r"ctx.custom\['note'\] takes a float, got str"),
    ):
        with pytest.raises(
            PluginError, match=f"'{cls.__name__}' failed in on_batch_start.*{metadata}"
        ) as caught:
            run(cls())
        assert isinstance(caught.value.__cause__, ContextError)


def test_plugin_can_have_a_single_hook():
    """Missing hooks are not called."""

    class EndOnly(OccamPlugin):
        def on_batch_end(self, ctx):
            ctx.halt = True

    assert run(EndOnly())[1] == []
    ctx, made = run(EndOnly(), hook="on_batch_end")
    assert (ctx.halt, made[0].hook) == (True, "on_batch_end")


def test_duplicate_plugin_names_are_refused():
    """So are objects that are not plugins."""
    with pytest.raises(BadInputError, match="two plugins have the name 'gate'"):
        PluginChain([OckhamGatePlugin(), OckhamGatePlugin()])
    with pytest.raises(BadInputError, match="is not a plugin; derive its class"):
        PluginChain([object()])

    class Nameless(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.updated = False

    assert run(Nameless())[1][0].plugin == "Nameless"


def test_state_is_saved_and_restored_by_name():
    """A missing plugin keeps its state."""
    chain = PluginChain([OckhamGatePlugin(), OckhamMemory()])
    for i in range(5):
        chain.on_batch_start(OccamContext(i, 3.0 - i / 10))
    state = chain.state_dict()
    assert set(state) == {"gate", "memory"}
    fresh = PluginChain([OckhamGatePlugin(), OckhamMemory()])
    fresh.load_state_dict({"gate": state["gate"], "gone": {}})
    assert fresh.state_dict() == state


def test_smallest_measurement_interval_is_used():
    """Two plugins ask for one field."""

    class Wants(OccamPlugin):
        def __init__(self, name, every):
            self.name, self.every = name, every

        def required_measurements(self):
            return {"kl_to_anchor": self.every}

    assert PluginChain([Wants("a", 10), Wants("b", 4), OccamPlugin()]).required_measurements() == {
        "kl_to_anchor": 4
    }


def test_base_knobs_come_from_policy_and_acting_plugins():
    """The lower ceiling is used."""
    hyperparameters = {"lambda_ockham": 0.02, "grad_clip": 0.5, "evaluations": 60}
    limiter, gate = LimiterPlugin(grad_norm_ceiling=1.0), OckhamGatePlugin(surprise_threshold=2.5)
    base = base_knobs([gate, limiter], hyperparameters)
    assert base == {"lambda_ockham": 0.02, "grad_clip": 0.5, "drift_ceiling": 0.2, "surprise_threshold": 2.5}
    limiter.shadow = gate.shadow = True
    assert base_knobs([gate, limiter], hyperparameters) == {"lambda_ockham": 0.02, "grad_clip": 0.5}
    assert merge_scheduled_knobs(base, {"grad_clip": 9.0, "learning_rate": 0.1, "lambda_ockham": 0.5}) == {
        **base,
        "learning_rate": 0.1,
        "lambda_ockham": 0.5,
    }


def test_policy_without_a_limit_keeps_the_clipping_of_the_trainer():
    """Plugin objects and `observe` lower no limit. A policy that names one does."""
    for policy in (policy_from_plugins([LimiterPlugin(grad_norm_ceiling=None)]), load_policy("observe")):
        base = base_knobs(policy.build(), policy.hyperparameters)
        assert merge_scheduled_knobs(base, {"grad_clip": 5.0})["grad_clip"] == 5.0
        assert merge_scheduled_knobs(base, {"grad_clip": math.inf})["grad_clip"] == math.inf
    balanced = load_policy("balanced")
    base = base_knobs(balanced.build(), balanced.hyperparameters)
    assert merge_scheduled_knobs(base, {"grad_clip": 5.0})["grad_clip"] == 1.0
