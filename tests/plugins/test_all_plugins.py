"""Every built-in plugin on arbitrary batches: no exception, restorable state, and safe handling of NaN."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.event import from_json_value, to_json_value
from ockham.plugins import BUILT_IN, load_built_in
from ockham.testing.simulation import Batch, SimulatedRun

# With these settings each plugin acts within a few batches.
EAGER_SETTINGS = {
    "finite": {"max_in_a_row": 2, "then": "rollback"},
    "gate": {"target": 0.5, "warmup": 2, "max_consecutive_skips": 3},
    "spike": {
        "window": 4,
        "min_history": 2,
        "sigma": 0.5,
        "clip_from": 1,
        "skip_from": 2,
        "slow_from": 1,
        "slow_steps": 3,
        "rollback_from": 3,
        "halt_from": 4,
        "loss_cap": 8.0,
        "cap_batches": 3,
        "patience": 2,
    },
    "eq": {"min_history": 3, "window": 8},
    "saturation": {"noise_type": "both", "warmup": 2},
    "compressor": {"threshold": 0.05, "attack": 2, "window": 2, "makeup": 1.1},
    "limiter": {"learning_rate_ceiling": 5e-4, "lambda_ceiling": 0.005, "on_breach": "consolidate"},
    "watchdog": {"warn": 0.1, "rollback": 0.5, "halt": 2.0, "every": 1},
    "memory": {"quality_threshold": 5.0, "complexity_threshold": 0.5, "min_oq_improvement": 0.01},
    "anchor": {"interval": 3, "cooldown": 2},
}
# Plugins that count in a row across rollbacks, and the one that knows the saved weights.
SURVIVORS = {"finite", "spike", "memory"}
# Values that a float32 can contain, because a trainer reads float32.
number = st.floats(0, 10) | st.sampled_from([0.0, 5e-324, 3e38, -3e38, math.inf, -math.inf, math.nan])
batch = st.builds(
    Batch,
    number,
    st.fixed_dictionaries(
        {
            "anchor_available": st.booleans(),
            "example_losses": st.lists(number, max_size=4).map(tuple),
            "model_params": st.just(1_000),
            "updated": st.sampled_from([True, True, True, False]),
        }
    ),
    st.fixed_dictionaries(
        {
            "complexity_cost": number,
            "drift_raw": number,
            "grad_norm": number,
            "kl_to_anchor": st.none() | number,
        }
    ),
    st.none() | number,
)


def make_plugin(name):
    """Return a built-in plugin that acts within a few batches."""
    return load_built_in(name)(**EAGER_SETTINGS[name])


def simulate(plugin, batches, after=None):
    """Run a plugin through batches. Return what was captured."""
    run = SimulatedRun([plugin], after=after)
    for batch in batches:
        run.run_batch(batch, {"seed": 3, "max_iters": 40, "warmup_iters": 2})
    return run.captured


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=60)
@given(batches=st.lists(batch, min_size=1, max_size=24), cut=st.integers(0, 23))
def test_plugin_restored_at_any_batch_decides_as_before(name, batches, cut):
    """The state is stored as JSON and loaded into a new object at any batch of any run."""
    cut = min(cut, len(batches) - 1)
    complete = simulate(make_plugin(name), batches)
    first, second = make_plugin(name), make_plugin(name)
    head = simulate(first, batches[:cut])
    stored = json.dumps(to_json_value(first.state_dict()), allow_nan=False)
    second.load_state_dict(from_json_value(json.loads(stored)))
    tail = simulate(second, batches[cut:], after=head.contexts[-1] if cut else None)
    assert repr(head.decisions + tail.decisions) == repr(complete.decisions)
    assert second.state_dict().keys() == first.state_dict().keys()


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=60)
@given(batches=st.lists(batch, min_size=1, max_size=24))
def test_nonfinite_values_are_never_accepted_or_applied(name, batches):
    """No such candidate is accepted, no anchor moves, and all knobs stay finite."""
    for ctx in simulate(make_plugin(name), batches).contexts:
        assert not (ctx.accepted and not (math.isfinite(ctx.val_loss) and math.isfinite(ctx.complexity_cost)))
        if name == "anchor" and ctx.consolidating:
            assert math.isfinite(ctx.val_loss)
            assert math.isfinite(ctx.complexity_cost)
        if name == "finite" and not math.isfinite(ctx.task_loss):
            assert not ctx.updated
        assert 0 <= ctx.learning_rate < math.inf
        assert 0 <= ctx.lambda_ockham < math.inf


@pytest.mark.parametrize("name", ["gate", "eq", "compressor"])
def test_nonfinite_loss_and_drift_enter_no_history(name):
    """The state equals that of a run without such batches."""
    good = [Batch(2 + math.sin(i), {"anchor_available": True}, {"complexity_cost": 0.1}) for i in range(12)]
    bad = Batch(math.nan, {"anchor_available": True, "updated": False}, {"complexity_cost": math.nan})
    clean, dirty = make_plugin(name), make_plugin(name)
    simulate(clean, good)
    simulate(dirty, [batch for pair in zip(good, [bad] * 12, strict=True) for batch in pair])
    # `followed` is an iteration and not part of the history.
    state = {key: value for key, value in dirty.state_dict().items() if key != "followed"}
    assert {key: clean.state_dict()[key] for key in state} == state


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=25)
@given(batches=st.lists(batch, min_size=2, max_size=12), cut=st.integers(0, 12))
def test_rollback_restores_the_state_of_all_plugins_but_the_survivors(name, batches, cut):
    """Survivors keep the present state, whether anything happened in between or not."""
    run = SimulatedRun([make_plugin(name)])
    plugin = run._chain.plugins[0]
    for each in batches[:cut]:
        run.run_batch(each, {})
    saved = json.dumps(to_json_value(run._chain.state_dict()))
    for each in batches[cut:]:
        run.run_batch(each, {})
    present = json.dumps(to_json_value(plugin.state_dict()))
    run._chain.restore_saved_state(from_json_value(json.loads(saved)))
    expected = json.loads(present) if name in SURVIVORS else json.loads(saved)[name]
    assert json.loads(json.dumps(to_json_value(plugin.state_dict()))) == expected
