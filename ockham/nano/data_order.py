"""Data order: which position of the data each iteration reads.

Without skips and rollbacks, iteration i reads position i. A skipped range moves all later iterations to later
positions, so nothing reads its rows. After a rollback the iterations continue, and the position either
continues too or returns to the rows that followed the restored state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from ockham.errors import BadInputError

NO_RANGES = "none"
AfterRollback = Literal["skip_data", "repeat"]
Skipper = Literal["user", "rollback"]
_RANGE = re.compile(r"([0-9]{1,15}):([0-9]{1,15})")


class SkippedRange(NamedTuple):
    """Positions `first` to `end` - 1, and who skips them."""

    first: int
    end: int
    by: Skipper


class OrderChange(NamedTuple):
    """From iteration `iter_num` on, positions from `position` on are read, without the ranges."""

    iter_num: int
    position: int
    ranges: tuple[SkippedRange, ...]


class DataAfterRollback(NamedTuple):
    """Data after a rollback: the mode, the next position, and the skipped range or None."""

    mode: AfterRollback
    next_position: int
    skipped: SkippedRange | None


def parse_ranges(text: str) -> tuple[SkippedRange, ...]:
    """Return the ranges of a setting such as `120:140,300:310`. `none` and empty text contain no range.

    Raises:
        BadInputError: If the text has another form, or a range is empty.

    """
    ranges = []
    for part in [] if text in ("", NO_RANGES) else text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None or int(match[1]) >= int(match[2]):
            raise BadInputError(
                f"setting skip_data: {part!r:.60} is not a range; accepted: FIRST:END with FIRST below END, "
                f"several separated by commas, such as 120:140,300:310, or {NO_RANGES}"
            )
        ranges.append(SkippedRange(int(match[1]), int(match[2]), "user"))
    return _separate(ranges)


class DataOrder:
    """Position that each iteration reads.

    Args:
        ranges: Positions that are skipped from the first iteration on.

    """

    def __init__(self, ranges: Sequence[SkippedRange] = ()) -> None:
        self._changes = [OrderChange(0, 0, _separate(ranges))]

    def position(self, iter_num: int) -> int:
        """Return the position that an iteration reads."""
        change = self._find_change(iter_num)
        position = change.position + iter_num - change.iter_num
        for each in change.ranges:
            first = max(each.first, change.position)
            if first < each.end and first <= position:
                position += each.end - first
        return position

    def skipped_before(self, iter_num: int) -> list[SkippedRange]:
        """Return the ranges that are skipped between the iteration before and this one."""
        change, end = self._find_change(iter_num), self.position(iter_num)
        first = change.position if iter_num == change.iter_num else self.position(iter_num - 1) + 1
        passed = [each for each in change.ranges if each.end > first and each.end <= end]
        return [each._replace(first=max(each.first, first)) for each in passed]

    def skip(self, iter_num: int, ranges: Sequence[SkippedRange]) -> None:
        """Skip other ranges of the user from an iteration on. Earlier iterations keep their positions."""
        before = self._changes[-1].ranges
        if tuple(each for each in before if each.by == "user") == tuple(ranges):
            return
        others = [each for each in before if each.by != "user"]
        self._change(OrderChange(iter_num, self._next_position(iter_num), _separate([*ranges, *others])))

    def roll_back(self, iter_num: int, good_iter_num: int, mode: AfterRollback) -> DataAfterRollback:
        """Choose what is read after a rollback.

        Args:
            iter_num: Iteration that requested the rollback. The next one reads the next position.
            good_iter_num: Last iteration of the restored state. -1 before the first.
            mode: `repeat` reads the rows after the restored state again. `skip_data` never reads them again.

        Returns:
            The next position and the range that is skipped.

        """
        lasts = [each.iter_num - 1 for each in self._changes if good_iter_num < each.iter_num - 1 < iter_num]
        firsts = [each.iter_num for each in self._changes if good_iter_num < each.iter_num <= iter_num]
        first = min(map(self.position, [good_iter_num + 1, *firsts]))
        end = max(map(self.position, [iter_num, *lasts])) + 1
        ranges = self._find_change(iter_num).ranges
        skipped = None
        if mode == "repeat":
            self._change(OrderChange(iter_num + 1, self.position(good_iter_num + 1), ranges))
        elif first < end:
            skipped = SkippedRange(first, end, "rollback")
            self._change(OrderChange(iter_num + 1, end, _separate([*ranges, skipped])))
        return DataAfterRollback(mode, self.position(iter_num + 1), skipped)

    def state(self) -> list[Any]:
        """Return the order as JSON values, for a checkpoint."""
        return [
            [each.iter_num, each.position, [list(part) for part in each.ranges]] for each in self._changes
        ]

    def load_state(self, state: Iterable[Any]) -> None:
        """Restore the order saved by `state`."""
        self._changes = [
            OrderChange(iter_num, position, tuple(SkippedRange(*part) for part in ranges))
            for iter_num, position, ranges in state
        ]

    def _find_change(self, iter_num: int) -> OrderChange:
        return next(each for each in reversed(self._changes) if each.iter_num <= max(0, iter_num))

    def _next_position(self, iter_num: int) -> int:
        """Return the first position that was not read before an iteration."""
        change = self._find_change(iter_num)
        return change.position if change.iter_num == iter_num else self.position(iter_num - 1) + 1

    def _change(self, change: OrderChange) -> None:
        self._changes = [each for each in self._changes if each.iter_num < change.iter_num] + [change]


def _separate(ranges: Iterable[SkippedRange]) -> tuple[SkippedRange, ...]:
    """Return the ranges in order, without overlaps. Touching ranges of one cause are joined."""
    separate: list[SkippedRange] = []
    for each in sorted(ranges):
        last = separate[-1] if separate else None
        if last is not None and each.first <= last.end and each.by == last.by:
            separate[-1] = last._replace(end=max(last.end, each.end))
        elif last is None or each.end > last.end:
            separate.append(each if last is None else each._replace(first=max(each.first, last.end)))
    return tuple(separate)
