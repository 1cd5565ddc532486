"""Saved questions about batches and steps, recomputed from the lines of the logs with plain Python."""

from __future__ import annotations

import datetime as dt
import math
import statistics

from tests.helpers.row_comparison import assert_rows, split_into_parts
from tests.helpers.varied_runs import is_updated, number

# Each test compares all runs, in order of their IDs.


def loss(batch):
    return number(batch["given"]["task_loss"])


def is_finite(batch):
    return math.isfinite(loss(batch))


def contributed(batch):
    return is_finite(batch) and is_updated(batch)


def place(batch):
    return (batch["iter_num"], batch["micro_step"])


def in_order(log):
    return sorted(log.batches(), key=place)


def test_update_rate_equals_log_lines(varied_catalog, plain_logs):
    """Twenty equal parts of the finite micro-batches."""
    expected = []
    for run_id, log in plain_logs.items():
        finite = [batch for batch in in_order(log) if is_finite(batch)]
        for part, batches in enumerate(split_into_parts(finite, 20), 1):
            expected.append(
                {
                    "run_id": run_id,
                    "part": part,
                    "from_iter": batches[0]["iter_num"],
                    "to_iter": batches[-1]["iter_num"],
                    "update_rate": sum(map(is_updated, batches)) / len(batches),
                    "batches": len(batches),
                }
            )
    assert_rows(varied_catalog.ask("update_rate").to_pylist(), expected)


def test_thresholds_equal_log_lines(varied_catalog, plain_logs):
    """The share of finite losses that reach each threshold, with and without a gate."""
    expected = []
    for run_id, log in plain_logs.items():
        losses = [loss(batch) for batch in log.batches() if is_finite(batch)]
        for tenths in range(10, 51):
            rate = sum(value >= tenths / 10 for value in losses) / len(losses)
            row = {"run_id": run_id, "threshold": tenths / 10, "update_rate": rate, "batches": len(losses)}
            expected.append(row)
    rows = varied_catalog.ask("thresholds").to_pylist()
    assert_rows([{**row, "threshold": float(row["threshold"])} for row in rows], expected)


def test_stage_times_equal_log_lines(varied_catalog, plain_logs):
    """Median, 99th percentile and sum of each stage."""
    expected = []
    for run_id, log in plain_logs.items():
        stages = {}
        for batch in log.batches():
            for stage, seconds in batch["seconds"].items():
                stages.setdefault(stage, []).append(seconds)
        for stage, seconds in sorted(stages.items(), key=lambda item: -sum(item[1])):
            ranked, at = sorted(seconds), 0.99 * (len(seconds) - 1)
            low, high = ranked[math.floor(at)], ranked[math.ceil(at)]
            expected.append(
                {
                    "run_id": run_id,
                    "stage": stage,
                    "batches": len(seconds),
                    "median_ms": statistics.median(seconds) * 1000,
                    "p99_ms": (low + (high - low) * (at - math.floor(at))) * 1000,
                    "total_seconds": math.fsum(seconds),
                }
            )
    assert_rows(varied_catalog.ask("stage_times").to_pylist(), expected)


def test_skip_streaks_equal_log_lines(varied_catalog, plain_logs):
    """The longest streaks of micro-batches without an update."""
    expected = []
    for run_id, log in plain_logs.items():
        streaks, previous = [], True
        for batch in in_order(log):
            if not contributed(batch):
                if previous:
                    streaks.append([])
                streaks[-1].append(batch)
            previous = contributed(batch)
        streaks.sort(key=lambda streak: (-len(streak), *place(streak[0])))
        for rank, streak in enumerate(streaks[:20], 1):
            losses = [loss(batch) for batch in streak if is_finite(batch)]
            expected.append(
                {
                    "run_id": run_id,
                    "place": rank,
                    "batches": len(streak),
                    "from_iter": streak[0]["iter_num"],
                    "from_micro_step": streak[0]["micro_step"],
                    "to_iter": streak[-1]["iter_num"],
                    "mean_loss": statistics.fmean(losses) if losses else None,
                    "nonfinite_batches": len(streak) - len(losses),
                }
            )
    rows = varied_catalog.ask("skip_streaks").to_pylist()
    assert sum(row["nonfinite_batches"] for row in rows) > 0
    assert_rows(rows, expected)


def test_learning_rates_equal_log_lines(varied_catalog, plain_logs):
    """Mean rates and factors of twenty equal parts of the steps that the optimizer took."""
    expected = []
    for run_id, log in plain_logs.items():
        steps = [
            # A line leaves out the default value.
            (
                batch["iter_num"],
                batch["given"].get("learning_rate", 1e-3),
                batch["applied"]["learning_rates"][0],
            )
            for batch in in_order(log)
            if batch["applied"]["updated"] and batch["applied"].get("learning_rates")
        ]
        for part, members in enumerate(split_into_parts(steps, 20), 1):
            factors = [trained / scheduled for _, scheduled, trained in members]
            expected.append(
                {
                    "run_id": run_id,
                    "part": part,
                    "from_iter": members[0][0],
                    "to_iter": members[-1][0],
                    "steps": len(members),
                    "scheduled": statistics.fmean(step[1] for step in members),
                    "trained": statistics.fmean(step[2] for step in members),
                    "least_factor": min(factors),
                    "median_factor": statistics.median(factors),
                    "greatest_factor": max(factors),
                }
            )
    rows = varied_catalog.ask("learning_rates").to_pylist()
    assert_rows(rows, expected)
    assert min(row["least_factor"] for row in rows) < 1 < max(row["greatest_factor"] for row in rows)


def test_slowest_batches_equal_log_lines(varied_catalog, plain_logs):
    """The sum of the stages of each micro-batch."""
    expected = []
    for run_id, log in plain_logs.items():
        batches = log.batches()
        totals = [math.fsum(batch["seconds"].values()) for batch in batches]
        ranked = sorted(zip(totals, batches, strict=True), key=lambda item: (-item[0], *place(item[1])))
        for rank, (total, batch) in enumerate(ranked[:20], 1):
            stage, seconds = max(batch["seconds"].items(), key=lambda item: item[1])
            expected.append(
                {
                    "run_id": run_id,
                    "place": rank,
                    "attempt": batch["attempt"],
                    "iter_num": batch["iter_num"],
                    "micro_step": batch["micro_step"],
                    "seconds": total,
                    "times_median": total / statistics.median(totals),
                    "slowest_stage": stage,
                    "stage_seconds": seconds,
                }
            )
    assert_rows(varied_catalog.ask("slowest_batches").to_pylist(), expected)


def test_largest_gradients_equal_log_lines(varied_catalog, plain_logs):
    """A norm is listed once, in the batch that measured it, and infinite norms are only counted."""
    expected = []
    for run_id, log in plain_logs.items():
        measured = [
            (number(b["measured"]["grad_norm"]), b) for b in log.batches() if "grad_norm" in b["measured"]
        ]
        finite = [item for item in measured if math.isfinite(item[0])]
        for rank, (norm, batch) in enumerate(sorted(finite, key=lambda i: (-i[0], place(i[1])))[:20], 1):
            expected.append(
                {
                    "run_id": run_id,
                    "place": rank,
                    "iter_num": batch["iter_num"],
                    "micro_step": batch["micro_step"],
                    "grad_norm": norm,
                    "grad_clip": number(
                        batch["left"].get("grad_clip", batch["given"].get("grad_clip", "Infinity"))
                    ),
                    "clipped_grad_norm": batch["applied"].get("clipped_grad_norm"),
                    "measured": len(measured),
                    "nonfinite": len(measured) - len(finite),
                }
            )
    rows = varied_catalog.ask("largest_gradients").to_pylist()
    assert_rows(rows, expected)
    assert any(row["nonfinite"] for row in rows)


def test_loss_by_verdict_equals_log_lines(varied_catalog, plain_logs):
    """Losses that are not finite are counted, and change no mean."""
    expected = []
    for run_id, log in plain_logs.items():
        for updated in (False, True):
            batches = [batch for batch in log.batches() if is_updated(batch) == updated]
            losses = [loss(batch) for batch in batches if is_finite(batch)]
            if batches:
                expected.append(
                    {
                        "run_id": run_id,
                        "updated": updated,
                        "batches": len(batches),
                        "nonfinite": len(batches) - len(losses),
                        "mean_loss": statistics.fmean(losses),
                        "median_loss": statistics.median(losses),
                        "lowest_loss": min(losses),
                        "highest_loss": max(losses),
                    }
                )
    assert_rows(varied_catalog.ask("loss_by_verdict").to_pylist(), expected)


def test_throughput_equals_log_lines(varied_catalog, plain_logs):
    """Batches and tokens between the times of consecutive batches of one attempt."""
    expected = []
    for run_id, log in plain_logs.items():
        times = {}
        for event in log.events:
            data = event["data"]
            times[data["attempt"], data["rank"], data["sequence"]] = dt.datetime.fromisoformat(event["time"])
        intervals, previous = [], None
        for batch in in_order(log):
            if previous is not None and previous["attempt"] == batch["attempt"]:
                start, end = (times[b["attempt"], 0, b["sequence"]] for b in (previous, batch))
                tokens = batch["given"].get("tokens_seen", 0) - previous["given"].get("tokens_seen", 0)
                intervals.append((batch["iter_num"], (end - start).total_seconds(), tokens))
            previous = batch
        for part, members in enumerate(split_into_parts(intervals, 20), 1):
            seconds = sum(item[1] for item in members)
            expected.append(
                {
                    "run_id": run_id,
                    "part": part,
                    "from_iter": members[0][0],
                    "to_iter": members[-1][0],
                    "batches": len(members),
                    "seconds": seconds,
                    "batches_per_second": len(members) / seconds,
                    "tokens_per_second": sum(item[2] for item in members) / seconds,
                }
            )
    rows = varied_catalog.ask("throughput").to_pylist()
    speeds = ("seconds", "batches_per_second", "tokens_per_second")
    assert_rows(*([{**row, **dict.fromkeys(speeds, 0)} for row in each] for each in (rows, expected)))
    # Seconds since 1970 as a double have a precision of a quarter of a microsecond.
    for row, wanted in zip(rows, expected, strict=True):
        assert all(math.isclose(row[name], wanted[name], rel_tol=0.01) for name in speeds)


def test_limiter_storm_of_accumulated_steps_is_listed(varied_catalog, plain_logs):
    """Clipping happens once in a step of four micro-batches, and its share is that of the steps."""
    rows = {
        (row["run_id"], row["reason_code"]): row
        for row in varied_catalog.ask("limiter_storms").to_pylist()
        if row["from_iter"] == 0
    }
    for run_id in ("stormy", "stormy-four"):
        row = rows[run_id, "GRADIENT_CLIPPED"]
        clipped = plain_logs[run_id].decisions(lambda item: item["reason_code"] == "GRADIENT_CLIPPED")
        in_range = [item for item in clipped if item["iter_num"] < 100]
        assert (row["occasions"], row["hits"], row["share"]) == (100, len(in_range), len(in_range) / 100)
        # A share of micro-batches would be at most a quarter.
        assert row["share"] > 0.5
    assert rows["stormy-four", "LEARNING_RATE_CAPPED"]["hits"] > 100
    assert rows["stormy-four", "LEARNING_RATE_CAPPED"]["occasions"] == 400
