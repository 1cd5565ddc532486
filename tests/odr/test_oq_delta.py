"""OQ delta at the same point of two runs, recomputed from the losses that the test wrote."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ockham.odr.check import check
from ockham.odr.evaluation_points import EvaluationPoint, EvaluationSeries, find_common_points
from ockham.odr.lint import lint_folder
from ockham.odr.pinning import pin_sides, set_evidence
from ockham.odr.record import read_record
from ockham.quotient import QuotientSpec
from tests.odr.checked_record import answering, record_text
from tests.odr.evaluated_runs import Evaluation, write_evaluated_run
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import make_run


@pytest.fixture
def runs(tmp_path):
    """A text needs two runs; each test pins its own."""
    make_run(tmp_path / "runs", "base")
    make_run(tmp_path / "runs", "cand")
    return tmp_path / "runs"


def checked_delta(runs, baselines, candidates, outcome="oq_delta: +0.4, verdict: KEEP"):
    """Return the OQ delta and the findings of a record about these runs."""
    text = record_text(runs, status="draft").replace("oq_delta: +0.4, verdict: KEEP", outcome)
    record = read_record(put(runs.parent / "odr", text))
    put(runs.parent / "odr", set_evidence(record, pin_sides(runs, baselines, candidates)))
    record = lint_folder(runs.parent / "odr")[0]
    result = check(record, [runs], answering(lambda *_: [{"value": 0.1, "n": 3}]), TODAY)
    return result.oq, [f for f in record.findings if f.code in {"ODR407", "ODR602", "ODR603", "ODR608"}]


def test_delta_compares_the_end_and_not_the_last_accepted_checkpoints(runs):
    """A memory that asks for more accepts its last checkpoint earlier, whatever the weights do."""
    write_evaluated_run(runs, "b", [Evaluation(89, 2.7, True), Evaluation(149, 2.593, True)])
    write_evaluated_run(runs, "c", [Evaluation(89, 3.258, True), Evaluation(149, 2.8416)])
    oq, findings = checked_delta(runs, ["b"], ["c"], "oq_delta: -0.204, verdict: REVERT")
    assert oq.value == pytest.approx(2.593 / 2.8416 - 1)
    assert (oq.place, oq.pairs[0].position) == ("at iteration 149", 149)
    assert [(f.code, f.message) for f in findings] == [
        ("ODR602", "OQ delta: claimed -0.204, recomputed -0.0874859 at iteration 149")
    ]


def test_longer_run_is_compared_where_the_shorter_one_ends(runs):
    """Iterations that only one of them evaluated do not count."""
    write_evaluated_run(runs, "b", [Evaluation(at, 3 - at / 100) for at in (9, 19, 29, 39)])
    write_evaluated_run(runs, "c", [Evaluation(at, 2.5 - at / 100) for at in (9, 15, 19, 25)])
    oq, _ = checked_delta(runs, ["b"], ["c"])
    assert (oq.pairs[0].position, oq.value) == (19, pytest.approx((3 - 0.19) / (2.5 - 0.19) - 1))


def test_start_of_a_run_is_refused(runs):
    """With an adapter the delta would be its parameters, and never what was learned."""
    write_evaluated_run(runs, "b", [Evaluation(0, 1.75, True), Evaluation(99, 1.75)])
    write_evaluated_run(runs, "c", [Evaluation(0, 1.75, True, 1.04e9), Evaluation(50, 1.6)])
    oq, findings = checked_delta(runs, ["b"], ["c"])
    assert oq is None
    assert [f.code for f in findings] == ["ODR608"]
    assert "is 0, before any training" in findings[0].message


@pytest.mark.parametrize(
    ("candidate", "code", "message"),
    [
        ([], "ODR407", "no evaluation of c has an Occam Quotient"),
        ([Evaluation(5, 2.0)], "ODR603", "b and c have no evaluation at the same iteration"),
    ],
)
def test_runs_without_a_common_evaluation_have_no_delta(runs, candidate, code, message):
    """The finding names the reason."""
    write_evaluated_run(runs, "b", [Evaluation(9, 2.0)])
    write_evaluated_run(runs, "c", candidate, batches=8)
    oq, findings = checked_delta(runs, ["b"], ["c"])
    assert (oq, [(f.code, f.message) for f in findings]) == (None, [(code, message)])


def test_several_pairs_give_mean_and_interval(runs):
    """Each pair has its own baseline; KEEP needs the whole interval above 0."""
    for seed, (base, cand) in enumerate(((2.0, 1.9), (2.1, 2.0), (2.2, 2.05))):
        write_evaluated_run(runs, f"b{seed}", [Evaluation(9, base)])
        write_evaluated_run(runs, f"c{seed}", [Evaluation(9, cand)])
    oq, _ = checked_delta(runs, ["b0", "b1", "b2"], ["c0", "c1", "c2"])
    values = [2.0 / 1.9 - 1, 2.1 / 2.0 - 1, 2.2 / 2.05 - 1]
    assert [pair.value for pair in oq.pairs] == pytest.approx(values)
    assert oq.value == oq.statistics.mean == pytest.approx(sum(values) / 3)
    assert 0 < oq.statistics.low < oq.value < oq.statistics.high


def test_tokens_compare_runs_with_other_batch_sizes(runs):
    """The quotient of the longer run is interpolated at the tokens of the shorter one."""
    write_evaluated_run(runs, "b", [Evaluation(10, 3.0), Evaluation(20, 2.0)], tokens=100)
    write_evaluated_run(runs, "c", [Evaluation(10, 2.5)], tokens=150)
    oq, _ = checked_delta(runs, ["b"], ["c"], "oq_delta: +0.4, oq_delta_at: tokens, verdict: KEEP")
    assert (oq.place, oq.measure) == ("at 1,500 tokens", "tokens")
    assert oq.value == pytest.approx((1 / 2.5) / ((1 / 3.0 + 1 / 2.0) / 2) - 1)


def test_compute_counts_forwards_and_updates(runs):
    """b is 2: a batch costs 1 forward, and 2 more if it updates."""
    write_evaluated_run(runs, "b", [Evaluation(9, 3.0), Evaluation(19, 2.0)])
    write_evaluated_run(runs, "c", [Evaluation(29, 2.2)], updates=range(6))
    oq, _ = checked_delta(runs, ["b"], ["c"], "oq_delta: +0.4, oq_delta_at: compute, verdict: KEEP")
    # 30 batches and 6 updates cost 42; the baseline is at 30 after 10 batches, at 60 after 20.
    assert oq.pairs[0].position == pytest.approx(42)
    assert oq.place == "at a compute of 42 forwards"
    at_42 = 1 / 3.0 + (1 / 2.0 - 1 / 3.0) * (42 - 30) / 30
    assert oq.value == pytest.approx((1 / 2.2) / at_42 - 1)


CURVES = st.dictionaries(st.integers(1, 40), st.floats(0.1, 9), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CURVES, CURVES)
def test_common_point_is_the_last_one_of_both_runs(baseline, candidate):
    """By iteration it is exact; by tokens it is the end of the shorter run, between two evaluations."""
    points = [
        tuple(EvaluationPoint(at, at * 10, 0, 0, curve[at], QuotientSpec()) for at in curve)
        for curve in (baseline, candidate)
    ]
    one, other = (EvaluationSeries(series, ()) for series in points)
    shared = baseline.keys() & candidate.keys()
    exact = (max(shared), baseline[max(shared)], candidate[max(shared)]) if shared else None
    assert find_common_points(one, other, "iteration", 0.0) == exact
    end = min(max(baseline), max(candidate))
    found = find_common_points(one, other, "tokens", 0.0)
    if end < max(min(baseline), min(candidate)):
        assert found is None
        return
    assert found[0] == 10 * end
    for curve, value in ((baseline, found[1]), (candidate, found[2])):
        before, after = max(x for x in curve if x <= end), min(x for x in curve if x >= end)
        share = (end - before) / (after - before) if after > before else 0.0
        assert value == pytest.approx(curve[before] + share * (curve[after] - curve[before]))
