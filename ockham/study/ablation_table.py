"""Table of an ablation: losses at equal iterations and at equal compute, paired by seed, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ockham.replay.trajectory import count_savings
from ockham.savings import ForwardCosts
from ockham.study.arms import EQUAL_COMPUTE_ARM
from ockham.study.run_data import RunData
from ockham.study.student_t import mean_interval


class AblationRow(NamedTuple):
    """One arm.

    Losses are in nats/token. `_pm` is half the width of the 95 % interval over seeds, empty for one seed.

    `loss` is the loss at the end of the run. `delta_vs_none` and `delta_vs_equal_compute` are its differences
    to the arms `none` and `none-equal-compute`, paired by seed. `compute` is in forwards, relative to
    updating every batch. `loss_at_equal_compute` is interpolated at the compute of the cheapest arm. A longer
    schedule has not ended there, so compare gate and random skipping with `none-equal-compute`.
    """

    arm: str
    seeds: int
    update_rate: float | None
    compute: float | None
    loss: float | None
    loss_pm: float | None
    delta_vs_none: float | None
    delta_vs_none_pm: float | None
    delta_vs_equal_compute: float | None
    delta_vs_equal_compute_pm: float | None
    loss_at_equal_compute: float | None
    loss_at_equal_compute_pm: float | None


def build_table(found: Mapping[str, Sequence[RunData]]) -> list[AblationRow]:
    """Return the rows in the order of the arms."""
    every = [seen for runs in found.values() for seen in runs]
    costs = count_savings([leg for seen in every for leg in seen.legs]).forward_costs()
    budget = None if costs is None else min(seen.compute_cost(costs) for seen in every)
    rows = []
    for arm, runs in found.items():
        losses = [_last(seen) for seen in runs]
        pairs = [
            _interval(_paired_differences(losses, found.get(rival, ()))) if arm != rival else (None, None)
            for rival in ("none", EQUAL_COMPUTE_ARM)
        ]
        equal, shares = list[float | None](), list[float]()
        if costs is not None and budget is not None:
            equal = [seen.loss_at_compute(budget, costs) for seen in runs]
            shares = [
                seen.compute_cost(costs) / _always_update_cost(found, i, seen, costs)
                for i, seen in enumerate(runs)
            ]
        rates = [seen.update_rate for seen in runs if seen.update_rate is not None]
        known = [loss for loss in equal if loss is not None]
        intervals = [
            *_interval(losses),
            *pairs[0],
            *pairs[1],
            *_interval(known if len(known) == len(runs) else []),
        ]
        rows.append(AblationRow(arm, len(runs), _mean(rates), _mean(shares), *intervals))
    return rows


def _always_update_cost(
    found: Mapping[str, Sequence[RunData]], at: int, seen: RunData, costs: ForwardCosts
) -> float:
    """Return the cost of updating every batch of the study, or of this run if there is no arm `none`."""
    rival = found["none"][at] if "none" in found else seen
    return len(rival.batches) * (1 + costs.backward) + len(rival.steps) * costs.optimizer


def _paired_differences(losses: Sequence[float], rivals: Sequence[RunData]) -> list[float]:
    return [loss - _last(rival) for loss, rival in zip(losses, rivals, strict=False)]


def _last(seen: RunData) -> float:
    return next(reversed(seen.losses.values()), math.nan)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean, and half the width of its 95 % interval. None without a value."""
    if not values:
        return None, None
    interval = mean_interval(values)
    return interval.mean, interval.half_width
