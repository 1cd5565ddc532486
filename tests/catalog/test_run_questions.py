"""Saved questions about whole runs and several runs, recomputed from the lines with plain Python."""

from __future__ import annotations

import datetime as dt
import math
import statistics

import pytest

from ockham.catalog.views import load_question, question_names
from ockham.errors import QueryError
from tests.helpers.row_comparison import assert_rows
from tests.helpers.varied_runs import is_updated, number

NEW_QUESTIONS = (
    "compare_by_tokens seed_intervals actions_by_phase skip_streaks learning_rates slowest_batches "
    "largest_gradients loss_by_verdict checkpoint_costs anchor_moves superseded_work rank_losses "
    "policies_in_force knob_conflicts throughput"
).split()


def losses_by_tokens(log):
    """Return tokens -> (iteration, loss) of the last evaluation after that number of tokens."""
    found = {}
    for data in log.counted("context.recorded"):
        tokens = data["given"].get("tokens_seen", 0)
        if data["hook"] == "on_evaluate" and tokens and math.isfinite(number(data["measured"]["val_loss"])):
            found[tokens] = (data["iter_num"], number(data["measured"]["val_loss"]))
    return found


@pytest.mark.parametrize("names", [("seed-1", "seed-2"), ("plain", "accumulated"), ("resumed", "plain")])
def test_compare_by_tokens_equals_log_lines(varied_catalog, plain_logs, names):
    """The loss of the second run is interpolated between its evaluations."""
    first, second = (losses_by_tokens(plain_logs[name]) for name in names)
    expected = []
    for tokens, (iter_num, loss) in sorted(first.items()):
        below = max((t for t in second if t <= tokens), default=None)
        above = min((t for t in second if t >= tokens), default=None)
        if below is None or above is None:
            continue
        other, end = second[below][1], second[above][1]
        if above > below:
            other += (end - other) * (tokens - below) / (above - below)
        expected.append(
            {
                "tokens": tokens,
                "iter_a": iter_num,
                "loss_a": loss,
                "loss_b": other,
                "difference": other - loss,
                "interpolated": above > below,
            }
        )
    rows = varied_catalog.ask("compare_by_tokens", run_a=names[0], run_b=names[1]).to_pylist()
    assert_rows(rows, expected)
    assert rows


def test_compare_by_tokens_of_missing_run_raises_query_error(varied_catalog):
    """A wrong run ID is not an empty result."""
    with pytest.raises(QueryError, match=r"'nope': run not found in .*; existing runs: accumulated"):
        varied_catalog.ask("compare_by_tokens", run_a="plain", run_b="nope")


def test_seed_intervals_equal_log_lines(varied_catalog, plain_logs):
    """Mean and 95 % interval of the three seeds; t(.975) with two degrees of freedom is 4.3027."""
    figures = {"accept_rate": [], "best_val_loss": [], "update_rate": [], "val_loss": []}
    for seed in (1, 2, 3):
        log = plain_logs[f"seed-{seed}"]
        losses = [number(e["val_loss"]) for e in log.counted("evaluation.recorded")]
        finite = [b for b in log.batches() if math.isfinite(number(b["given"]["task_loss"]))]
        accepted = log.decisions(lambda d: d["plugin"] == "memory" and d["action"] == "ACCEPT")
        figures["accept_rate"].append(len(accepted) / len(losses))
        figures["best_val_loss"].append(min(losses))
        figures["update_rate"].append(sum(map(is_updated, finite)) / len(finite))
        figures["val_loss"].append(losses[-1])
    rows = [row for row in varied_catalog.ask("seed_intervals").to_pylist() if row["max_iters"] == 30]
    assert [row["figure"] for row in rows] == list(figures)
    for row in rows:
        values = figures[row["figure"]]
        half = 4.302652729911275 * statistics.stdev(values) / math.sqrt(3)
        assert (row["runs"], row["seeds"]) == (3, 3)
        assert row["mean"] == pytest.approx(statistics.fmean(values))
        assert row["deviation"] == pytest.approx(statistics.stdev(values), abs=1e-12)
        assert row["low"] == pytest.approx(statistics.fmean(values) - half, rel=1e-4)
        assert row["high"] == pytest.approx(statistics.fmean(values) + half, rel=1e-4)


def test_seed_intervals_need_two_seeds_of_one_plan(varied_catalog):
    """Runs with other policies, lengths or only one seed are in no interval."""
    assert {row["max_iters"] for row in varied_catalog.ask("seed_intervals").to_pylist()} == {30}


def test_rank_losses_equal_log_lines(varied_catalog, plain_logs):
    """Each rank against the mean of all ranks. Runs of one rank have no row."""
    expected = []
    for rank in (0, 1):
        found = [
            (b["iter_num"], number(b["given"]["rank_loss"]), number(b["given"]["task_loss"]))
            for b in plain_logs["ranks"].all("context.recorded")
            if b["hook"] == "batch" and b["rank"] == rank
        ]
        apart = [(abs(loss - mean), -iter_num) for iter_num, loss, mean in found]
        expected.append(
            {
                "run_id": "ranks",
                "rank": rank,
                "batches": len(found),
                "nonfinite": 0,
                "mean_loss": statistics.fmean(item[1] for item in found),
                "mean_difference": statistics.fmean(item[1] - item[2] for item in found),
                "largest_difference": max(apart)[0],
                "largest_iter": -max(apart)[1],
            }
        )
    assert_rows(varied_catalog.ask("rank_losses").to_pylist(), expected)


def test_policies_in_force_equal_log_lines(varied_catalog, plain_logs):
    """One row for each attempt and policy, of the batches that count."""
    expected = []
    for run_id, log in plain_logs.items():
        names = {data["policy_revision"]: data["policy"] for data in log.all("policy.loaded")}
        times = {}
        for event in log.events:
            data = event["data"]
            time = dt.datetime.fromisoformat(event["time"]).replace(tzinfo=None)
            times[data["attempt"], data["rank"], data["sequence"]] = time
        groups = {}
        for batch in log.batches():
            groups.setdefault((batch["attempt"], batch["policy_revision"]), []).append(batch)
        for (attempt, revision), batches in sorted(groups.items()):
            finite = [b for b in batches if math.isfinite(number(b["given"]["task_loss"]))]
            moments = [times[attempt, 0, b["sequence"]] for b in batches]
            expected.append(
                {
                    "run_id": run_id,
                    "attempt": attempt,
                    "policy": names[revision],
                    "policy_revision": revision,
                    "from_iter": min(b["iter_num"] for b in batches),
                    "to_iter": max(b["iter_num"] for b in batches),
                    "batches": len(batches),
                    "update_rate": sum(map(is_updated, finite)) / len(finite),
                    "first_time": min(moments),
                    "last_time": max(moments),
                }
            )
    rows = varied_catalog.ask("policies_in_force").to_pylist()
    assert_rows(rows, expected)
    assert [row["policy"] for row in rows if row["run_id"] == "resumed"] == ["balanced", "tight"]


def test_trouble_equals_log_lines(varied_catalog, plain_logs):
    """Losses that are not finite, each micro-batch once."""
    expected = []
    for run_id, log in plain_logs.items():
        bad = [b for b in log.batches() if not math.isfinite(number(b["given"]["task_loss"]))]
        if bad:
            expected.append({"run_id": run_id, "kind": "not finite", "n": len(bad)})
    assert len(expected) == 2
    assert_rows(varied_catalog.ask("trouble").to_pylist(), expected)


def test_out_of_band_equals_log_lines(varied_catalog, plain_logs):
    """Windows of 100 iterations with at least 100 finite micro-batches, against the band of their policy."""
    expected = []
    for run_id, log in plain_logs.items():
        bands = {}
        for data in log.all("policy.loaded"):
            bands[data["policy_revision"]] = data["policy"]
        windows = {}
        for batch in log.batches():
            if math.isfinite(number(batch["given"]["task_loss"])):
                windows.setdefault((batch["policy_revision"], batch["iter_num"] // 100), []).append(batch)
        for (revision, window), batches in windows.items():
            rate = sum(map(is_updated, batches)) / len(batches)
            # The band of the preset balanced.
            if bands[revision] == "balanced" and len(batches) >= 100 and not 0.5 <= rate <= 0.7:
                expected.append((run_id, window * 100, rate, len(batches)))
    rows = varied_catalog.ask("out_of_band").to_pylist()
    assert [(r["run_id"], r["from_iter"], r["update_rate"], r["batches"]) for r in rows] == expected


def test_questions_that_analysts_missed_exist():
    """All fifteen, each with a text that ends its question."""
    assert set(NEW_QUESTIONS) <= set(question_names())
    assert len(NEW_QUESTIONS) == 15
    for name in question_names():
        question = load_question(name)
        assert "?" in question.question, name
        assert all(meaning for meaning in question.parameters.values()), name
