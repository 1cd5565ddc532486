"""Savings of a run, each figure marked measured, derived or assumed, with a floor of quality.

A skip saves backward and optimizer, never the forward: saved = (1 - update rate) b/(1 + b), less the cost of
the chain. Savings of a model below the floor do not count. Without a floor they are gross, and the report
states that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ockham.errors import BadInputError
from ockham.replay.trajectory import backward_over_forward
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
    b, rate = backward_over_forward(run.legs), run.update_rate
    skips = len(run.batches) - run.updates
    yield RoiRow("batches", len(run.batches), "1", "measured", "recorded contexts")
    yield RoiRow("updates", run.updates, "1", "measured", "verdicts as the chain left them")
    yield RoiRow("update_rate", rate, "ratio", "measured", "updates / finite batches")
    given = run.batches[-1].data["given"]
    tokens = math.prod(int(run.settings.get(name) or 0) for name in ("batch_size", "block_size"))
    if tokens and given.get("model_params"):
        flops = BACKWARD_FLOPS * given["model_params"] * tokens * skips
        yield RoiRow(
            "flops_saved", flops, "FLOP", "derived", "4 x parameters x tokens of the skipped batches"
        )
    if b is not None and rate is not None:
        yield from _times(run, b, rate)


def _times(run: RunData, b: float, rate: float) -> Iterator[RoiRow]:
    """Return the seconds saved, from the stage times of the run."""
    skips = len(run.batches) - run.updates
    totals = run.stage_seconds()
    spent = totals.get("backward", 0.0) + totals.get("optimizer", 0.0)
    forward, chain = totals.get("forward", 0.0), totals.get("chain", 0.0)
    gross = spent / run.updates * skips if run.updates else 0.0
    always = forward + spent + gross
    yield RoiRow("backward_over_forward", b, "ratio", "measured", "medians of the run's own stage times")
    yield RoiRow(
        "saved_at_most",
        (1 - rate) * b / (1 + b),
        "ratio",
        "derived",
        "(1 - update rate) b/(1 + b), never 1 - update rate",
    )
    yield RoiRow(
        "chain_seconds", chain, "s", "measured", "what deciding and recording cost the training thread"
    )
    yield RoiRow(
        "seconds_saved", gross - chain, "s", "derived", "skips x mean backward and optimizer, less the chain"
    )
    yield RoiRow(
        "compute_saved",
        (gross - chain) / always if always else None,
        "ratio",
        "derived",
        "seconds_saved / seconds of updating always",
    )
    yield RoiRow("device_hours_saved", (gross - chain) / 3600, "h", "derived", "seconds_saved on one device")


def _bytes(run: RunData, prices: Prices) -> Iterator[RoiRow]:
    size = run.batches[-1].data["given"].get("memory_footprint_mb", 0.0) * 1e6
    refused = len(run.evaluations) - run.accepted
    yield RoiRow("evaluations", len(run.evaluations), "1", "measured", "recorded contexts")
    yield RoiRow("accepted", run.accepted, "1", "measured", "verdicts of the memory")
    yield RoiRow(
        "bytes_saved",
        refused * size,
        "B",
        "assumed",
        "weights of the refused evaluations, had each been kept",
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
    ratio = backward_over_forward([*run.legs, *(baseline.legs if baseline else [])])
    if reached is not None and baseline is not None and ratio is not None:
        there = _reached(baseline, quality_floor)
        if there is not None:
            saved = 1 - run.compute_cost(ratio, reached) / baseline.compute_cost(ratio, there)
            yield RoiRow(
                "compute_saved_to_floor",
                saved,
                "ratio",
                "derived",
                f"compute up to the floor, compared with {baseline.run_id}; same b for both",
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
