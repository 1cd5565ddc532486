"""Internal views and figures of a run, recomputed from the lines of its log with `json`."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from ockham.catalog import Catalog
from ockham.plugin import OccamPlugin
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from ockham.study.roi import Prices, roi
from ockham.study.run_data import load_run_data
from tests.helpers.figure_runs import RUN_IDS, counted_contexts, counted_events, make_figure_runs
from tests.helpers.plugins import OnGradients

GAUGES = ("complexity_cost", "drift_raw", "drift_sq", "grad_norm", "val_loss", "kl_to_anchor")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_figure_runs(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def catalog(runs):
    return Catalog(runs)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_acting_decisions_are_counted_lines_without_shadow(runs, catalog, run_id):
    """The view has the decisions of rank 0 that no resume superseded and no shadow plugin made."""
    lines = counted_events(runs, run_id, "decision.made")
    rows = catalog.rows("select decision_id from acting_decisions where run_id = $run", {"run": run_id})
    assert {row["decision_id"] for row in rows} == {d["id"] for d in lines if not d["shadow"]}
    assert len(rows) < len(lines) if run_id == "shadow" else len(rows) == len(lines)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_current_batches_are_the_micro_batches_of_the_lines(runs, catalog, run_id):
    """One row per micro-batch. Finite, contributed and ends_step follow from the line."""
    lines = counted_contexts(runs, run_id)
    sql = "select event_id, finite, contributed, ends_step from current_batches where run_id = $run"
    expected = {
        data["id"]: (
            math.isfinite(data["loss"]),
            math.isfinite(data["loss"]) and data["updated"],
            data["micro_step"] == data["given"].get("micro_steps", 1) - 1,
        )
        for data in lines
    }
    rows = [tuple(row.values()) for row in catalog.rows(sql, {"run": run_id})]
    assert {row[0]: row[1:] for row in rows} == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_current_steps_have_one_row_per_iteration(runs, catalog, run_id):
    """A step was taken if a micro-batch measured it. Its micro-batches add up."""
    expected = {}
    for data in counted_contexts(runs, run_id):
        updated = math.isfinite(data["loss"]) and data["updated"]
        batches, updates, stepped = expected.get(data["iter_num"], (0, 0, False))
        expected[data["iter_num"]] = (
            batches + 1,
            updates + updated,
            stepped or bool(data["applied"]["updated"]),
        )
    sql = (
        "select iter_num, batches, updated_batches, stepped from current_steps where run_id = $run"
        " and batches = updated_batches + skipped_batches"
    )
    rows = [tuple(row.values()) for row in catalog.rows(sql, {"run": run_id})]
    assert {row[0]: row[1:] for row in rows} == expected


@pytest.mark.parametrize("run_id", RUN_IDS)
@pytest.mark.parametrize("gauge", GAUGES)
def test_measured_gauges_have_a_value_only_where_a_line_measured_it(runs, catalog, run_id, gauge):
    """A value that is carried over into later rows is not in the view a second time."""
    lines = [data for hook in ("batch", "on_evaluate") for data in counted_contexts(runs, run_id, hook)]
    sql = f"select sequence, attempt, {gauge} as value from measured_gauges where run_id = $run"
    rows = catalog.rows(sql + f" and {gauge} is not null", {"run": run_id})
    expected = {
        (data["attempt"], data["sequence"]): data["measured"][gauge]
        for data in lines
        if data["measured"].get(gauge) is not None
    }
    assert {(row["attempt"], row["sequence"]): row["value"] for row in rows} == expected


def is_updated(data):
    return math.isfinite(data["loss"]) and data["updated"]


def expected_counts(runs, run_id):
    """Return the counts of run_summary from the lines."""
    batches = counted_contexts(runs, run_id)
    evaluations = counted_contexts(runs, run_id, "on_evaluate")
    finite = sum(math.isfinite(data["loss"]) for data in batches)
    updated = sum(map(is_updated, batches))
    stepped = {data["iter_num"] for data in batches if data["applied"]["updated"]}
    decisions = counted_events(runs, run_id, "decision.made")
    accepted = sum(data["left"].get("accepted", False) for data in evaluations)
    losses = [float(data["val_loss"]) for data in counted_events(runs, run_id, "evaluation.recorded")]
    return {
        "batches": len(batches),
        "finite_batches": finite,
        "updated_batches": updated,
        "skipped_batches": len(batches) - updated,
        "optimizer_steps": len(stepped),
        "skipped_steps": len({data["iter_num"] for data in batches} - stepped),
        "update_rate": updated / finite,
        "evaluations": len(evaluations),
        "accepted": accepted,
        "accept_rate": accepted / len(losses),
        "val_loss": losses[-1],
        "best_val_loss": min(losses),
        "nonfinite": len(batches) - finite,
        "last_iter": max(data["iter_num"] for data in batches),
        "decisions": sum(not data["shadow"] for data in decisions),
        "shadow_decisions": sum(data["shadow"] for data in decisions),
        "decisions_all_ranks": len(decisions) * (2 if run_id == "ranks" else 1),
        "unsigned_events": 0,
    }


def expected_savings(runs, run_id):
    """Return the estimate, its interval and b from the lines."""
    batches = counted_contexts(runs, run_id)
    times = {
        name: [float(data["seconds"][name]) for data in batches if name in data["seconds"]]
        for name in ("forward", "backward", "optimizer")
    }
    skipped = sum(not data["updated"] for data in batches)
    steps = {data["iter_num"] for data in batches}
    skipped_steps = len(steps - {data["iter_num"] for data in batches if data["updated"]})
    spent = sum(map(sum, times.values()))
    parts = ((skipped, times["backward"]), (skipped_steps, times["optimizer"]))
    saved = sum(number * statistics.fmean(measured) for number, measured in parts)
    variance = sum(
        statistics.variance(measured) * (number + number**2 / len(measured)) for number, measured in parts
    )
    half = 1.96 * math.sqrt(variance) * spent / (spent + saved) ** 2
    share = saved / (spent + saved)
    per_batch = statistics.fmean(times["optimizer"]) * len(steps) / len(batches)
    return {
        "backward_over_forward": (statistics.fmean(times["backward"]) + per_batch)
        / statistics.fmean(times["forward"]),
        "compute_saved": share,
        "compute_saved_low": max(0.0, share - half),
        "compute_saved_high": share + half,
        "compute_saved_reason": None,
    }


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_summary_equals_the_lines(runs, catalog, run_id):
    """Every count, rate and loss, and the savings."""
    [row] = catalog.rows("select * from run_summary where run_id = $run", {"run": run_id})
    counts = expected_counts(runs, run_id)
    assert {name: row[name] for name in counts} == pytest.approx(counts)
    savings = expected_savings(runs, run_id)
    assert {name: row[name] for name in savings} == pytest.approx(savings)
    assert set(row) == {*counts, *savings, "run_id", "state", "policy", "occam_quotient"}


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_finished_roi_and_savings_have_the_numbers_of_run_summary(runs, catalog, run_id):
    """One figure has one name and one value, wherever it is shown."""
    [row] = catalog.rows("select * from run_summary where run_id = $run", {"run": run_id})
    folder = RunFolder(runs, run_id)
    last = max(attempt for attempt, rank in folder.logs() if rank == 0)
    finished = json.loads(folder.segments(last, 0)[-1].read_bytes().splitlines()[-1])["data"]
    shared = set(row) & set(finished)
    assert {"updated_batches", "skipped_steps", "compute_saved_high"} <= shared
    assert {name: finished[name] for name in shared} == pytest.approx({name: row[name] for name in shared})
    figures = {each.figure: each.value for each in roi(load_run_data(runs, run_id), Prices())}
    shared = set(row) & set(figures)
    assert {"updated_batches", "optimizer_steps", "compute_saved_low"} <= shared
    assert {name: figures[name] for name in shared} == pytest.approx({name: row[name] for name in shared})
    [answer] = [each for each in catalog.ask("savings").to_pylist() if each["run_id"] == run_id]
    shared = set(row) & set(answer)
    assert {name: answer[name] for name in shared} == {name: row[name] for name in shared}


def test_shadow_plugins_save_and_move_nothing(runs, catalog):
    """The questions about what happened have no row of them; `shadow_savings` is about them."""
    [row] = [each for each in catalog.ask("savings").to_pylist() if each["run_id"] == "shadow"]
    assert (row["skipped"], row["compute_saved"], row["saves_avoided"]) == (0.0, 0.0, 0.0)
    assert row["oq_gain"] is None
    for name in ("knob_turns", "refusals", "consolidations"):
        assert "shadow" not in catalog.ask(name).column("run_id").to_pylist(), name
    figures = {each.figure: each.value for each in roi(load_run_data(runs, "shadow"), Prices())}
    assert [figures[name] for name in ("bytes_saved", "flops_saved", "seconds_saved")] == [0, 0, 0]
    [would] = catalog.ask("shadow_savings").to_pylist()
    lines = [data for data in counted_events(runs, "shadow", "decision.made") if data["shadow"]]
    skips = sum(data["plugin"] == "gate" and data["action"] == "SKIP" for data in lines)
    assert would["would_skip"] == pytest.approx(skips / would["gate_decisions"])
    assert would["would_accept"] == sum(data["action"] == "ACCEPT" for data in lines)
    assert would["would_move_anchor"] == sum(data["action"] == "ALLOW" for data in lines)


def test_refused_checkpoints_of_an_acting_memory_are_saved_bytes(runs, catalog):
    """2 MB for each evaluation that the memory refused."""
    lines = counted_events(runs, "plain", "decision.made")
    refused = sum(data["plugin"] == "memory" and data["action"] != "ACCEPT" for data in lines)
    figures = {each.figure: each.value for each in roi(load_run_data(runs, "plain"), Prices())}
    assert refused > 0
    assert figures["bytes_saved"] == refused * 2e6
    [row] = [each for each in catalog.ask("savings").to_pylist() if each["run_id"] == "plain"]
    assert row["saves_avoided"] == pytest.approx(refused / figures["evaluations"])


@pytest.mark.parametrize(
    ("seconds", "world_size", "skips", "reason"),
    [
        ({"forward": 1.0, "backward": 2.0, "chain": 0.1}, 1, 0, None),
        ({"forward": 1.0, "backward": 2.0, "chain": 9.0}, 1, 4, None),
        ({"forward": 1.0, "backward": 2.0, "chain": 0.1}, 2, 4, None),
        ({"forward": 1.0, "backward": 2.0, "chain": 0.5}, 2, 4, "WAITED_FOR_RANKS"),
        ({"forward": 1.0, "backward": 2.0, "chain": 0.5}, 2, 0, None),
        ({"forward": 1.0}, 1, 4, "NO_STAGE_TIMES"),
        ({"forward": 0.0, "backward": 2.0}, 1, 4, "NO_STAGE_TIMES"),
        ({}, 1, 4, "NO_STAGE_TIMES"),
        ({"forward": 1.0, "backward": 2.0}, 1, 10, "NOTHING_UPDATED"),
        ({"forward": 1.0, "backward": 2.0}, 1, 9, None),
        ({}, 1, 0, None),
        (None, 1, 0, "NO_BATCHES"),
    ],
)
def test_view_and_counter_give_the_same_savings_or_the_same_reason(
    tmp_path, seconds, world_size, skips, reason
):
    """With a reason there is no estimate, in SQL, in run.finished and in Python."""
    plugin = FirstSkipped(skips)
    with Run(plugins=[plugin], runs=tmp_path, run_id="a", world_size=world_size) as run:
        for i in range(0 if seconds is None else 10):
            ctx = run.start_batch(i, 3.0)
            times = {k: v for k, v in (seconds or {}).items() if ctx.updated or k != "backward"}
            run.end_batch(ctx, stepped=ctx.updated, seconds=times)
    [row] = Catalog(tmp_path).rows("select * from run_savings")
    expected = run.savings()._asdict()
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["compute_saved_reason"] == reason
    assert (row["compute_saved"] is None) == (reason is not None)
    if not skips and reason is None:
        assert row["compute_saved"] == 0.0


def test_refused_step_without_a_measurement_is_not_counted(tmp_path):
    """View, run.finished and study count the steps that no line refuses. Three of twelve are refused."""
    with Run(plugins=[OnGradients()], runs=tmp_path, run_id="a") as run:
        for i in range(24):
            ctx = run.start_batch(i // 2, 3.0, i % 2, micro_steps=2, learning_rate=0.1)
            if ctx.ends_step:
                run.gradients(ctx, grad_norm=1.0)
            run.end_batch(ctx)
    lines = counted_contexts(tmp_path, "a")
    assert {data["applied"]["updated"] for data in lines} == {None}
    refused = {data["iter_num"] for data in lines if data["left"].get("step") is False}
    assert refused == {1, 5, 9}
    steps = Catalog(tmp_path).rows("select iter_num from current_steps where not stepped")
    assert {row["iter_num"] for row in steps} == refused
    [summary] = Catalog(tmp_path).rows("select optimizer_steps, skipped_steps from run_summary")
    assert summary == {"optimizer_steps": 9, "skipped_steps": 3}
    [finished] = counted_events(tmp_path, "a", "run.finished")
    assert {name: finished[name] for name in summary} == summary
    assert load_run_data(tmp_path, "a").optimizer_steps == 9


def test_steps_without_measurement_follow_the_verdict(tmp_path):
    """A loop that does not report its steps has as many as it was allowed to take."""
    with Run(plugins=[FirstSkipped(3)], runs=tmp_path, run_id="a") as run:
        for i in range(10):
            run.end_batch(run.start_batch(i, 3.0))
    rows = Catalog(tmp_path).rows("select optimizer_steps, skipped_steps from run_summary")
    assert rows == [{"optimizer_steps": 7, "skipped_steps": 3}]


class FirstSkipped(OccamPlugin):
    """Plugin that skips the first batches."""

    name = "first_skipped"

    def __init__(self, count=0):
        self.count = count

    def on_batch_start(self, ctx):
        if ctx.iter_num < self.count:
            ctx.updated = False
            ctx.decide("SKIP", "FIRST")
