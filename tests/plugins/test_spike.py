"""SpikePlugin: bounds computed with numpy, every stage, patience, and recovery from a new level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import PluginSettingError
from ockham.plugins.spike import SpikePlugin
from ockham.testing import check_plugin
from ockham.testing.simulation import Batch, SimulatedRun, capture

value = st.floats(0.01, 20)
SMALL = {"window": 8, "min_history": 4, "sigma": 2.0}


def numpy_bounds(values, window, min_history, sigma):
    """Return the bound before each value, or None, by the definition of the documentation."""
    history, bounds = [], []
    for number in values:
        recent = np.asarray(history[-window:])
        bound = None
        if len(recent) >= min_history:
            deviation = max(recent.std(ddof=1), 0.01 * abs(recent.mean()))
            bound = recent.mean() + sigma * deviation
        history.append(number if bound is None else min(number, bound))
        bounds.append(bound)
    return bounds


def batches(losses, norms=None, **fields):
    norms = [1.0] * len(losses) if norms is None else norms
    return [Batch(loss, fields, {"grad_norm": norm}) for loss, norm in zip(losses, norms, strict=True)]


def of_reason(captured, reason):
    return [made for made in captured.decisions if made.reason_code == reason]


@settings(max_examples=100)
@given(losses=st.lists(value, min_size=1, max_size=40), norms=st.lists(value, min_size=40, max_size=40))
def test_spikes_are_the_values_over_the_bound_of_numpy(losses, norms):
    """Loss and gradient norm have a history each. Observed value, bound and counts are in the decision."""
    norms = norms[: len(losses)]
    captured = capture(SpikePlugin(**SMALL, clip_from=None), batches=batches(losses, norms))
    for reason, values in (("LOSS_SPIKE", losses), ("GRADIENT_SPIKE", norms)):
        bounds = numpy_bounds(values, 8, 4, 2.0)
        pairs = zip(values, bounds, strict=True)
        # Values at the bound up to rounding are left out.
        clear = [b is None or not math.isclose(v, b, rel_tol=1e-9) for v, b in pairs]
        expected = {i for i, (v, b) in enumerate(zip(values, bounds, strict=True)) if b is not None and v > b}
        made = {decision.iter_num: decision for decision in of_reason(captured, reason)}
        if not all(clear):
            continue
        assert set(made) == expected
        for number, decision in made.items():
            recent = decision.numbers["history"]
            assert recent == min(number, 8)
            assert decision.observed == values[number]
            assert decision.threshold == pytest.approx(bounds[number], rel=1e-9)
            assert decision.action == "WARN"
            assert decision.changes == ()


def test_no_bound_exists_before_min_history():
    """The first values of a training are not comparable."""
    assert capture(SpikePlugin(**SMALL), losses=[1.0, 1.0, 1.0, 1e6]).decisions == []


def test_clip_lowers_the_limit_to_the_bound_and_never_raises_it():
    """The bound is that of numpy over the norms before."""
    norms = [1.0, 1.2, 0.8, 1.0, 5.0]
    bound = np.mean(norms[:4]) + 2 * np.std(norms[:4], ddof=1)
    for limit, expected in ((math.inf, bound), (0.5, 0.5)):
        captured = capture(SpikePlugin(**SMALL), batches=batches([2.0] * 5, norms), grad_clip=limit)
        assert captured.contexts[4].grad_clip == pytest.approx(expected)
        assert captured.contexts[4].step
        (decision,) = captured.decisions
        assert (decision.hook, decision.action, decision.reason_code) == (
            "on_gradients",
            "CLAMP",
            "GRADIENT_SPIKE",
        )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_enters_no_history(value):
    """It is not a spike either, because `finite` decides about it."""
    plugin = SpikePlugin(**SMALL, skip_from=1)
    captured = capture(plugin, batches=batches([2.0] * 4 + [value], [1.0] * 4 + [value]))
    assert captured.decisions == []
    assert [*plugin.losses] == [2.0] * 4
    assert [*plugin.norms] == [1.0] * 4


def test_clip_scales_the_learning_rate_of_a_loss_spike():
    """By bound / loss."""
    losses = [2.0, 2.2, 1.8, 2.0, 8.0]
    bound = np.mean(losses[:4]) + 2 * np.std(losses[:4], ddof=1)
    captured = capture(SpikePlugin(**SMALL), losses=losses, learning_rate=1.0)
    assert captured.contexts[4].learning_rate == pytest.approx(bound / 8.0)
    assert [made.action for made in captured.decisions] == ["SCALE"]


@pytest.mark.parametrize(
    ("losses", "norms", "knob"),
    [([2.0] * 4 + [8.0], [1.0] * 5, "updated"), ([2.0] * 5, [1.0] * 4 + [5.0], "step")],
)
def test_skip_refuses_the_batch_or_the_step(losses, norms, knob):
    """A loss spike saves the backward pass. A gradient spike drops the gradients."""
    captured = capture(SpikePlugin(**SMALL, skip_from=1), batches=batches(losses, norms))
    assert [getattr(ctx, knob) for ctx in captured.contexts] == [True] * 4 + [False]
    (decision,) = captured.decisions
    assert decision.action == "SKIP"
    assert [change.field for change in decision.changes] == [knob]


def test_stages_follow_the_number_in_a_row():
    """Warning, clip, skip, rollback at each third, and the end. A calm step starts again."""
    plugin = SpikePlugin(
        window=50, min_history=4, sigma=2.0, clip_from=2, skip_from=3, rollback_from=3, halt_from=7
    )
    losses = [2.0, 2.0, 2.0, 2.0, *[50.0 * 3**i for i in range(2)], 2.0, *[9e3 * 3**i for i in range(7)]]
    captured = capture(plugin, batches=batches(losses, anchor_available=True))
    actions = [made.action for made in captured.decisions]
    row = ["WARN", "SCALE", "SKIP", "ROLLBACK", "SKIP", "SKIP", "SKIP", "ROLLBACK", "SKIP", "HALT"]
    assert actions == ["WARN", "SCALE", *row]
    counts = [made.numbers["in_a_row"] for made in of_reason(captured, "LOSS_SPIKE")]
    assert counts == [1, 2, 1, 2, 3, 4, 5, 6, 7]
    assert [made.observed for made in of_reason(captured, "SPIKES_IN_A_ROW")] == [3, 6, 7]
    assert captured.contexts[-1].halt


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_rollback_needs_an_anchor_or_a_saved_state(anchor, state):
    """Without both, the run would end."""
    plugin = SpikePlugin(**SMALL, rollback_from=1)
    facts = {"anchor_available": anchor, "state_available": state}
    captured = capture(plugin, batches=batches([2.0] * 4 + [9.0], **facts))
    assert [ctx.rollback for ctx in captured.contexts] == [False] * 4 + [anchor or state]


def test_rollbacks_to_saved_states_end_in_a_halt():
    """The row of spikes continues after a rollback. Otherwise the run would roll back without end."""
    run = SimulatedRun([SpikePlugin(**SMALL, rollback_from=2, halt_from=5)])
    calm, spikes = [2.0, 2.1, 1.9, 2.0], [50.0 * 9**i for i in range(5)]
    for batch in batches(calm, anchor_available=True):
        run.run_batch(batch, {})
    saved = run._chain.state_dict()
    for batch in batches(spikes, anchor_available=True):
        run.run_batch(batch, {})
        if run.captured.contexts[-1].rollback:
            run._chain.restore_saved_state(saved)
    made = of_reason(run.captured, "SPIKES_IN_A_ROW")
    assert [(each.action, each.observed) for each in made] == [("ROLLBACK", 2), ("ROLLBACK", 4), ("HALT", 5)]


def test_learning_rate_is_lower_for_some_accepted_steps_after_a_spike():
    """A batch that another plugin skips does not count."""
    plugin = SpikePlugin(**SMALL, clip_from=None, slow_from=1, slow_factor=0.25, slow_steps=2)
    story = batches([2.0] * 4 + [9.0] + [2.0] * 5)
    story[6] = Batch(2.0, {"updated": False}, {"grad_norm": 1.0})
    captured = capture(plugin, batches=story, learning_rate=1.0)
    rates = [ctx.learning_rate for ctx in captured.contexts]
    assert rates == [1.0] * 5 + [0.25, 1.0, 0.25, 1.0, 1.0]
    assert [made.observed for made in of_reason(captured, "AFTER_SPIKE")] == [2, 1]


def test_skipped_batches_do_not_end_a_row():
    """They say nothing about the step of the gradients."""
    story = batches([2.0] * 4 + [9.0, 2.0, 30.0])
    story[5] = Batch(2.0, {"updated": False}, {})
    captured = capture(SpikePlugin(**SMALL), batches=story)
    assert [made.numbers["in_a_row"] for made in captured.decisions] == [1, 2]


def test_micro_batches_of_a_step_are_one_spike():
    """The row counts steps."""
    run = SimulatedRun([SpikePlugin(**SMALL)])
    for number, loss in enumerate([2.0] * 4 + [9.0, 30.0] + [90.0, 2.0]):
        run._iter_num = number // 2
        fields = {"micro_step": number % 2, "micro_steps": 2}
        run.run_batch(Batch(loss, fields, {}), {})
    assert [made.numbers["in_a_row"] for made in run.captured.decisions] == [1, 1, 2]


def test_new_level_is_accepted_after_a_while():
    """The history holds bounds in place of spikes, and grows to the new level."""
    captured = capture(SpikePlugin(**SMALL, skip_from=1), losses=[2.0, 2.1, 1.9, 2.0] + [4.0] * 30)
    updated = [ctx.updated for ctx in captured.contexts]
    assert not updated[4]
    assert updated.index(True, 4) < 20
    assert all(updated[20:])


def test_one_spike_hardly_moves_the_bound():
    """The bound after it is that of a history with the bound in place of the spike."""
    plugins = [SpikePlugin(window=64, min_history=4) for _ in range(2)]
    calm = [2.0 + 0.1 * math.sin(i) for i in range(40)]
    for plugin, last in zip(plugins, (2.0, 1e9), strict=True):
        capture(plugin, losses=[*calm, last])
    plain, spiked = (plugin._bound(plugin.losses).value for plugin in plugins)
    assert spiked < plain * 1.1


def test_loss_over_its_cap_ends_the_run_after_the_batches():
    """A loss that is not finite is over the cap too. A batch under it starts again."""
    plugin = SpikePlugin(loss_cap=3.0, cap_batches=3)
    captured = capture(plugin, losses=[2.0, 4.0, 4.0, 3.0, 4.0, math.nan, 5.0])
    assert [ctx.halt for ctx in captured.contexts] == [False] * 6 + [True]
    (decision,) = captured.decisions
    assert (decision.action, decision.reason_code) == ("HALT", "LOSS_OVER_CAP")
    assert (decision.observed, decision.threshold) == (5.0, 3.0)
    assert decision.numbers == {"batches": 3, "max_batches": 3}


def test_patience_counts_evaluations_that_are_not_better():
    """An equal loss and one that is not finite are not better."""
    story = [
        Batch(2.0, {}, {}, val_loss) for val_loss in (math.nan, 3.0, 2.5, 2.5, math.nan, 2.4, 2.5, 2.6, 2.4)
    ]
    captured = capture(SpikePlugin(patience=3), batches=story)
    assert [ctx.halt for ctx in captured.contexts] == [False] * 8 + [True]
    (decision,) = captured.decisions
    assert (decision.hook, decision.reason_code) == ("on_evaluate", "NO_IMPROVEMENT")
    assert (decision.observed, decision.threshold) == (2.4, 2.4)
    assert decision.numbers == {"evaluations": 3, "patience": 3}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"window": 1}, "window must be in"),
        ({"sigma": 0.0}, "sigma must be in"),
        ({"sigma": math.nan}, "sigma must be in"),
        ({"skip_from": 0}, "skip_from must be in"),
        ({"slow_factor": 1.5}, "slow_factor must be in"),
        ({"window": 10, "min_history": 11}, r"min_history is at most window \(10\), got 11"),
        ({"window": 10_001}, "window must be in"),
        ({"window": 10**30}, "window must be in"),
        ({"clip_from": 3, "skip_from": 2}, r"clip_from is at most skip_from \(2\), got 3"),
        ({"skip_from": 4, "halt_from": 3}, r"skip_from is at most halt_from \(3\), got 4"),
        ({"slow_from": 4, "halt_from": 3}, r"slow_from is at most halt_from \(3\), got 4"),
        ({"clip_from": 4, "halt_from": 3}, r"clip_from is at most halt_from \(3\), got 4"),
        ({"rollback_from": 3, "halt_from": 3}, r"halt_from is larger than rollback_from \(3\), got 3"),
    ],
)
def test_bad_setting_is_refused(bad, message):
    """The message names the setting and what is accepted."""
    with pytest.raises(PluginSettingError, match=message):
        SpikePlugin(**bad)


@pytest.mark.parametrize(
    "stage", [{}, {"skip_from": 1}, {"clip_from": None}, {"slow_from": 1, "halt_from": 9}]
)
def test_check_plugin_accepts_it(stage):
    """All requirements of plugins hold, with spikes in the simulated run."""
    check_plugin(SpikePlugin(window=20, min_history=4, sigma=1.0, patience=3, **stage))


stage_number = st.none() | st.integers(1, 4)


@settings(max_examples=300)
@given(clip=stage_number, skip=stage_number, slow=stage_number, rollback=stage_number, halt=stage_number)
def test_every_stage_of_accepted_settings_begins_in_a_long_row(clip, skip, slow, rollback, halt):
    """Settings are refused exactly if a stage could never begin. A skip replaces the clipping of its step."""
    froms = {"clip_from": clip, "skip_from": skip, "slow_from": slow, "rollback_from": rollback}
    is_clip_late = clip is not None and skip is not None and clip > skip
    is_halt_early = halt is not None and any(n is not None and n > halt for n in (clip, skip, slow))
    is_rollback_late = halt is not None and rollback is not None and rollback >= halt
    contradicts = is_clip_late or is_halt_early or is_rollback_late
    try:
        plugin = SpikePlugin(**SMALL, **froms, halt_from=halt)
    except PluginSettingError:
        assert contradicts
        return
    assert not contradicts
    losses = [2.0] * 4 + [50.0 * 9**i for i in range(6)]
    captured = capture(plugin, batches=batches(losses, state_available=True))
    ends = [i for i, ctx in enumerate(captured.contexts) if ctx.halt]
    assert (halt is None) == (not ends)
    if halt is not None:
        assert ends[0] == 3 + halt
    made = {(each.action, each.reason_code): each for each in reversed(captured.decisions)}
    first = {
        "SKIP": (skip, ("SKIP", "LOSS_SPIKE")),
        "ROLLBACK": (rollback, ("ROLLBACK", "SPIKES_IN_A_ROW")),
    }
    if clip is not None and clip != skip:
        first["CLIP"] = (clip, ("SCALE", "LOSS_SPIKE"))
    for number, key in first.values():
        assert (key in made) == (number is not None)
        if number is not None:
            assert made[key].iter_num == 3 + number
