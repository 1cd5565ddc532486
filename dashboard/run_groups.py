"""Groups of runs by policy, preset, data or tag, and their mean savings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ockham.errors import PolicyError
from ockham.policy import load_policy
from ockham.policy.yaml_loader import ALIASES, preset_names
from ockham.study.student_t import mean_interval

GROUPS = ("policy", "preset", "data", "tag")
NO_GROUP = "none"
SHARES = ("compute_saved_to_floor", "compute_saved_to_floor_low", "compute_saved_to_floor_high")
SUMS = ("device_hours_saved", "compute_money_saved")
Row = Mapping[str, Any]


@functools.cache
def preset_revisions() -> dict[str, str]:
    """Return revision -> name of the presets of this version that need no measured settings."""
    revisions = {}
    for name in set(preset_names()) - ALIASES.keys():
        with contextlib.suppress(PolicyError):
            revisions[load_policy(name).revision] = name
    return revisions


def run_groups(row: Row, group_by: str, tags: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the groups of a run. A run with several tags is in the group of each.

    Args:
        row: Row with `run_id`, `policy`, `policy_revision` and `data`.
        group_by: One of `GROUPS`. A changed preset is not a preset.
        tags: Run ID -> tags.

    """
    if group_by == "tag":
        return list(tags.get(row["run_id"], ())) or [NO_GROUP]
    if group_by == "preset":
        return [preset_revisions().get(row["policy_revision"], "own settings")]
    return [str(row[group_by] or NO_GROUP)]


def group_rows(rows: Sequence[Row], group_by: str, tags: Mapping[str, Sequence[str]]) -> dict[str, list[Row]]:
    """Return group -> rows, sorted by the name of the group."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for name in run_groups(row, group_by, tags):
            groups.setdefault(name, []).append(row)
    return dict(sorted(groups.items()))


def group_savings(groups: Mapping[str, Sequence[Row]], group_by: str) -> pa.Table:
    """Return the mean saving up to the quality floor of each group, with its 95 % interval over the runs.

    Args:
        groups: Group -> rows of the page query `workbench_savings`.
        group_by: Name of the first column.

    """
    counts = dict.fromkeys(("runs", "runs_that_count", "timing_noise"), pa.int64())
    numbers = dict.fromkeys((*SHARES, *SUMS), pa.float64())
    columns: dict[str, pa.DataType] = {group_by: pa.string(), **counts, **numbers}
    rows = [{group_by: name, **_summary(members)} for name, members in groups.items()]
    return pa.Table.from_pylist(rows, pa.schema(list(columns.items())))


def _summary(members: Sequence[Row]) -> dict[str, Any]:
    others = [row for row in members if row["verdict"] != "BASELINE"]
    saved = [row[SHARES[0]] for row in others if row[SHARES[0]] is not None]
    summary: dict[str, Any] = {
        "runs": len(others),
        "runs_that_count": len(saved),
        "timing_noise": sum(bool(row["timing_noise"]) for row in others),
    }
    for name in SUMS:
        known = [row[name] for row in others if row[name] is not None]
        summary[name] = sum(known) if known else None
    if saved:
        _, mean, half = mean_interval(saved)
        summary[SHARES[0]] = mean
        if half is not None:
            summary |= {SHARES[1]: mean - half, SHARES[2]: mean + half}
    return summary
