"""The gate: holds its rate on a falling loss, and is fed by nothing but finite losses."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.gate import OckhamGatePlugin


def losses(count, seed=0):
    draw = random.Random(seed)
    return [2 + 3 * math.exp(-i / (count / 5)) + draw.gauss(0, 0.15) for i in range(count)]


def verdicts(gate, values, **fields):
    out = []
    for i, loss in enumerate(values):
        ctx = OccamContext(i, loss, max_iters=len(values), **fields)
        gate.on_batch_start(ctx)
        out.append((ctx.updated, [note.reason_code for note in ctx.notes]))
    return out


@pytest.mark.parametrize("count", [200, 600, 3000])
@pytest.mark.parametrize(
    ("target", "low", "high"), [(0.30, 0.20, 0.40), (0.60, 0.50, 0.70), (0.88, 0.80, 0.95)]
)
def test_the_promised_rate_is_held(count, target, low, high):
    """In its band from 200 batches up, warm-up counted."""
    rate = sum(updated for updated, _ in verdicts(OckhamGatePlugin(target=target), losses(count))) / count
    assert low < rate < high


def test_it_does_not_starve():
    """Every fifth of the run has updates, however the loss falls."""
    found = verdicts(OckhamGatePlugin(target=0.3), losses(1_000))
    for part in range(5):
        assert sum(updated for updated, _ in found[part * 200 : part * 200 + 200]) > 20


def test_a_fixed_threshold_is_the_documented_rule():
    """Skip when loss < surprise_threshold; equal updates. Built with a threshold alone it is in fixed mode."""
    gate = OckhamGatePlugin(surprise_threshold=2.0)
    assert gate.mode == "fixed"
    assert [updated for updated, _ in verdicts(gate, [1.9, 2.0, 2.1])] == [False, True, True]


def test_a_fixed_threshold_says_when_it_does_nothing():
    """On a falling loss it is early stopping in disguise."""
    found = verdicts(
        OckhamGatePlugin(surprise_threshold=9.0, stall_batches=10, max_consecutive_skips=1_000), [1.0] * 30
    )
    assert sum("NEVER_UPDATES" in reasons for _, reasons in found) > 0
    found = verdicts(OckhamGatePlugin(surprise_threshold=0.1, stall_batches=10), [1.0] * 30)
    assert sum("NEVER_SKIPS" in reasons for _, reasons in found) > 0


def test_too_many_skips_force_an_update():
    """After max_consecutive_skips one batch updates whatever its loss."""
    found = verdicts(OckhamGatePlugin(surprise_threshold=9.0, max_consecutive_skips=5), [1.0] * 12)
    assert [i for i, (updated, _) in enumerate(found) if updated] == [5, 11]
    assert found[5][1] == ["FORCED_UPDATE"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_enters_nothing(bad):
    """Mean, variance and quantile are those of the finite losses alone."""
    clean, dirty = OckhamGatePlugin(target=0.5), OckhamGatePlugin(target=0.5)
    values = losses(80)
    verdicts(clean, values)
    verdicts(dirty, [v for pair in zip(values, [bad] * 80, strict=True) for v in pair][:160])
    assert dirty.mean == clean.mean
    assert dirty.batches == clean.batches


def test_warmup_always_updates_and_is_counted():
    """min(20, a tenth of the run)."""
    found = verdicts(OckhamGatePlugin(target=0.3), losses(100))
    assert [reasons for _, reasons in found[:10]] == [["WARMUP"]] * 10
    assert found[10][1] != ["WARMUP"]


def test_random_is_blind_and_repeatable():
    """The control: the same counter draws the same, whatever the loss."""
    one = verdicts(OckhamGatePlugin(mode="random", target=0.6), losses(400), seed=3)
    two = verdicts(OckhamGatePlugin(mode="random", target=0.6), [1.0] * 400, seed=3)
    assert one == two
    assert 0.5 < sum(updated for updated, _ in one) / 400 < 0.7
    assert one != verdicts(OckhamGatePlugin(mode="random", target=0.6), losses(400), seed=4)


def test_a_batch_that_is_skipped_already_is_left_alone():
    """Another plugin's skip is not the gate's verdict."""
    gate = OckhamGatePlugin(surprise_threshold=1.0)
    ctx = OccamContext(0, 5.0, updated=False)
    gate.on_batch_start(ctx)
    assert ctx.notes == []
    assert gate.batches == 0


@pytest.mark.parametrize("target", [0.0, -0.1, 1.1, math.nan, True, "0.5"])
def test_a_target_is_a_rate(target):
    """Never NaN, never text."""
    with pytest.raises(BadInputError, match=r"gate: target must be in \[0.001, 1\]"):
        OckhamGatePlugin(target=target)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=60),
    st.integers(1, 59),
    st.sampled_from(["target_rate", "random"]),
)
def test_state_round_trip(values, cut, mode):
    """A gate that was saved and loaded goes on as if nothing had happened."""
    import json

    whole, first = OckhamGatePlugin(mode=mode, target=0.5), OckhamGatePlugin(mode=mode, target=0.5)
    all_at_once = verdicts(whole, values)
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
    assert rest == all_at_once[cut:]


def test_the_threshold_in_the_log_is_the_only_comparison():
    """Mean and sd are those of the finite batches before this one, and threshold = mean + q sd in nats."""
    gate = OckhamGatePlugin(target=0.4, warmup=5)
    for i, loss in enumerate(losses(200)):
        ctx = OccamContext(i, loss)
        gate.on_batch_start(ctx)
        note = ctx.notes[0]
        if i >= 5:
            assert (
                note.threshold
                == note.numbers["mean"] + note.numbers["q"] * note.numbers["sd"]
                == ctx.surprise_threshold
            )
            assert ctx.updated == (note.observed >= note.threshold)
            assert note.numbers["z"] == (loss - note.numbers["mean"]) / note.numbers["sd"]


def test_the_search_rests_during_warmup():
    """q moving in a long warm-up caused 249 skips in a row."""
    gate = OckhamGatePlugin(target=0.3, warmup=50)
    start = gate.q
    verdicts(gate, losses(50))
    assert gate.q == start
    verdicts(gate, losses(20))
    assert gate.q != start


def test_a_target_of_one_is_no_gate():
    """Every finite batch updates, whatever its loss."""
    values = [*losses(300), 0.0, -50.0]
    assert all(updated for updated, _ in verdicts(OckhamGatePlugin(target=1), values))


@pytest.mark.parametrize("mode", ["target_rate", "random"])
def test_a_threshold_that_the_mode_ignores_is_refused(mode):
    """It would look like a setting that does something."""
    with pytest.raises(BadInputError, match=f"belongs to mode 'fixed', and mode is '{mode}'"):
        OckhamGatePlugin(2.0, mode=mode)


def test_equal_updates():
    """A loss at the threshold is worth an update: a constant loss is never skipped."""
    assert all(updated for updated, _ in verdicts(OckhamGatePlugin(target=0.3), [2.0] * 60))


@pytest.mark.parametrize("z", [-1.0, 0.0, 2.5])
def test_a_calibrated_threshold_stays_where_familiar_text_put_it(z):
    """mean + z sd, whatever the losses do; equal updates; nothing is forced or warned of where that is not asked for."""
    gate = OckhamGatePlugin(
        mode="calibrated", familiar_mean=2.0, familiar_sd=0.5, z=z, max_consecutive_skips=1_000_000
    )
    limit = 2.0 + z * 0.5
    assert gate.base_knobs() == {"surprise_threshold": limit}
    found = verdicts(gate, [limit, limit - 1e-9, *[0.1] * 300, 9.0])
    assert [updated for updated, _ in found] == [True, False, *[False] * 300, True]
    assert {reason for _, reasons in found for reason in reasons} == {"SURPRISING", "BELOW_THRESHOLD"}


@pytest.mark.parametrize(
    "settings", [{}, {"familiar_mean": 2.0}, {"familiar_mean": 2.0, "familiar_sd": 0.0},
                 {"familiar_mean": math.nan, "familiar_sd": 1.0}, {"familiar_mean": 2.0, "familiar_sd": 1.0, "z": math.nan}]
)  # fmt: skip
def test_a_gate_that_was_not_calibrated_is_refused(settings):
    """A threshold from nowhere would be none."""
    with pytest.raises(BadInputError, match=r"familiar_mean|familiar_sd|z must be in"):
        OckhamGatePlugin(mode="calibrated", **settings)
