"""Comparison of the rows of a saved question with rows that a test computed."""

from __future__ import annotations

import math
from typing import Any

import pytest


def assert_rows(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare rows in order. Floats may differ in their last digits, and NaN equals NaN."""
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, float) and math.isfinite(value):
                assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), (name, row, wanted)
            else:
                assert row[name] == value or (row[name] != row[name] and value != value), (name, row, wanted)


def split_into_parts(items: list[Any], parts: int) -> list[list[Any]]:
    """Return consecutive parts whose lengths differ by at most one; the first ones are longer."""
    size, longer = divmod(len(items), parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + size + (part < longer))
    return [items[start:end] for start, end in zip(ends, ends[1:], strict=False) if end > start]
