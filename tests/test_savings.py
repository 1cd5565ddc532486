"""Estimate of the saved compute: the formula by hand, its reasons, and how often the interval is right."""

from __future__ import annotations

import math
import random

import pytest

from ockham.savings import SAVINGS_REASONS, SavingsCounter


def fill(batches, *, world_size=1):
    """Return a counter of (iteration, updated, ends_step, seconds)."""
    counter = SavingsCounter(world_size=world_size)
    for iteration, updated, ends_step, seconds in batches:
        counter.add_batch(iteration, seconds, updated=updated, ends_step=ends_step)
    return counter


def constant(updates, *, chain=0.0, world_size=1):
    """Return a counter of single batches with equal times: forward 1, backward 1.5, optimizer 0.5."""
    spent = {"forward": 1.0, "chain": chain, "backward": 1.5, "optimizer": 0.5}
    idle = {"forward": 1.0, "chain": chain}
    return fill(
        [(i, updated, True, spent if updated else idle) for i, updated in enumerate(updates)],
        world_size=world_size,
    )


def test_skip_saves_backward_and_optimizer_and_never_forward():
    """40 of 100 batches are skipped: 40 x 2 s of 100 x 3 s. Equal times give an interval without width."""
    found = constant([i % 5 > 1 for i in range(100)], chain=0.1).estimate()
    for value in (found.compute_saved, found.compute_saved_low, found.compute_saved_high):
        assert value == pytest.approx(80 / 300)
    assert found.backward_over_forward == pytest.approx(2.0)
    assert found.seconds_saved == pytest.approx(80)
    assert found.chain_share == pytest.approx(10 / 300)


def test_skipped_micro_batch_saves_its_backward_and_a_skipped_step_the_optimizer():
    """Steps of two micro-batches: 10 skip one, 5 skip both, 5 none."""
    batches = []
    for step in range(20):
        verdicts = (step < 10 or step >= 15, step >= 15)
        for micro, updated in enumerate(verdicts):
            seconds = {"forward": 1.0} | ({"backward": 2.0} if updated else {})
            if micro == 1 and any(verdicts):
                seconds["optimizer"] = 4.0
            batches.append((step, updated, micro == 1, seconds))
    found = fill(batches).estimate()
    # 20 skipped micro-batches, 5 skipped steps; 40 forwards, 20 backwards and 15 optimizer steps were spent.
    saved, spent = 20 * 2.0 + 5 * 4.0, 40 * 1.0 + 20 * 2.0 + 15 * 4.0
    assert found.compute_saved == pytest.approx(saved / (saved + spent))
    assert found.backward_over_forward == pytest.approx((2.0 + 4.0 * 20 / 40) / 1.0)


def test_run_without_a_skip_saved_nothing():
    """Also without stage times, and while ranks wait: nothing was skipped."""
    expected = (0.0, 0.0, 0.0, None, 0.0)
    for counter in (
        constant([True] * 10),
        fill([(i, True, True, {}) for i in range(10)]),
        constant([True] * 10, chain=9.0, world_size=2),
    ):
        assert counter.estimate()[1:6] == expected


@pytest.mark.parametrize(
    ("counter", "reason"),
    [
        (SavingsCounter(), "NO_BATCHES"),
        (constant([False] * 5), "NOTHING_UPDATED"),
        (fill([(i, i % 2 == 0, True, {"forward": 1.0}) for i in range(6)]), "NO_STAGE_TIMES"),
        (constant([True, False] * 5, chain=0.5, world_size=2), "WAITED_FOR_RANKS"),
    ],
)
def test_estimate_that_the_times_do_not_support_is_none_with_a_reason(counter, reason):
    """No number is better than a wrong one."""
    found = counter.estimate()
    assert found.compute_saved_reason == reason
    assert reason in SAVINGS_REASONS
    assert found.compute_saved is found.compute_saved_low is found.compute_saved_high is None
    assert found.seconds_saved is None


def test_short_chain_of_ranks_supports_an_estimate():
    """With 1 % for the chain the ranks hardly wait. Its share is not shown, because it contains waiting."""
    found = constant([True, False] * 5, chain=0.01, world_size=2).estimate()
    assert found.compute_saved == pytest.approx(10 / 30)
    assert found.chain_share is None


def test_single_measurement_has_no_interval():
    """One measured update has a mean, but no spread."""
    found = constant([True, False, False]).estimate()
    assert found.compute_saved == pytest.approx(4 / 9)
    assert found.compute_saved_low is found.compute_saved_high is None


def test_interval_contains_the_truth_in_about_95_percent_of_runs():
    """Times are drawn for all batches, and those of the skipped ones are hidden from the estimate."""
    draw = random.Random(5)
    hits, runs = 0, 600
    for _ in range(runs):
        counter, saved, spent = SavingsCounter(), 0.0, 0.0
        for i in range(80):
            updated = draw.random() < 0.6
            forward, backward, optimizer = (draw.gauss(mean, mean / 8) for mean in (1.0, 2.0, 0.4))
            seconds = {"forward": forward}
            if updated:
                seconds |= {"backward": backward, "optimizer": optimizer}
            else:
                saved += backward + optimizer
            spent += sum(seconds.values())
            counter.add_batch(i, seconds, updated=updated, ends_step=True)
        found = counter.estimate()
        hits += found.compute_saved_low <= saved / (saved + spent) <= found.compute_saved_high
    assert 0.92 <= hits / runs <= 0.98


def test_restored_counter_continues_with_the_same_estimate():
    """A checkpoint is at the end of a step. The estimate of both parts is that of the whole."""
    draw = random.Random(3)
    batches = [
        (i, i % 3 > 0, True, {"forward": draw.random(), **({"backward": draw.random()} if i % 3 else {})})
        for i in range(30)
    ]
    whole = fill(batches).estimate()
    restored = SavingsCounter.from_state(fill(batches[:12]).state_dict())
    for iteration, updated, ends_step, seconds in batches[12:]:
        restored.add_batch(iteration, seconds, updated=updated, ends_step=ends_step)
    assert restored.estimate() == whole
    assert math.isfinite(whole.compute_saved_high)
