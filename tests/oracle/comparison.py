"""Comparison of two tables: the same rows, numbers equal up to rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

_RELATIVE = 1e-9


def assert_equal_rows(
    found: Iterable[Mapping[str, Any]], expected: Iterable[Mapping[str, Any]], *, ordered: bool = False
) -> int:
    """Compare the columns that *expected* has. Return the number of compared values."""
    expected = [dict(row) for row in expected]
    found = [dict(row) for row in found]
    assert len(found) == len(expected), (len(found), len(expected))
    if not expected:
        return 0
    columns = list(expected[0])
    assert set(columns) <= set(found[0]), (columns, list(found[0]))
    pairs = zip(_sorted(found, columns, ordered), _sorted(expected, columns, ordered), strict=True)
    for one, other in pairs:
        for name in columns:
            assert _is_equal(one[name], other[name]), (name, one, other)
    return len(columns) * len(expected)


def _sorted(rows: list[dict[str, Any]], columns: list[str], ordered: bool) -> list[dict[str, Any]]:
    if ordered:
        return rows
    return sorted(rows, key=lambda row: [_sort_key(row[name]) for name in columns])


def _sort_key(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value)


def _is_equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, int | float) and not isinstance(found, bool):
        return found == pytest.approx(expected, rel=_RELATIVE, abs=1e-12, nan_ok=True)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_is_equal, found, expected))
    return bool(found == expected)
