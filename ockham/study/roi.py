"""What a run saved, each figure marked measured, derived or assumed, against a floor of quality.

A skip saves backward and optimizer, never the forward: saved = (1 - update rate) b/(1 + b), less what the chain cost.
Savings of a model that is worse than asked for are none: without a floor they are gross, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ockham.errors import BadInputError
from ockham.replay.path import backward_over_forward
from ockham.study.seen import Seen

BACKWARD_FLOPS = 4  # per parameter and token; the forward takes 2 (Kaplan et al. 2020, C = 6ND)
Kind = Literal["measured", "derived", "assumed"]


class Row(NamedTuple):
    """One figure; `kind` says how far it can be trusted, `how` where it comes from."""

    figure: str
    value: float | int | str | None
    unit: str
    kind: Kind
    how: str


class Prices(NamedTuple):
    """What people say that things cost, in any one currency."""

    hour: float | None = None
    gigabyte: float | None = None


def roi(
    run: Seen, prices: Prices, floor: float | None = None, rival: Seen | None = None, tolerance: float = 0.01
) -> list[Row]:
    """Rows, in the order of the argument: what was done, saved, and whether the quality was there.

    Args:
        run: the run that skipped.
        prices: per device hour and per GB kept.
        floor: validation loss that the model must reach, nats/token.
        rival: a run that updated (nearly) always; its best loss + `tolerance` is the floor where none is given.
        tolerance: nats/token.

    Raises:
        BadInputError: if a price is negative or no number.

    """
    for name, price in zip(prices._fields, prices, strict=True):
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise BadInputError(f"the price per {name} must be a number >= 0, got {price!r}")
    told: tuple[Kind, str] = ("assumed", "asked for")
    if floor is None and rival is not None and rival.losses:
        told = "measured", f"best of {rival.run_id} + tolerance"
        floor = min(rival.losses.values()) + tolerance
    rows = [*_compute(run), *_bytes(run, prices)]
    return [*rows, *_money(rows, prices), *_quality(run, floor, rival, told)]


def _compute(run: Seen) -> Iterator[Row]:
    b, rate = backward_over_forward(run.legs), run.update_rate
    skips = len(run.batches) - run.updates
    yield Row("batches", len(run.batches), "1", "measured", "recorded contexts")
    yield Row("updates", run.updates, "1", "measured", "verdicts as the chain left them")
    yield Row("update_rate", rate, "ratio", "measured", "updates / finite batches")
    given = run.batches[-1].data["given"]
    tokens = math.prod(int(run.settings.get(name) or 0) for name in ("batch_size", "block_size"))
    if tokens and given.get("model_params"):
        flops = BACKWARD_FLOPS * given["model_params"] * tokens * skips
        yield Row("flops_saved", flops, "FLOP", "derived", "4 x parameters x tokens of the skipped batches")
    if b is None or rate is None:
        return
    totals = run.stage_seconds()
    spent = totals.get("backward", 0.0) + totals.get("optimizer", 0.0)
    forward, chain = totals.get("forward", 0.0), totals.get("chain", 0.0)
    gross = spent / run.updates * skips if run.updates else 0.0
    always = forward + spent + gross
    yield Row("backward_over_forward", b, "ratio", "measured", "medians of the run's own stage times")
    yield Row(
        "saved_at_most",
        (1 - rate) * b / (1 + b),
        "ratio",
        "derived",
        "(1 - update rate) b/(1 + b), never 1 - update rate",
    )
    yield Row("chain_seconds", chain, "s", "measured", "what deciding and recording cost the training thread")
    yield Row(
        "seconds_saved", gross - chain, "s", "derived", "skips x mean backward and optimizer, less the chain"
    )
    yield Row(
        "compute_saved",
        (gross - chain) / always if always else None,
        "ratio",
        "derived",
        "seconds_saved / seconds of updating always",
    )
    yield Row("device_hours_saved", (gross - chain) / 3600, "h", "derived", "seconds_saved on one device")


def _bytes(run: Seen, prices: Prices) -> Iterator[Row]:
    size = run.batches[-1].data["given"].get("memory_footprint_mb", 0.0) * 1e6
    refused = len(run.evaluations) - run.accepted
    yield Row("evaluations", len(run.evaluations), "1", "measured", "recorded contexts")
    yield Row("accepted", run.accepted, "1", "measured", "verdicts of the memory")
    yield Row(
        "bytes_saved",
        refused * size,
        "B",
        "assumed",
        "weights of the refused evaluations, had each been kept",
    )
    if prices.gigabyte is not None:
        yield Row(
            "storage_saved",
            refused * size / 1e9 * prices.gigabyte,
            "money",
            "assumed",
            f"bytes_saved at {prices.gigabyte:g} per GB",
        )


def _money(rows: list[Row], prices: Prices) -> Iterator[Row]:
    hours = next((row.value for row in rows if row.figure == "device_hours_saved"), None)
    if prices.hour is not None and isinstance(hours, float):
        yield Row(
            "compute_money_saved",
            hours * prices.hour,
            "money",
            "assumed",
            f"device_hours_saved at {prices.hour:g} per hour",
        )


def _quality(run: Seen, floor: float | None, rival: Seen | None, told: tuple[Kind, str]) -> Iterator[Row]:
    best = min(run.losses.values(), default=None)
    yield Row("best_val_loss", best, "nats/token", "measured", "evaluations")
    if floor is None:
        yield Row(
            "verdict",
            "GROSS",
            "",
            "assumed",
            "no --floor and no --against: nobody said how good the model must be",
        )
        return
    reached = _reached(run, floor)
    yield Row("quality_floor", floor, "nats/token", *told)
    yield Row("reached_at", reached, "iteration", "measured", "first evaluation at or below the floor")
    ratio = backward_over_forward([*run.legs, *(rival.legs if rival else [])])
    if reached is not None and rival is not None and ratio is not None:
        there = _reached(rival, floor)
        if there is not None:
            saved = 1 - run.compute(ratio, reached) / rival.compute(ratio, there)
            yield Row(
                "compute_saved_to_floor",
                saved,
                "ratio",
                "derived",
                f"compute up to the floor, beside {rival.run_id}; one b for both",
            )
            verdict = "SAVED" if saved > 0 else "LOST"
            yield Row("verdict", verdict, "", "derived", "compute that it took to be as good")
            return
    verdict = "NOTHING_SAVED" if reached is None else "FLOOR_REACHED"
    yield Row(
        "verdict",
        verdict,
        "",
        "derived",
        "savings of a model that is not good enough are none"
        if reached is None
        else "the figures above count",
    )


def _reached(run: Seen, floor: float) -> int | None:
    return next((at for at, loss in run.losses.items() if loss <= floor), None)
