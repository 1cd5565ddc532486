"""Evaluation of constraints once per pair, once per run, or once over all runs of the evidence."""

from __future__ import annotations

import pytest

from ockham.odr.constraint_evaluation import evaluate_constraints
from ockham.odr.evidence_store import EvidenceStore
from ockham.odr.pinning import pin_sides
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import Constraint, RecordData
from ockham.record.run_folder import RunFolder
from tests.odr.small_runs import make_run

DIFFERENCE = (
    "SELECT min(val_loss) FILTER (WHERE run_id = $candidate)"
    " - min(val_loss) FILTER (WHERE run_id = $baseline) AS value, 3 AS n FROM evaluations"
)
OF_CANDIDATE = "SELECT min(val_loss) AS value, count(*) AS n FROM evaluations WHERE run_id = $candidate"
OF_BASELINE = OF_CANDIDATE.replace("$candidate", "$baseline")
OF_ALL = "SELECT avg(val_loss) AS value, count(*) AS n FROM evaluations WHERE run_id IN $candidates"
BY_ID = "SELECT min(val_loss) AS value, count(DISTINCT run_id) AS n FROM evaluations WHERE run_id = 'c1'"
COUNTS_ALL = DIFFERENCE.replace("3 AS n", "count(DISTINCT run_id) AS n")
LOSSES = {"b1": 2.0, "b2": 2.2, "b3": 2.4, "c1": 1.9, "c2": 2.0, "c3": 2.3, "other": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pairs, and a run outside of the evidence."""
    runs = tmp_path_factory.mktemp("runs")
    for name, loss in LOSSES.items():
        make_run(runs, name, loss=loss)
    return runs


def evaluate(folder, sql, baselines, candidates, **changes):
    """Return the result of one constraint on these runs."""
    sides = pin_sides(folder, baselines, candidates)
    constraint = Constraint(0, "C1", "t", sql, "<", 0.0)._replace(**changes)
    claims = RecordData(
        baselines=tuple(side for side in sides if side.name == "baseline"),
        candidates=tuple(side for side in sides if side.name == "candidate"),
        constraints=(constraint,),
    )
    with EvidenceStore([folder], guarded_queries) as store:
        logs = [store.read_log(side, RunFolder(folder, side.run)) for side in sides]
        return evaluate_constraints(claims, store.open_queries(logs))[0]


def test_pair_parameters_give_one_value_per_pair(folder):
    """Runs are paired by position."""
    result = evaluate(folder, DIFFERENCE, ["b1", "b2", "b3"], ["c1", "c2", "c3"])
    assert [pair.label for pair in result.pairs] == ["c1 against b1", "c2 against b2", "c3 against b3"]
    assert [pair.value for pair in result.pairs] == pytest.approx([-0.1, -0.2, -0.1])
    assert result.value == pytest.approx(-0.4 / 3)
    assert (result.state, result.statistics.n_pairs) == ("unknown", 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "it has no SQL"), ("los_improves_by", "its name or a parameter is not accepted")],
)
def test_constraint_without_sql_is_unknown_for_its_reason(folder, name, reason):
    """Lint reports the wrong name itself, with the nearest one."""
    result = evaluate(folder, "", ["b1"], ["c1"], name=name)
    assert (result.state, result.reason) == ("unknown", reason)


def test_one_baseline_is_compared_with_all_candidates(folder):
    """The interval has the spread of the candidates."""
    result = evaluate(folder, DIFFERENCE, ["b1"], ["c1", "c2", "c3"])
    assert [pair.value for pair in result.pairs] == pytest.approx([-0.1, 0.0, 0.3])


def test_one_parameter_gives_one_value_per_run(folder):
    """The same run is not counted twice."""
    result = evaluate(folder, OF_CANDIDATE, ["b1"], ["c1", "c2", "c3"])
    assert [(pair.label, pair.value) for pair in result.pairs] == [("c1", 1.9), ("c2", 2.0), ("c3", 2.3)]
    once = evaluate(folder, OF_BASELINE, ["b1"], ["c1", "c2", "c3"])
    assert (once.value, once.pairs) == (2.0, ())


def test_list_parameter_is_evaluated_once(folder):
    """It is a list of all run IDs."""
    result = evaluate(folder, OF_ALL, ["b1"], ["c1", "c2", "c3"])
    assert (result.n, result.pairs, result.statistics) == (9, (), None)
    assert result.value == pytest.approx(1.1 * (1.9 + 2.0 + 2.3) / 3)
    for where in ("run_id = ANY($candidates)", "list_contains($candidates, run_id)"):
        sql = OF_ALL.replace("run_id IN $candidates", where)
        assert evaluate(folder, sql, [], ["c1", "c2", "c3"]).value == pytest.approx(result.value)


def test_query_sees_only_the_runs_of_the_evidence(folder):
    """A run next to them is not in its folder, whatever the SQL reads."""
    assert evaluate(folder, COUNTS_ALL, ["b1"], ["c1"]).n == 2
    assert evaluate(folder, BY_ID, ["b1"], ["c1"]).value == pytest.approx(1.9)


@pytest.mark.parametrize(
    "where",
    ["run_id IN ('c1', 'other')", "run_id LIKE 'c%'", "run_id != 'x'", "starts_with(run_id, 'c')"],
)
def test_sql_that_names_other_runs_is_never_a_pass(folder, where):
    """It would judge one run, and read as if it judged several."""
    sql = f"SELECT -min(val_loss) AS value, count(*) AS n FROM evaluations WHERE {where}"
    result = evaluate(folder, sql, ["b1"], ["c1"])
    assert (result.state, result.value) == ("unknown", None)
    assert "which is not in the evidence" in result.reason


def test_sql_without_a_run_is_never_a_pass(folder):
    """Baselines and candidates would be mixed."""
    sql = "SELECT -min(val_loss) AS value, count(*) AS n FROM evaluations"
    result = evaluate(folder, sql, ["b1"], ["c1"])
    assert (result.state, "reads all runs together" in result.reason) == ("unknown", True)


def test_text_of_one_run_is_refused_with_several_pairs(folder):
    """It would judge one run of three."""
    result = evaluate(folder, BY_ID, ["b1", "b2"], ["c1", "c2"])
    assert (result.state, result.value) == ("unknown", None)
    assert result.reason.endswith("one run of 2 pairs; write $candidate or $baseline")


def test_count_of_all_runs_is_refused_with_several_pairs(folder):
    """Each pair would count the rows of the others."""
    result = evaluate(folder, COUNTS_ALL, ["b1", "b2"], ["c1", "c2"])
    assert (result.state, "counts the rows of all runs in n" in result.reason) == ("unknown", True)


def test_missing_baseline_is_unknown(folder):
    """A baseline is required."""
    result = evaluate(folder, DIFFERENCE, [], ["c1"])
    assert (result.state, result.reason) == ("unknown", "$baseline names no run")


def test_min_n_applies_to_each_pair(folder):
    """Three observations of each pair are not nine."""
    result = evaluate(folder, DIFFERENCE, ["b1", "b2"], ["c1", "c2"], min_n=4)
    assert (result.state, result.code) == ("unknown", "ODR508")
    assert result.reason.startswith("c1 against b1: 3 observations")
