"""Savings of a run, each figure marked measured, derived or assumed, with a floor of quality.

A skip saves backward and optimizer, never the forward (`ockham.savings`). Savings of a model below the floor
do not count. Without a floor they are gross, and the report states that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ockham.errors import BadInputError
from ockham.replay.trajectory import count_savings
from ockham.savings import SAVINGS_REASONS, SavingsCounter
from ockham.study.run_data import RunData

# Per parameter and token; the forward takes 2 (Kaplan et al. 2020, C = 6ND).
BACKWARD_FLOPS = 4
Kind = Literal["measured", "derived", "assumed"]


class RoiRow(NamedTuple):
    """One figure. `kind` is its certainty, `derivation` its origin."""

    figure: str
    value: float | int | str | None
    unit: str
    kind: Kind
    derivation: str


class Prices(NamedTuple):
    """Prices in one currency."""

    hour: float | None = None
    gigabyte: float | None = None


def roi(
    run: RunData,
    prices: Prices,
    quality_floor: float | None = None,
    baseline: RunData | None = None,
    tolerance: float = 0.01,
) -> list[RoiRow]:
    """Return rows: work done, savings, and whether the quality floor was reached.

    Args:
        run: Run that skipped batches.
        prices: Price per device hour and per stored GB.
        quality_floor: Validation loss that the model must reach, in nats/token.
        baseline: A run that updated (nearly) every batch. Its best loss plus `tolerance` is the default
            floor.
        tolerance: Tolerance in nats/token.

    Raises:
        BadInputError: If a price is negative or not a number.

    """
    for name, price in zip(prices._fields, prices, strict=True):
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise BadInputError(f"the price per {name} must be a number >= 0, got {price!r}")
    floor_source: tuple[Kind, str] = ("assumed", "asked for")
    if quality_floor is None and baseline is not None and baseline.losses:
        floor_source = "measured", f"best of {baseline.run_id} + tolerance"
        quality_floor = min(baseline.losses.values()) + tolerance
    rows = [*_compute(run), *_bytes(run, prices)]
    return [*rows, *_money(rows, prices), *_quality(run, quality_floor, baseline, floor_source)]


def _compute(run: RunData) -> Iterator[RoiRow]:
    batches, updated_batches, steps = len(run.batches), run.updated_batches, run.optimizer_steps
    yield RoiRow("batches", batches, "1", "measured", "micro-batches of rank 0, all attempts")
    yield RoiRow("updated_batches", updated_batches, "1", "measured", "finite and allowed by the chain")
    yield RoiRow("skipped_batches", batches - updated_batches, "1", "measured", "all other micro-batches")
    yield RoiRow("optimizer_steps", steps, "1", "measured", "iterations in which the optimizer stepped")
    yield RoiRow("skipped_steps", len(run.steps) - steps, "1", "measured", "all other iterations")
    yield RoiRow("update_rate", run.update_rate, "ratio", "measured", "updated_batches / finite batches")
    given = run.batches[-1].data["given"]
    tokens = math.prod(int(run.settings.get(name) or 0) for name in ("batch_size", "block_size"))
    if tokens and given.get("model_params"):
        counter = run.savings_counter
        skips = (counter.batches - counter.updated_batches) * counter.world_size
        flops = BACKWARD_FLOPS * given["model_params"] * tokens * skips
        yield RoiRow(
            "flops_saved", flops, "FLOP", "derived", "4 x parameters x tokens of the skipped micro-batches"
        )
    yield from _times(run.savings_counter)


def _times(counter: SavingsCounter) -> Iterator[RoiRow]:
    """Return the estimate of the saved compute, from the stage times of the run."""
    savings = counter.estimate()
    if savings.backward_over_forward is not None:
        ratio = savings.backward_over_forward
        yield RoiRow(
            "backward_over_forward", ratio, "ratio", "measured", "means of the run's own stage times"
        )
    reason = savings.compute_saved_reason
    how = "estimate: mean time of the measured x number of the skipped, / time of always updating"
    if reason is not None:
        yield RoiRow("compute_saved_reason", reason, "", "derived", SAVINGS_REASONS[reason])
        how = "see compute_saved_reason"
    yield RoiRow("compute_saved", savings.compute_saved, "ratio", "derived", how)
    for end, value in (("low", savings.compute_saved_low), ("high", savings.compute_saved_high)):
        yield RoiRow(f"compute_saved_{end}", value, "ratio", "derived", f"{end} end of the 95 % interval")
    seconds, ranks = savings.seconds_saved, counter.world_size
    yield RoiRow("seconds_saved", seconds, "s", "derived", "of backward and optimizer, on one rank")
    hours = None if seconds is None else seconds * ranks / 3600
    yield RoiRow("device_hours_saved", hours, "h", "derived", f"seconds_saved x {ranks} (devices)")
    yield RoiRow(
        "chain_seconds",
        counter.stages["chain"].total,
        "s",
        "measured",
        "what deciding and recording cost the training thread; not subtracted",
    )
    yield RoiRow(
        "chain_share", savings.chain_share, "ratio", "derived", "chain_seconds / time of always updating"
    )


def _bytes(run: RunData, prices: Prices) -> Iterator[RoiRow]:
    size = run.batches[-1].data["given"].get("memory_footprint_mb", 0.0) * 1e6
    refused = run.refused
    yield RoiRow("evaluations", len(run.evaluations), "1", "measured", "recorded contexts")
    yield RoiRow("accepted", run.accepted, "1", "measured", "evaluations whose weights were accepted")
    yield RoiRow(
        "bytes_saved",
        refused * size,
        "B",
        "assumed",
        "weights of the evaluations that an acting memory refused, had each been kept",
    )
    if prices.gigabyte is not None:
        yield RoiRow(
            "storage_saved",
            refused * size / 1e9 * prices.gigabyte,
            "money",
            "assumed",
            f"bytes_saved at {prices.gigabyte:g} per GB",
        )


def _money(rows: list[RoiRow], prices: Prices) -> Iterator[RoiRow]:
    hours = next((row.value for row in rows if row.figure == "device_hours_saved"), None)
    if prices.hour is not None and isinstance(hours, float):
        yield RoiRow(
            "compute_money_saved",
            hours * prices.hour,
            "money",
            "assumed",
            f"device_hours_saved at {prices.hour:g} per hour",
        )


def _quality(
    run: RunData, quality_floor: float | None, baseline: RunData | None, floor_source: tuple[Kind, str]
) -> Iterator[RoiRow]:
    best = min(run.losses.values(), default=None)
    yield RoiRow("best_val_loss", best, "nats/token", "measured", "evaluations")
    if quality_floor is None:
        yield RoiRow(
            "verdict",
            "GROSS",
            "",
            "assumed",
            "no quality floor: pass --floor or --against",
        )
        return
    reached = _reached(run, quality_floor)
    yield RoiRow("quality_floor", quality_floor, "nats/token", *floor_source)
    yield RoiRow("reached_at", reached, "iteration", "measured", "first evaluation at or below the floor")
    costs = None if baseline is None else count_savings([*run.legs, *baseline.legs]).forward_costs()
    if reached is not None and baseline is not None and costs is not None:
        there = _reached(baseline, quality_floor)
        if there is not None:
            saved = 1 - run.compute_cost(costs, reached) / baseline.compute_cost(costs, there)
            yield RoiRow(
                "compute_saved_to_floor",
                saved,
                "ratio",
                "derived",
                f"compute up to the floor, compared with {baseline.run_id}; same times per stage for both",
            )
            verdict = "SAVED" if saved > 0 else "LOST"
            yield RoiRow("verdict", verdict, "", "derived", "compute that it took to be as good")
            return
    verdict = "NOTHING_SAVED" if reached is None else "FLOOR_REACHED"
    yield RoiRow(
        "verdict",
        verdict,
        "",
        "derived",
        "the model is worse than the floor, so nothing was saved"
        if reached is None
        else "the figures above count",
    )


def _reached(run: RunData, quality_floor: float) -> int | None:
    return next((at for at, loss in run.losses.items() if loss <= quality_floor), None)
