"""What if: exact until the weights would have come out otherwise, and honest from there on."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError, CannotJudgeError, PolicyError
from ockham.policy import load_policy
from ockham.record.folder import RunFolder
from ockham.replay.path import path_of
from ockham.replay.variants import expanded, variants, with_settings
from ockham.replay.whatif import whatif
from ockham.run import Run
from tests.made import made_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of which each preset was in charge once, on the same losses."""
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("tight", "balanced", "exploratory", "observe"):
        made_run(folder, policy, 150, policy=policy)
    return folder


def legs_of(runs, run_id):
    return path_of(RunFolder(runs, run_id))


@pytest.mark.parametrize("policy", ["tight", "balanced", "exploratory", "observe"])
def test_the_recorded_policy_comes_out_as_recorded(runs, policy):
    """Asked about itself, a policy gives all that was recorded and never parts from it."""
    legs = legs_of(runs, policy)
    answer = whatif(legs, legs[-1].policy, "itself")
    assert answer.diverged_iter is None
    assert answer.exact_batches == answer.batches == 150
    assert not answer.transitions.keys() & {"UPDATE>SKIP", "SKIP>UPDATE"}
    assert (answer.accepted, answer.consolidated) == (answer.recorded_accepted, answer.recorded_consolidated)
    assert answer.rate() == answer.rate(recorded=True)


def test_another_policy_is_exact_up_to_its_first_other_verdict(runs):
    """The made losses do not react to weights: so what tight would do is what tight did, exact or not."""
    answer = whatif(legs_of(runs, "balanced"), load_policy("tight"), "tight")
    own = whatif(legs_of(runs, "tight"), load_policy("tight"), "itself")
    assert [row.whatif for row in answer.rows] == [row.whatif for row in own.rows]
    assert answer.diverged_by == "updated"
    first = next(row.iter_num for row in answer.rows if row.recorded != row.whatif)
    assert answer.diverged_iter == first
    assert answer.exact_batches == first + 1
    assert [row.exact for row in answer.rows] == [row.iter_num <= first for row in answer.rows]
    assert answer.transitions["UPDATE>SKIP"] > 0
    assert sum(answer.transitions.values()) == answer.batches


def test_a_shadow_run_says_what_acting_would_do(runs):
    """From an audited run: the update rate that the acting preset would have had."""
    answer = whatif(legs_of(runs, "observe"), load_policy("balanced"), "balanced")
    assert answer.rate(recorded=True) == 1.0
    assert 0.5 <= answer.rate() <= 0.7
    assert answer.diverged_iter is not None


def test_a_policy_that_changes_no_weight_never_parts(runs):
    """A memory that accepts otherwise decides otherwise on the very same trajectory."""
    legs = legs_of(runs, "balanced")
    answer = whatif(legs, with_settings(legs[-1].policy, ["memory.min_oq_improvement=0.9"]), "strict")
    assert answer.diverged_iter is None
    assert answer.accepted < answer.recorded_accepted


def test_what_was_not_measured_ends_the_certainty(runs):
    """A gauge that this policy wants and the run did not measure is said, and nothing after it is called exact."""
    legs = legs_of(runs, "balanced")
    answer = whatif(legs, with_settings(legs[-1].policy, ["watchdog.every=3"]), "often")
    assert answer.diverged_by == "kl_to_anchor"
    assert answer.diverged_iter == 13
    assert "every 10" in answer.notes[0]


def test_knobs_start_where_this_policy_puts_them(runs):
    """Base knobs of the recorded policy do not leak into the other one."""
    legs = legs_of(runs, "balanced")
    fixed = with_settings(legs[-1].policy, ["gate.mode=fixed", "gate.surprise_threshold=3.0"])
    answer = whatif(legs, fixed, "fixed")
    for row in answer.rows:
        assert row.reason_code == "FORCED_UPDATE" or row.whatif == (
            "UPDATE" if row.task_loss >= 3.0 else "SKIP"
        )
    assert answer.transitions["UPDATE>SKIP"] > 10


def test_compute_saved_is_never_one_minus_the_rate(tmp_path):
    """With b measured in the run: (1 - u) b/(1 + b)."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 60}) as run:
        for i in range(60):
            run.end(
                run.batch(i, 3 + (i * 7 % 11) / 9),
                seconds={"forward": 1.0, "backward": 1.5, "optimizer": 0.5},
            )
    legs = legs_of(tmp_path, "a")
    answer = whatif(legs, legs[-1].policy, "itself")
    assert answer.saved() == pytest.approx((1 - answer.rate()) * 2 / 3)


def test_ranges_and_combinations():
    """A range is nine values or as many as are asked for; each combination is one policy."""
    assert expanded("gate.target=0.1..0.9") == [f"gate.target=0.{i}" for i in range(1, 10)]
    assert expanded("gate.target=0.3..0.9:3") == ["gate.target=0.3", "gate.target=0.6", "gate.target=0.9"]
    asked = variants(
        load_policy("balanced"), ["tight", "balanced"], ["gate.target=0.1..0.5:2", "gate.eta=0.2"]
    )
    assert [label for label, _ in asked][:2] == [
        "tight gate.target=0.1 gate.eta=0.2",
        "tight gate.target=0.5 gate.eta=0.2",
    ]
    assert len({policy.revision for _, policy in asked}) == 4


@pytest.mark.parametrize(
    ("policies", "settings", "error"),
    [
        ([], [], BadInputError), ([], ["gate.target=a..b"], BadInputError), ([], ["gate.target=0.1..0.9:1"], BadInputError),
        ([], ["gate.target=0.1..0.9:99", "gate.eta=0.1..0.2:99"], BadInputError), ([], ["gait.target=0.3"], PolicyError),
        ([], ["gate.aim=0.3"], PolicyError), ([], ["gate.target=high"], PolicyError), (["tihgt"], [], PolicyError), ([], ["x"], PolicyError),
    ],
)  # fmt: skip
def test_bad_questions_are_refused(policies, settings, error):
    """What can't be asked is one clear error."""
    with pytest.raises(error):
        variants(load_policy("balanced"), policies, settings)


def test_a_list_of_values_is_answered_with_the_range():
    """Nine tools in ten take commas here: the refusal is the command to type."""
    with pytest.raises(BadInputError, match=r"a range: gate\.target=0\.2\.\.0\.5:3$"):
        variants(load_policy("balanced"), [], ["gate.target=0.2,0.3,0.5"])


def test_a_run_without_contexts_cannot_be_asked(tmp_path):
    """Nothing recorded, nothing to ask about."""
    with Run("balanced", runs=tmp_path, run_id="a"):
        pass
    with pytest.raises(CannotJudgeError):
        legs_of(tmp_path, "a")
