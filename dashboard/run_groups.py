"""Savings of groups of runs. Only runs that reach the quality floor count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

COUNTS = "counts"


def group_savings(rows: Iterable[Mapping[str, Any]], group_by: str) -> pa.Table:
    """Return the mean saving of each group, with its 95 % interval.

    The estimates of runs are independent, so the half widths of their intervals are added in squares. Groups
    without a run that counts have no saving.

    Args:
        rows: Rows of the page query `workbench_equal`.
        group_by: Column that contains the group.

    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row[group_by] or "none"), []).append(row)
    counts = dict.fromkeys(("runs", "runs_that_count"), pa.int64())
    shares = dict.fromkeys(("compute_saved", "compute_saved_low", "compute_saved_high"), pa.float64())
    columns: dict[str, pa.DataType] = {group_by: pa.string(), **counts, **shares}
    return pa.Table.from_pylist(
        [{group_by: name, **_summary(members)} for name, members in sorted(groups.items())],
        pa.schema([pa.field(name, kind) for name, kind in columns.items()]),
    )


def _summary(members: list[Mapping[str, Any]]) -> dict[str, Any]:
    counted = [row for row in members if row["savings"] == COUNTS]
    summary: dict[str, Any] = {"runs": len(members), "runs_that_count": len(counted)}
    if not counted:
        return summary
    mean = sum(row["compute_saved"] for row in counted) / len(counted)
    summary["compute_saved"] = mean
    for name, sign in (("compute_saved_low", -1), ("compute_saved_high", 1)):
        if all(row[name] is not None for row in counted):
            width = math.sqrt(sum((row[name] - row["compute_saved"]) ** 2 for row in counted))
            summary[name] = min(1.0, max(0.0, mean + sign * width / len(counted)))
    return summary
