"""gate: holds its update rate on a falling loss, and uses only finite losses."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.gate import OckhamGatePlugin


def make_losses(count, seed=0):
    """Return losses that fall with noise."""
    draw = random.Random(seed)
    return [2 + 3 * math.exp(-i / (count / 5)) + draw.gauss(0, 0.15) for i in range(count)]


def run_gate(gate, values, **fields):
    """Return for each loss whether the batch updates, and the reason codes."""
    verdicts = []
    for i, loss in enumerate(values):
        ctx = OccamContext(i, loss, max_iters=len(values), **fields)
        gate.on_batch_start(ctx)
        verdicts.append((ctx.updated, [note.reason_code for note in ctx.notes]))
    return verdicts


@pytest.mark.parametrize("count", [200, 600, 3000])
@pytest.mark.parametrize(
    ("target", "low", "high"), [(0.30, 0.20, 0.40), (0.60, 0.50, 0.70), (0.88, 0.80, 0.95)]
)
def test_gate_holds_its_target_rate(count, target, low, high):
    """The rate is in its range from 200 batches on, including warm-up."""
    rate = (
        sum(updated for updated, _ in run_gate(OckhamGatePlugin(target=target), make_losses(count))) / count
    )
    assert low < rate < high


def test_gate_updates_in_every_fifth_of_the_run():
    """This holds on a falling loss."""
    verdicts = run_gate(OckhamGatePlugin(target=0.3), make_losses(1_000))
    for part in range(5):
        assert sum(updated for updated, _ in verdicts[part * 200 : part * 200 + 200]) > 20


def test_fixed_gate_skips_losses_below_the_threshold():
    """An equal loss updates. A gate with only a threshold is in mode `fixed`."""
    gate = OckhamGatePlugin(surprise_threshold=2.0)
    assert gate.mode == "fixed"
    assert [updated for updated, _ in run_gate(gate, [1.9, 2.0, 2.1])] == [False, True, True]


def test_fixed_gate_warns_if_it_never_skips_or_never_updates():
    """On a falling loss a fixed threshold stops the training in effect."""
    verdicts = run_gate(
        OckhamGatePlugin(surprise_threshold=9.0, stall_batches=10, max_consecutive_skips=1_000), [1.0] * 30
    )
    assert sum("NEVER_UPDATES" in reasons for _, reasons in verdicts) > 0
    verdicts = run_gate(OckhamGatePlugin(surprise_threshold=0.1, stall_batches=10), [1.0] * 30)
    assert sum("NEVER_SKIPS" in reasons for _, reasons in verdicts) > 0


def test_too_many_consecutive_skips_force_an_update():
    """After max_consecutive_skips, one batch updates in any case."""
    verdicts = run_gate(OckhamGatePlugin(surprise_threshold=9.0, max_consecutive_skips=5), [1.0] * 12)
    assert [i for i, (updated, _) in enumerate(verdicts) if updated] == [5, 11]
    assert verdicts[5][1] == ["FORCED_UPDATE"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_gate_statistics_ignore_nonfinite_losses(bad):
    """Mean and number of batches equal those of the finite losses."""
    clean, dirty = OckhamGatePlugin(target=0.5), OckhamGatePlugin(target=0.5)
    values = make_losses(80)
    run_gate(clean, values)
    run_gate(dirty, [v for pair in zip(values, [bad] * 80, strict=True) for v in pair][:160])
    assert dirty.mean == clean.mean
    assert dirty.batches == clean.batches


def test_gate_always_updates_during_warmup():
    """The warm-up is a tenth of the run, at most 20 batches."""
    verdicts = run_gate(OckhamGatePlugin(target=0.3), make_losses(100))
    assert [reasons for _, reasons in verdicts[:10]] == [["WARMUP"]] * 10
    assert verdicts[10][1] != ["WARMUP"]


def test_random_gate_is_repeatable_and_ignores_the_loss():
    """An equal seed gives equal verdicts for other losses. Another seed gives others."""
    verdicts = run_gate(OckhamGatePlugin(mode="random", target=0.6), make_losses(400), seed=3)
    repeated = run_gate(OckhamGatePlugin(mode="random", target=0.6), [1.0] * 400, seed=3)
    assert verdicts == repeated
    assert 0.5 < sum(updated for updated, _ in verdicts) / 400 < 0.7
    assert verdicts != run_gate(OckhamGatePlugin(mode="random", target=0.6), make_losses(400), seed=4)


def test_gate_ignores_batches_that_are_skipped_already():
    """A skip of another plugin is not counted."""
    gate = OckhamGatePlugin(surprise_threshold=1.0)
    ctx = OccamContext(0, 5.0, updated=False)
    gate.on_batch_start(ctx)
    assert ctx.notes == []
    assert gate.batches == 0


@pytest.mark.parametrize("target", [0.0, -0.1, 1.1, math.nan, True, "0.5"])
def test_gate_rejects_invalid_targets(target):
    """The target must be a number in its range."""
    with pytest.raises(BadInputError, match=r"gate: target must be in \[0.001, 1\]"):
        OckhamGatePlugin(target=target)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
    st.integers(1, 59),
    st.sampled_from(["target_rate", "random"]),
)
def test_restored_gate_decides_as_before(values, cut, mode):
    """The state is stored as JSON at any batch."""
    complete, first = OckhamGatePlugin(mode=mode, target=0.5), OckhamGatePlugin(mode=mode, target=0.5)
    expected = run_gate(complete, values)
    cut = min(cut, len(values) - 1)
    for i, loss in enumerate(values[:cut]):
        first.on_batch_start(OccamContext(i, loss, max_iters=len(values)))
    second = OckhamGatePlugin(mode=mode, target=0.5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = []
    for i, loss in enumerate(values[cut:], start=cut):
        ctx = OccamContext(i, loss, max_iters=len(values))
        second.on_batch_start(ctx)
        rest.append((ctx.updated, [note.reason_code for note in ctx.notes]))
    assert rest == expected[cut:]


def test_logged_threshold_explains_every_verdict():
    """Mean and sd are those of the earlier finite batches, and threshold = mean + q sd in nats."""
    gate = OckhamGatePlugin(target=0.4, warmup=5)
    for i, loss in enumerate(make_losses(200)):
        ctx = OccamContext(i, loss)
        gate.on_batch_start(ctx)
        note = ctx.notes[0]
        if i >= 5:
            assert note.threshold == note.numbers["mean"] + note.numbers["q"] * note.numbers["sd"]
            assert note.threshold == ctx.surprise_threshold
            assert ctx.updated == (note.observed >= note.threshold)
            assert note.numbers["z"] == (loss - note.numbers["mean"]) / note.numbers["sd"]


def test_gate_quantile_is_constant_during_warmup():
    """A changing q in a long warm-up caused 249 consecutive skips."""
    gate = OckhamGatePlugin(target=0.3, warmup=50)
    start = gate.q
    run_gate(gate, make_losses(50))
    assert gate.q == start
    run_gate(gate, make_losses(20))
    assert gate.q != start


def test_gate_with_target_one_always_updates():
    """This holds for every finite loss."""
    values = [*make_losses(300), 0.0, -50.0]
    assert all(updated for updated, _ in run_gate(OckhamGatePlugin(target=1), values))


@pytest.mark.parametrize("mode", ["target_rate", "random"])
def test_gate_rejects_a_threshold_in_other_modes(mode):
    """The setting would have no effect."""
    with pytest.raises(BadInputError, match=f"requires mode 'fixed', got mode '{mode}'"):
        OckhamGatePlugin(2.0, mode=mode)


def test_gate_updates_when_loss_equals_threshold():
    """A constant loss is never skipped."""
    assert all(updated for updated, _ in run_gate(OckhamGatePlugin(target=0.3), [2.0] * 60))


@pytest.mark.parametrize("z", [-1.0, 0.0, 2.5])
def test_calibrated_gate_has_a_constant_threshold(z):
    """The threshold is mean + z sd for all losses. No update is forced and no warning is given."""
    gate = OckhamGatePlugin(
        mode="calibrated", familiar_mean=2.0, familiar_sd=0.5, z=z, max_consecutive_skips=1_000_000
    )
    limit = 2.0 + z * 0.5
    assert gate.base_knobs() == {"surprise_threshold": limit}
    verdicts = run_gate(gate, [limit, limit - 1e-9, *[0.1] * 300, 9.0])
    assert [updated for updated, _ in verdicts] == [True, False, *[False] * 300, True]
    assert {reason for _, reasons in verdicts for reason in reasons} == {"SURPRISING", "BELOW_THRESHOLD"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"familiar_mean": 2.0},
        {"familiar_mean": 2.0, "familiar_sd": 0.0},
        {"familiar_mean": math.nan, "familiar_sd": 1.0},
        {"familiar_mean": 2.0, "familiar_sd": 1.0, "z": math.nan},
    ],
)
def test_calibrated_gate_requires_mean_and_sd(settings):
    """Without them there is no threshold."""
    with pytest.raises(BadInputError, match=r"familiar_mean|familiar_sd|z must be in"):
        OckhamGatePlugin(mode="calibrated", **settings)
