"""Data order: positions of iterations with skipped ranges and rollbacks, against a simple model."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.nano.config import Settings
from ockham.nano.data_order import DataOrder, SkippedRange, parse_ranges


def test_iterations_read_their_own_position_without_ranges():
    """A run without skips and rollbacks reads all data in order."""
    order = DataOrder()
    assert [order.position(i) for i in (0, 1, 57, 10**9)] == [0, 1, 57, 10**9]
    assert all(order.skipped_before(i) == [] for i in range(10))


def test_skipped_range_moves_later_iterations_behind_it():
    """Iteration 3 reads position 5 in place of 3. The range is reported once, before this iteration."""
    order = DataOrder(parse_ranges("3:5"))
    assert [order.position(i) for i in range(6)] == [0, 1, 2, 5, 6, 7]
    assert [order.skipped_before(i) for i in range(6)] == [[], [], [], [(3, 5, "user")], [], []]


ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=5)


@given(ranges=ranges)
def test_positions_are_all_others_in_order(ranges):
    """The model lists all positions that are in no range. Each range is reported before the next read."""
    skipped = [SkippedRange(first, first + count, "user") for first, count in ranges]
    order = DataOrder(skipped)
    forbidden = {at for each in skipped for at in range(each.first, each.end)}
    expected = [at for at in range(200) if at not in forbidden][:60]
    assert [order.position(i) for i in range(60)] == expected
    reported = [set(range(each.first, each.end)) for i in range(60) for each in order.skipped_before(i)]
    assert sum(map(len, reported)) == len(set().union(*reported)) if reported else not forbidden
    assert set().union(*reported) == {at for at in forbidden if at < expected[-1]}


@given(ranges=ranges, changed=ranges, at=st.integers(1, 40))
def test_other_ranges_change_no_earlier_position(ranges, changed, at):
    """A resume with other ranges continues after the last position, without the new ranges."""
    order = DataOrder([SkippedRange(first, first + count, "user") for first, count in ranges])
    before = [order.position(i) for i in range(at)]
    after = parse_ranges(",".join(f"{first}:{first + count}" for first, count in changed))
    order.skip(at, after)
    forbidden = {position for each in after for position in range(each.first, each.end)}
    expected = [position for position in range(before[-1] + 1, 300) if position not in forbidden]
    assert [order.position(i) for i in range(at)] == before
    assert [order.position(i) for i in range(at, at + 30)] == expected[:30]


actions = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20), st.booleans()), max_size=6)


@given(ranges=ranges, actions=actions)
def test_rows_between_good_state_and_rollback_are_never_read_again_if_skipped(ranges, actions):
    """Rollbacks to any earlier iteration follow each other. The saved order gives the same positions."""
    order = DataOrder([SkippedRange(first, first + count, "user") for first, count in ranges])
    forbidden, read, iter_num = set(), [], 0
    for steps, back, repeats in actions:
        for _ in range(steps):
            position = order.position(iter_num)
            assert position not in forbidden
            read.append(position)
            iter_num += 1
        good = max(-1, iter_num - 1 - back)
        data = order.roll_back(iter_num - 1, good, "repeat" if repeats else "skip_data")
        if repeats:
            assert data.skipped is None
        else:
            forbidden |= set(read[good + 1 : iter_num])
            assert data.skipped is None or forbidden >= set(read[good + 1 : iter_num])
        assert data.next_position == order.position(iter_num)
    again = DataOrder()
    again.load_state(json.loads(json.dumps(order.state())))
    assert [again.position(i) for i in range(iter_num + 20)] == [
        order.position(i) for i in range(iter_num + 20)
    ]


def test_rows_that_a_rollback_skips_stay_skipped_if_the_user_changes_the_ranges():
    """Also if a later rollback repeats the rows before them."""
    order = DataOrder()
    order.roll_back(10, 4, "skip_data")
    order.skip(12, parse_ranges("20:22"))
    order.roll_back(14, 2, "repeat")
    assert [order.position(i) for i in range(15, 20)] == [3, 4, 11, 12, 13]
    assert [order.position(i) for i in range(24, 28)] == [18, 19, 22, 23]


def test_rows_after_the_good_state_are_read_again_if_repeated():
    """Iteration 8 reads what iteration 3 read."""
    order = DataOrder()
    assert order.roll_back(7, 2, "repeat").next_position == 3
    assert [order.position(i) for i in range(11)] == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5]


@pytest.mark.parametrize("text", ["5", "5:5", "9:5", "-1:5", "1:2,", "1:2;3:4", "a:b", "1:2:3", "1.5:3"])
def test_other_text_than_ranges_is_refused(text):
    """The error of the setting contains the text and an example."""
    with pytest.raises(BadInputError, match=r"skip_data: .* is not a range; accepted: FIRST:END"):
        Settings(skip_data=text)


def test_ranges_of_a_setting_are_joined_where_they_touch():
    """Spaces are accepted. `none` contains no range."""
    assert parse_ranges("7:9, 1:3,3:5,4:6") == ((1, 6, "user"), (7, 9, "user"))
    assert parse_ranges("none") == parse_ranges("") == ()
