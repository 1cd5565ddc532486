"""Named constraints against values that are recomputed from the lines."""

import datetime as dt
import math
import re
import shutil
import statistics
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.odr.constraint_library import load_library, parse_constraint_argument, resolve_constraint
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.lint import lint_folder
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import parse_constraint
from ockham.odr.template import NewRecord, describe_constraint, parse_constraints, render_record
from ockham.odr.verdict import evaluate_constraint
from tests.helpers.figure_runs import counted_contexts, counted_events
from tests.odr.constraint_runs import make_constraint_runs
from tests.odr.record_samples import put
from tests.oracle.log_lines import read_run
from tests.oracle.savings import compute_savings

ADAPTED, FROZEN = "adapted", "frozen"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_constraint_runs(tmp_path_factory.mktemp("runs"))


def evaluations(runs, run, key):
    """Return the last value of each evaluated iteration after 0."""
    if key == "val_loss":
        points = {
            e["iter_num"]: float(e["val_loss"]) for e in counted_events(runs, run, "evaluation.recorded")
        }
    else:
        points = {}
        for context in counted_contexts(runs, run, "on_evaluate"):
            fields = {**context["given"], **context["measured"], **context["given"]["custom"]}
            if key in fields:
                points[context["iter_num"]] = float(fields[key])
    return {at: value for at, value in points.items() if at > 0}


def ratio(runs, key):
    """Return candidate / baseline at the last common evaluation, and the number of common ones."""
    ours, theirs = evaluations(runs, ADAPTED, key), evaluations(runs, FROZEN, key)
    common = sorted(ours.keys() & theirs.keys())
    return ours[common[-1]] / theirs[common[-1]], len(common)


def improvement(runs, key):
    quotient, n = ratio(runs, key)
    return 1 - quotient, n


def increase(runs, key):
    quotient, n = ratio(runs, key)
    return quotient - 1, n


def update_rate(runs):
    finite = [c for c in counted_contexts(runs, ADAPTED) if math.isfinite(c["loss"])]
    return sum(c["updated"] for c in finite) / len(finite), len(finite)


def accepted(runs):
    decisions = counted_events(runs, ADAPTED, "decision.made")
    count = sum(d["plugin"] == "memory" and d["action"] == "ACCEPT" and not d["shadow"] for d in decisions)
    return count, len(counted_events(runs, ADAPTED, "evaluation.recorded"))


def accept_rate(runs):
    count, n = accepted(runs)
    return count / n, n


def compute_saved(runs):
    rows = read_run(runs / ADAPTED)
    return compute_savings(rows)["compute_saved"], len(counted_contexts(runs, ADAPTED))


def added_parameters(runs):
    events = counted_events(runs, ADAPTED, "adapter.enabled")
    return max(e["added_params"] / e["model_params"] for e in events), len(events)


def revert_time(runs, share):
    """Return the quantile with linear interpolation, in ms."""
    times = sorted(e["seconds"] for e in counted_events(runs, ADAPTED, "adapter.reverted"))
    at = share * (len(times) - 1)
    low, high = math.floor(at), math.ceil(at)
    return 1000 * (times[low] + (at - low) * (times[high] - times[low])), len(times)


def traces(runs):
    events = counted_events(runs, ADAPTED, "adapter.reverted")
    return sum(not e["identical"] for e in events), len(events)


def count_events(runs, kind):
    return len(counted_events(runs, ADAPTED, kind)), len(counted_contexts(runs, ADAPTED))


def nonfinite(runs):
    losses = [c["loss"] for c in counted_contexts(runs, ADAPTED)]
    return sum(not math.isfinite(loss) for loss in losses), len(losses)


def largest(runs, gauge):
    contexts = [*counted_contexts(runs, ADAPTED), *counted_contexts(runs, ADAPTED, "on_evaluate")]
    values = [float(c["measured"][gauge]) for c in contexts if gauge in c["measured"]]
    return max(values), len(values)


def clipped(runs):
    steps = [c for c in counted_contexts(runs, ADAPTED) if (c.get("applied") or {}).get("clipped_grad_norm")]
    flags = [float(c["applied"]["clipped_grad_norm"]) < float(c["measured"]["grad_norm"]) for c in steps]
    return statistics.fmean(flags), len(flags)


def blocked(runs):
    """Every attempt waited, so none is omitted."""
    events = [row.data for row in read_run(runs / ADAPTED) if row.kind == "run.finished"]
    return sum(e["blocked_seconds"] for e in events), len(events)


EXPECTED = {
    "loss_improves_by": lambda runs: improvement(runs, "val_loss"),
    "loss_at_most_above": lambda runs: increase(runs, "val_loss"),
    "new_loss_improves_by": lambda runs: improvement(runs, "new_loss"),
    "familiar_loss_at_most_above": lambda runs: increase(runs, "familiar_loss"),
    "oq_delta_at_least": lambda runs: increase(runs, "occam_quotient"),
    "update_rate_between": update_rate,
    "accept_rate_between": accept_rate,
    "compute_saved_at_least": compute_saved,
    "checkpoints_accepted_at_least": accepted,
    "checkpoints_accepted_at_most": accepted,
    "added_parameters_below": added_parameters,
    "revert_time_below": lambda runs: revert_time(runs, 0.99),
    "revert_restores_weights": traces,
    "no_rollbacks": lambda runs: count_events(runs, "rollback.performed"),
    "no_verdict_not_applied": lambda runs: count_events(runs, "verdict.not_applied"),
    "no_nonfinite_losses": nonfinite,
    "kl_below": lambda runs: largest(runs, "kl_to_anchor"),
    "drift_below": lambda runs: largest(runs, "complexity_cost"),
    "steps_clipped_at_most": clipped,
    "trainer_blocked_below": blocked,
}


def measure(runs, argument, candidate=ADAPTED, baseline=FROZEN):
    """Return the result of a named constraint."""
    constraint = parse_constraint(0, {"id": "C1", **parse_constraint_argument(argument)})
    parameters = {"candidate": candidate, "baseline": baseline}
    names = analyze_sql(constraint.sql).parameters
    with guarded_queries(runs) as ask:
        return evaluate_constraint(
            constraint, ask(constraint.sql, {name: parameters[name] for name in names})
        )


@pytest.mark.parametrize("name", load_library())
def test_value_of_each_named_constraint_equals_the_lines(runs, name):
    """Two runs with superseded batches, shadow decisions, NaN, rollbacks and an adapter."""
    value, n = EXPECTED[name](runs)
    result = measure(runs, load_library()[name].example)

    assert result.n == n
    assert result.value == pytest.approx(value, rel=1e-12)


def test_evaluations_of_other_iterations_are_not_compared(runs):
    """The candidate evaluates last at iteration 59, the baseline at 49."""
    assert max(evaluations(runs, ADAPTED, "val_loss")) == 59
    assert max(evaluations(runs, FROZEN, "val_loss")) == 49


@pytest.mark.parametrize("name", ["loss_improves_by=0.02", "oq_delta_at_least=0"])
def test_common_evaluation_at_iteration_0_only_is_unknown(tmp_path, name):
    """An untrained model shows nothing about the change."""
    make_constraint_runs(tmp_path, stop_at=3)
    assert measure(tmp_path, name).state == "unknown"


def test_quotients_of_different_cost_are_unknown(tmp_path):
    """One run measures FLOPs for 8 tokens, the other for 16."""
    make_constraint_runs(tmp_path)
    make_constraint_runs(tmp_path / "other", inference_tokens=16)
    shutil.rmtree(tmp_path / "frozen")
    (tmp_path / "other" / "frozen").rename(tmp_path / "frozen")
    shutil.rmtree(tmp_path / "other")

    result = measure(tmp_path, "oq_delta_at_least=0")
    assert (result.state, result.value) == ("unknown", None)


@pytest.mark.parametrize(
    ("limits", "state"),
    [("0.1..0.4", "pass"), ("0.4..0.9", "pass"), ("0.400001..0.9", "fail"), ("0.1..0.399999", "fail")],
)
def test_limits_belong_to_the_range(limits, state):
    """Rounding of the middle and half of the range excludes no limit."""
    constraint = parse_constraint(
        0, {"id": "C1", **parse_constraint_argument(f"update_rate_between={limits}")}
    )
    assert evaluate_constraint(constraint, [{"value": 0.4, "n": 9}]).state == state


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_both_limits_of_any_range_pass(first, second):
    """The range is stored as its middle and half of its width."""
    low, high = sorted((first, second))
    item = {"id": "C1", "name": "update_rate_between", "low": low, "high": high}
    constraint = parse_constraint(0, item)
    for value in (low, high):
        assert evaluate_constraint(constraint, [{"value": value, "n": 9}]).state == "pass"


@pytest.mark.parametrize(
    ("argument", "text", "claim"),
    [
        (
            "loss_improves_by=2%",
            "The validation loss at the last common evaluation is more than 2 % below the baseline's",
            "> 0.02 ratio",
        ),
        (
            "revert_time_below=10,quantile=0.5",
            "Disabling the adapter takes less than 10 ms in 50 % of the cases",
            "< 10 ms",
        ),
        (
            "update_rate_between=0.5..0.7",
            "Between 50 % and 70 % of the batches with a finite loss are updated",
            "0.5 to 0.7 ratio",
        ),
        ("no_rollbacks", "The weights are never rolled back to the anchor", "== 0 rollbacks"),
    ],
)
def test_text_and_claim_are_generated(argument, text, claim):
    """The author writes a name and numbers."""
    constraint = parse_constraint(0, {"id": "C1", **parse_constraint_argument(argument)})
    assert (constraint.text, constraint.claim) == (text, claim)


@pytest.mark.parametrize("name", load_library())
def test_each_named_constraint_is_valid_sql_with_an_example(name):
    """Its SQL passes the rules for SQL of records, and no parameter is left in it."""
    resolved = resolve_constraint(parse_constraint_argument(load_library()[name].example))
    statement = analyze_sql(resolved.sql)
    assert statement.problems == ()
    assert statement.parameters <= {"baseline", "candidate"}
    assert "{" not in resolved.text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("loss_improve_by=0.02", "did you mean 'loss_improves_by'?"),
        ("xyz", "`ockham odr constraints` lists them"),
        ("loss_improves_by", "is written as loss_improves_by=0.02"),
        ("no_rollbacks=1", "is written as no_rollbacks"),
        ("update_rate_between=0.5", "is written as update_rate_between=0.5..0.7"),
        (
            "loss_improves_by=2",
            "is 2, which means 200 %; accepted: value (relative improvement): 0 to 1, where",
        ),
        ("loss_improves_by=a lot", "'a lot' is not a number"),
        ("loss_improves_by=nan", "not a number"),
        ("revert_time_below=10,0.5", "is not KEY=VALUE"),
        ("revert_time_below=10,quantil=0.5", "unknown parameter 'quantil'; accepted: value, quantile"),
        ("revert_time_below=10,low=1", "unknown parameter 'low'; accepted: value, quantile, judge, severity"),
        ("no_rollbacks,jugde=mean", "unknown parameter 'jugde'; accepted: judge, severity, min_n"),
        ("no_rollbacks,judge=men", "'judge' is 'men'; accepted: interval or mean"),
        ("no_rollbacks,severity=warning", "'severity' is 'warning'; accepted: error or warn"),
        ("no_rollbacks,min_n=0", "'min_n' is '0'; accepted: an integer from 1"),
        ("no_rollbacks,judge=mean,judge=mean", "'judge' is given twice"),
        ("loss_improves_by=1%,value=2%", "'value' is given twice"),
        ("NO_ROLLBACK", "did you mean 'no_rollbacks'?"),
        ("los_improves_by=1%,judge=men", "did you mean 'loss_improves_by'?"),
    ],
)
def test_argument_that_cannot_be_used_names_what_is_accepted(argument, message):
    """Names, parameters, numbers and ranges."""
    with pytest.raises(BadInputError, match=re.escape(message)):
        parse_constraint_argument(argument)


@settings(deadline=None)
@given(
    name=st.sampled_from(list(load_library())),
    options=st.fixed_dictionaries(
        {},
        optional={
            "judge": st.sampled_from(["interval", "mean"]),
            "severity": st.sampled_from(["error", "warn"]),
            "min_n": st.integers(1, 10**6),
        },
    ),
)
def test_options_of_an_argument_are_written_into_the_record(name, options):
    """The record that `new` writes has the same constraint, and no option at its default."""
    argument = ",".join([load_library()[name].example, *(f"{key}={value}" for key, value in options.items())])
    constraints = parse_constraints([argument])
    text = render_record(NewRecord("ODR-0001", "T", ["a"], dt.date(2026, 1, 1), constraints=constraints))
    (row,) = (row for row in text.splitlines() if "id: C1" in row)

    defaults = {"judge": "interval", "severity": "error", "min_n": load_library()[name].min_n}
    written = {key: value for key, value in options.items() if value != defaults[key]}
    assert {key for key in defaults if f", {key}: " in row} == written.keys()
    assert all(f", {key}: {value}" in row for key, value in written.items())
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), text, "0001-t.md")
        (record,) = lint_folder(Path(folder))
        assert record.claims.constraints == constraints


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("loss_improves_by=1", "is more than 100 % below the baseline's"),
        ("loss_improves_by=1%", "is more than 1 % below the baseline's"),
        ("no_rollbacks,judge=mean,min_n=3", "to the anchor (judge: mean, min_n: 3)"),
    ],
)
def test_described_constraint_shows_percent_and_options(argument, shown):
    """An author who writes 1 for 1 % sees it at once."""
    assert describe_constraint(parse_constraints([argument])[0]).endswith(shown)
