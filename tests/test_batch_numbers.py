"""Numbers of batches: every order that `verify` would refuse is refused when it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.batch_numbers import BatchNumber, BatchNumbers
from ockham.errors import BadInputError


def follows(before, now, micro_steps):
    """Return whether a batch follows another one. Written from the rule in words."""
    (iter_num, micro_step), is_last = before, before[1] == micro_steps - 1
    return now == ((iter_num + 1, 0) if is_last else (iter_num, micro_step + 1))


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_only_consecutive_numbers_are_accepted(micro_steps, given_numbers):
    """A jump, a repeat, a restart and a way back raise. The accepted batches stay consecutive."""
    numbers, accepted = BatchNumbers(), []
    for now in given_numbers:
        fits = follows(accepted[-1], now, micro_steps) if accepted else now[1] == 0
        try:
            numbers.start(*now, micro_steps)
        except BadInputError:
            assert not fits
            continue
        assert fits
        numbers.end(*now)
        accepted.append(now)


@given(st.integers(0, 50), st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_counted_numbers_cover_each_micro_batch_once(first, steps):
    """Steps may have different numbers of micro-batches."""
    numbers, seen = BatchNumbers(first), []
    for micro_steps in steps:
        for _ in range(micro_steps):
            number = numbers.start(None, None, micro_steps)
            numbers.end(number.iter_num, number.micro_step)
            seen.append(number[:2])
    assert seen == [(first + i, m) for i, count in enumerate(steps) for m in range(count)]


def test_second_start_without_an_end_raises():
    """A `continue` between start and end leaves a batch open."""
    numbers = BatchNumbers()
    numbers.start(0, 0, 1)
    with pytest.raises(BadInputError, match=r"has not ended; call run\.end_batch"):
        numbers.start(1, 0, 1)


def test_second_end_of_a_batch_raises():
    """A context ends once."""
    numbers = BatchNumbers()
    numbers.start(0, 0, 1)
    numbers.end(0, 0)
    with pytest.raises(BadInputError, match="was not started, or has ended"):
        numbers.end(0, 0)


def test_first_batch_of_a_resumed_run_must_continue():
    """Otherwise iterations would be missing or superseded."""
    with pytest.raises(BadInputError, match="is the first of this attempt; accepted: iteration 20"):
        BatchNumbers(20).start(0, 0, 1)


def test_micro_step_beyond_the_declared_number_raises():
    """Without `micro_steps` every batch is a step."""
    numbers = BatchNumbers()
    numbers.start(0, 0, 1)
    numbers.end(0, 0)
    with pytest.raises(BadInputError, match=r"pass .* as micro_steps"):
        numbers.start(0, 1, 1)


def test_next_number_keeps_the_micro_steps_of_its_step():
    """The given number of micro-batches belongs to the step that begins."""
    assert BatchNumber(3, 0, 2).next(5) == (3, 1, 2)
    assert BatchNumber(3, 1, 2).next(5) == (4, 0, 5)


@pytest.mark.parametrize("number", [(1, 0), (0, 1)])
def test_end_of_another_batch_raises(number):
    """The started batch stays open."""
    numbers = BatchNumbers()
    numbers.start(0, 0, 2)
    with pytest.raises(BadInputError, match="was not started, or has ended"):
        numbers.end(*number)
    numbers.end(0, 0)


def test_negative_first_number_raises():
    """A loop that may begin anywhere begins at 0 or later."""
    with pytest.raises(BadInputError, match="iteration -1"):
        BatchNumbers().start(-1, 0, 1)
