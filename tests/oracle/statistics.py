"""Medians, quantiles and groups in plain Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable
from typing import Any


def group(items: Iterable[Any], key: Callable[[Any], Hashable]) -> dict[Any, list[Any]]:
    """Return the items by key, in their order."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None


def mean(values: Iterable[float]) -> float | None:
    present = list(values)
    return math.fsum(present) / len(present) if present else None


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the continuous quantile: linear between the two nearest values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def smallest(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def bin_width(low: int, high: int, bins: int) -> int:
    """Return the width of at most *bins* bins from *low* to *high*."""
    return max(1, math.ceil((high - low + 1) / bins))
