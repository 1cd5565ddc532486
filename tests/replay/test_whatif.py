"""What-if results: exact until the weights would differ, and marked as inexact after that."""

from __future__ import annotations

import pytest

from ockham.errors import UnverifiableError
from ockham.plugin import OccamPlugin
from ockham.policy import load_policy, policy_from_plugins, with_default_plugins
from ockham.record.run_folder import RunFolder
from ockham.replay.trajectory import load_trajectory
from ockham.replay.variants import override_policy
from ockham.replay.whatif import _WhatIfReplay, whatif
from ockham.replay.whatif_result import WhatIfResult
from ockham.run import Run
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run per preset, with the same losses."""
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("tight", "balanced", "exploratory", "observe"):
        make_run(folder, policy, 150, policy=policy)
    return folder


def read_trajectory(runs, run_id):
    return load_trajectory(RunFolder(runs, run_id))


@pytest.mark.parametrize("policy", ["tight", "balanced", "exploratory", "observe"])
def test_whatif_of_the_recorded_policy_equals_the_record(runs, policy):
    """It never diverges."""
    legs = read_trajectory(runs, policy)
    answer = whatif(legs, legs[-1].policy, "itself")
    assert answer.diverged_iter is None
    assert answer.exact_batches == answer.batches == 150
    assert not answer.transitions.keys() & {"UPDATE>SKIP", "SKIP>UPDATE"}
    assert (answer.accepted, answer.consolidated) == (answer.recorded_accepted, answer.recorded_consolidated)
    assert answer.update_rate() == answer.update_rate(recorded=True)


def test_whatif_is_exact_until_the_first_other_verdict(runs):
    """The synthetic losses do not depend on weights."""
    answer = whatif(read_trajectory(runs, "balanced"), load_policy("tight"), "tight")
    own = whatif(read_trajectory(runs, "tight"), load_policy("tight"), "itself")
    assert [row.whatif for row in answer.rows] == [row.whatif for row in own.rows]
    assert answer.diverged_by == "updated"
    first = next(row.iter_num for row in answer.rows if row.recorded != row.whatif)
    assert answer.diverged_iter == first
    assert answer.exact_batches == first + 1
    assert [row.exact for row in answer.rows] == [row.iter_num <= first for row in answer.rows]
    assert answer.transitions["UPDATE>SKIP"] > 0
    assert sum(answer.transitions.values()) == answer.batches


def test_whatif_of_a_shadow_run_shows_the_acting_rate(runs):
    """The run was audited only."""
    answer = whatif(read_trajectory(runs, "observe"), load_policy("balanced"), "balanced")
    assert answer.update_rate(recorded=True) == 1.0
    assert 0.5 <= answer.update_rate() <= 0.7
    assert answer.diverged_iter is not None


def test_whatif_rate_of_finite_batches_is_at_most_1(tmp_path):
    """NaN batches are not updates."""
    make_run(tmp_path, "observe", 40, policy="observe", nan_at=5)
    legs = read_trajectory(tmp_path, "observe")
    assert whatif(legs, legs[-1].policy, "itself").update_rate(recorded=True) == 1.0
    always = override_policy(load_policy("balanced"), ["gate.target=1"])
    question = _WhatIfReplay(legs, always, "always", trust=True)
    answer = question.run()
    # This is the batch with the NaN loss.
    assert answer.transitions["UPDATE>SKIP"] == 1
    assert answer.update_rate() == 1.0
    assert question.update_delta == 0


def test_whatif_without_weight_changes_never_diverges(runs):
    """Only the memory decides differently."""
    legs = read_trajectory(runs, "balanced")
    answer = whatif(legs, override_policy(legs[-1].policy, ["memory.min_oq_improvement=0.9"]), "strict")
    assert answer.diverged_iter is None
    assert answer.accepted < answer.recorded_accepted


def test_whatif_ends_exactness_at_a_missing_measurement(runs):
    """A required gauge was not measured."""
    legs = read_trajectory(runs, "balanced")
    answer = whatif(legs, override_policy(legs[-1].policy, ["watchdog.every=3"]), "often")
    assert answer.diverged_by == "kl_to_anchor"
    assert answer.diverged_iter == 13
    assert "every 20" in answer.notes[0]


def test_whatif_starts_knobs_at_the_other_policys_base_values(runs):
    """Recorded base knobs have no effect."""
    legs = read_trajectory(runs, "balanced")
    fixed = override_policy(legs[-1].policy, ["gate.mode=fixed", "gate.surprise_threshold=3.0"])
    answer = whatif(legs, fixed, "fixed")
    for row in answer.rows:
        assert row.reason_code == "FORCED_UPDATE" or row.whatif == (
            "UPDATE" if row.task_loss >= 3.0 else "SKIP"
        )
    assert answer.transitions["UPDATE>SKIP"] > 10


def test_whatif_compute_saved_uses_the_cost_ratio(tmp_path):
    """(1 - u) b/(1 + b), with b of the run."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 60}) as run:
        for i in range(60):
            run.end_batch(
                run.start_batch(i, 3 + (i * 7 % 11) / 9),
                seconds={"forward": 1.0, "backward": 1.5, "optimizer": 0.5},
            )
    legs = read_trajectory(tmp_path, "a")
    answer = whatif(legs, legs[-1].policy, "itself")
    assert answer.compute_saved() == pytest.approx((1 - answer.update_rate()) * 2 / 3)


@pytest.mark.parametrize(
    ("setting", "by", "at"),
    [
        ("hyperparameters.grad_clip=0.1", "grad_clip", 0),
        # The limiter sets the knob to its recorded value.
        ("hyperparameters.grad_clip=50", "", None),
        ("compressor.threshold=0.00001", "learning_rate", 14),
        ("hyperparameters.lambda_ockham=0.5", "lambda_ockham", 13),
        ("hyperparameters.pull=none", "lambda_ockham", 13),
        ("hyperparameters.evaluations=5", "", None),
    ],
)
def test_whatif_names_the_knob_that_diverges(runs, setting, by, at):
    """A pull has no effect before the anchor."""
    legs = read_trajectory(runs, "balanced")
    answer = whatif(legs, override_policy(legs[-1].policy, [setting]), "other")
    assert (answer.diverged_by, answer.diverged_iter) == (by, at)
    assert answer.exact_batches == (150 if at is None else at + 1)
    scheduled = [note for note in answer.notes if "scheduled evaluations" in note]
    assert scheduled == (
        ["the run has 60 scheduled evaluations, this policy needs 5; the recorded ones are used"]
        if "evaluations" in setting
        else []
    )


def test_whatif_ignores_a_ceiling_that_was_not_reached(tmp_path):
    """A clip of 0.6 does not change gradients of 0.5."""
    for run_id, norm in (("a", 0.5), ("b", float("nan"))):
        with Run("balanced", runs=tmp_path, run_id=run_id, facts={"max_iters": 20}) as run:
            for i in range(8):
                run.end_batch(run.start_batch(i, 4.0 - i / 9), grad_norm=norm)
    for run_id, clip, parts in (("a", 0.6, False), ("a", 0.4, True), ("b", 0.6, True)):
        legs = read_trajectory(tmp_path, run_id)
        answer = whatif(
            legs, override_policy(legs[-1].policy, [f"hyperparameters.grad_clip={clip}"]), "other"
        )
        assert (answer.diverged_by == "grad_clip") is parts, (run_id, clip)


class Halter(OccamPlugin):
    """Plugin that ends a run at an iteration, in one of two hooks."""

    def __init__(self, at: int = 0, hook: str = "on_batch_start") -> None:
        self.at, self.hook = at, hook

    def on_batch_start(self, ctx):
        ctx.halt = ctx.halt or (self.hook == "on_batch_start" and ctx.iter_num == self.at)

    def on_evaluate(self, ctx):
        ctx.halt = ctx.halt or (self.hook == "on_evaluate" and ctx.iter_num >= self.at)


@pytest.mark.parametrize(("hook", "batches"), [("on_batch_start", 21), ("on_evaluate", 30)])
def test_whatif_stops_at_the_end_of_the_other_policy(runs, hook, batches):
    """At a batch and at an evaluation."""
    answer = whatif(
        read_trajectory(runs, "observe"),
        policy_from_plugins(with_default_plugins([Halter(20, hook)])),
        "halts",
        trust=True,
    )
    assert (answer.batches, len(answer.rows)) == (batches, batches)
    assert answer.halted_iter == batches - 1
    assert answer.summary()["halted_iter"] == batches - 1


class Turner(OccamPlugin):
    """Third-party plugin that halves the learning rate of every third batch."""

    def __init__(self) -> None:
        self.seen = 0

    def on_batch_start(self, ctx):
        self.seen += 1
        if self.seen % 3 == 0:
            ctx.learning_rate *= 0.5
            ctx.decide("TURN", "TURNED", self.seen)


def test_whatif_plays_back_third_party_plugins(tmp_path):
    """Their recorded changes are used."""
    with Run(plugins=[Turner()], runs=tmp_path, run_id="a") as run:
        for i in range(9):
            run.end_batch(run.start_batch(i, 3.0, learning_rate=1e-3))
    legs = read_trajectory(tmp_path, "a")
    assert whatif(legs, legs[-1].policy, "itself").diverged_iter is None
    alone = whatif(legs, policy_from_plugins(with_default_plugins([])), "without it")
    assert (alone.diverged_by, alone.diverged_iter) == ("learning_rate", 2)


def test_whatif_skips_an_evaluation_made_for_the_anchor_only(tmp_path):
    """The other policy would not have requested it."""
    asked = 0
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 60, "vocab_size": 256}) as run:
        for i in range(60):
            ctx = run.end_batch(run.start_batch(i, 4 - i / 30, learning_rate=1e-3, anchor_available=True))
            if ctx.consolidating:
                asked += 1
                run.evaluate(ctx, 4 - i / 30, tokens=100, trigger="CONSOLIDATION")
                if ctx.consolidating:
                    run.record_consolidation(ctx, drift=0.05)
    legs = read_trajectory(tmp_path, "a")
    itself = whatif(legs, legs[-1].policy, "itself")
    assert itself.evaluations == asked > 1
    assert itself.consolidated == itself.recorded_consolidated >= 1
    assert itself.diverged_iter is None
    never = whatif(legs, override_policy(legs[-1].policy, ["anchor.per_run=0"]), "never")
    assert (never.evaluations, never.consolidated) == (0, 0)
    assert never.recorded_consolidated == itself.recorded_consolidated
    assert (never.diverged_by, never.unanswered) == ("consolidating", 0)
    often = whatif(
        legs, override_policy(legs[-1].policy, ["anchor.per_run=30", "anchor.cooldown=1"]), "often"
    )
    assert often.unanswered > 0
    assert often.diverged_by == "consolidating"


def test_whatif_summary_is_one_row(runs):
    """Unknown values are None."""
    answer = whatif(read_trajectory(runs, "balanced"), load_policy("tight"), "tight")
    row = answer.summary()
    assert (row["policy"], row["batches"], row["exact_batches"]) == ("tight", 150, answer.exact_batches)
    assert row["update_to_skip"] == answer.transitions["UPDATE>SKIP"] > 0
    assert row["recorded_update_rate"] == pytest.approx(
        (row["update_to_update"] + row["update_to_skip"]) / 150
    )
    assert row["update_rate"] == pytest.approx((row["update_to_update"] + row["skip_to_update"]) / 150)
    assert (row["compute_saved"], row["recorded_compute_saved"], row["halted_iter"]) == (None, None, None)
    empty = WhatIfResult("nothing", load_policy("tight"))
    assert (empty.update_rate(), empty.compute_saved()) == (None, None)


def test_whatif_of_a_run_without_contexts_is_an_error(tmp_path):
    """Nothing was recorded."""
    with Run("balanced", runs=tmp_path, run_id="a"):
        pass
    with pytest.raises(UnverifiableError):
        read_trajectory(tmp_path, "a")
