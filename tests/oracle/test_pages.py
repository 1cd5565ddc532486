"""Numbers of the dashboard against the lines of generated runs."""

from __future__ import annotations

import inspect
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham import resources
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.run import Run
from tests.helpers.example_counts import examples
from tests.helpers.log_edits import change_event, sign_log
from tests.oracle import decision_pages, pages, run_pages, workbench
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.generated_runs import FACTS, Scenario, scenarios, write_run, written_runs
from tests.oracle.log_lines import contexts, read_run, read_settings

# Page queries without figures of the logs, with the reason.
ELSEWHERE = {
    "checkpoint_files": "names and digests of files; tests/dashboard/test_checkpoints.py",
    "citations": "decision records; tests/odr/test_arrow_tables.py",
    "decision_checkpoints": "names of files; tests/dashboard/test_checkpoints.py",
    "gate_sweep_setting": "text of a command; tests/dashboard/test_pages.py",
    "odr_claims": "decision records; tests/odr/test_arrow_tables.py",
    "odr_findings": "decision records; tests/odr/test_arrow_tables.py",
    "odr_list": "decision records; tests/odr/test_arrow_tables.py",
    "odr_sides": "decision records; tests/odr/test_arrow_tables.py",
    "people_of_decision": "what people did; tests/dashboard/test_pages.py",
    "people_of_run": "what people did; tests/dashboard/test_pages.py",
    "run_header": "state and policy; tests/dashboard/test_header.py",
    "search": "names; tests/dashboard/test_checkpoints.py",
}
BY_RUN = (
    "adapter_status",
    "control_decisions",
    "evaluation_points",
    "gate_bins",
    "gate_reasons",
    "iteration_range",
    "log_gaps",
    "margin_histogram",
    "memory_funnel",
    "memory_points",
    "oq_gain",
    "run_bands",
    "run_near_misses",
    "run_ranks",
    "run_thresholds",
    "skip_streaks",
    "sparklines",
)
BY_RANGE = ("overshoot", "plugin_bins", "run_bins", "served_bins", "timeline_events")
KNOBS = ("learning_rate", "surprise_threshold")
OF_DECISIONS = (
    "adjacent_decisions",
    "batch_decisions",
    "decision",
    "decisions_by_id_prefix",
    "knob_changes_of_batch",
    "knob_most_changed",
    "recent_decisions",
)
# Queries that find the run by the decision.
BY_DECISION = ("decision", "decisions_by_id_prefix")
OF_SEVERAL_RUNS = (
    "disagreement",
    "policy_differences",
    "run_pair",
    "workbench",
    "workbench_curves",
    "workbench_equal",
    "workbench_savings",
)
ORACLES = {
    name: function
    for module in (pages, run_pages, decision_pages)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
}


def test_every_page_query_has_an_oracle_or_a_reason():
    """A new page query cannot be forgotten."""
    names = {path.stem for path in (resources.sql_dir() / "pages").glob("*.sql")}
    compared = {*BY_RUN, *BY_RANGE, *OF_DECISIONS, *OF_SEVERAL_RUNS}
    assert compared | ELSEWHERE.keys() == names
    assert not compared & ELSEWHERE.keys()


@settings(max_examples=examples(6), deadline=None)
@given(cases=st.lists(scenarios(), min_size=1, max_size=2))
def test_page_numbers_equal_the_lines(cases):
    """Every number of every page has no difference."""
    with written_runs(cases) as runs:
        compare_pages(runs)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(batches=130, micro_steps=4),
        Scenario(batches=700, policy="tight", nonfinite=(3, 100, 101)),
        Scenario(batches=120, resumed=(40, 80), world_size=2),
        Scenario(batches=620, policy="adapt", micro_steps=4, evaluation_interval=4, killed=True),
        Scenario(batches=80, resumed=(40, 60), killed=True, repaired=True),
    ],
    ids=["accumulation", "several batches per bin", "resumed ranks", "adapter", "killed and repaired"],
)
def test_page_numbers_of_longer_runs_equal_the_lines(scenario):
    """Bins contain several batches."""
    with written_runs([scenario]) as runs:
        compare_pages(runs)


def test_evaluations_of_one_iteration_keep_their_order(tmp_path):
    """A point of several evaluations shows the last one, also if all are of the same iteration."""
    with Run(policy="observe", runs=tmp_path, run_id="r0", facts=FACTS) as run:
        for i in range(60):
            ctx = run.end_batch(run.start_batch(i, 3.0), stepped=True)
            for number in range(3):
                run.evaluate(ctx, 3.0 - i / 60 + (number % 2) / 9, tokens=100)
    compare_pages(tmp_path)


@pytest.mark.parametrize("code", ["INVALID_BASELINE", "REJECTED_INCOMPARABLE"])
def test_rejected_candidate_names_the_gate_at_which_it_failed(tmp_path, code):
    """Codes that generated runs do not have."""
    write_run(tmp_path, "r0", Scenario(batches=20))
    folder = RunFolder(tmp_path, "r0")
    change_event(
        folder, "decision.made", lambda data: data.update(action="REJECT", reason_code=code), 1, "memory"
    )
    sign_log(folder)
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind)
    compare_pages(tmp_path)


def compare_pages(runs):
    """Compare all page queries. Return the number of compared values."""
    lines = {path.name: read_run(path) for path in sorted(runs.iterdir())}
    catalog, compared = Catalog(runs), 0
    for name, parameters, expected in page_calls(runs, lines):
        found = catalog.rows(load_page_query(name).sql, parameters)
        try:
            compared += assert_equal_rows(found, expected)
        except AssertionError as error:
            raise AssertionError(f"{name} {parameters}: {error}") from error
    return compared


def page_calls(runs, lines):
    """Return name, parameters and expected rows of each call."""
    yield "workbench", {}, list(map(workbench.workbench, lines.values()))
    yield from workbench_calls(runs, lines)
    first = next(iter(lines))
    for run_id, rows in lines.items():
        for name in BY_RUN:
            yield name, {"run": run_id}, ORACLES[name](rows)
        last = max((batch.iter_num for batch in contexts(rows)), default=0)
        for name, parameters in [*range_calls(last), *decision_calls(rows, last)]:
            run = {} if name in BY_DECISION else {"run": run_id}
            yield name, {**run, **parameters}, ORACLES[name](rows, *parameters.values())
        for name in ("run_pair", "disagreement"):
            yield name, {"run": first, "other": run_id}, ORACLES[name](lines[first], rows)
        settings = [read_settings(runs / name) for name in (first, run_id)]
        differences = run_pages.policy_differences(*settings)
        yield "policy_differences", {"run": first, "other": run_id}, differences


def workbench_calls(runs, lines):
    """Return the calls about several runs: all of them, and with each as baseline."""
    for name in lines:
        workbench.read_times(runs / name)
    chosen = list(lines)
    yield "workbench_curves", {"runs": chosen}, workbench.workbench_curves(lines)
    for basis in ("iterations", "compute"):
        yield "workbench_equal", {"runs": chosen, "basis": basis}, workbench.workbench_equal(lines, basis)
    documents = {name: json.loads((runs / name / "run.json").read_bytes()) for name in lines}
    digests = {name: document.get("data", {}).get("sha256") for name, document in documents.items()}
    for baseline, floor in (("", 2.5), (chosen[0], None)):
        limits = {"quality_floor": floor, "margin": 0.01, "price": None}
        expected = workbench.workbench_savings(lines, baseline, digests, floor)
        yield "workbench_savings", {"runs": chosen, "baseline": baseline, **limits}, expected


def range_calls(last):
    """Return the calls of pages with a range of iterations: the whole run, and a part of it."""
    ranges = [{"low": 0, "high": last}, {"low": last // 3, "high": last // 2}]
    return [(name, limits) for name in BY_RANGE for limits in ranges]


def decision_calls(rows, last):
    """Return the calls of pages about decisions: each plugin, three decisions, some iterations."""
    made = [row for row in rows if row.kind == "decision.made"]
    whole = {"low": 0, "high": last}
    calls = [("recent_decisions", {**whole, "plugin": "", "action": "", "shadow": ""})]
    kinds = {(row.data["plugin"], row.data["action"]) for row in made}
    calls += [
        ("recent_decisions", {**whole, "plugin": p, "action": a, "shadow": shadow})
        for p, a in sorted(kinds)
        for shadow in ("true", "false")
    ]
    for field in KNOBS:
        calls.append(("knob_most_changed", {"field": field}))
        iterations = range(last % 7, last + 1, max(7, last // 6))
        calls += [("knob_changes_of_batch", {"iter": at, "field": field}) for at in iterations]
    for at in {0, last // 2, last}:
        calls += [("batch_decisions", {"iter": at, "on_rank": rank}) for rank in (0, 1)]
    for row in made[:: max(1, len(made) // 3)]:
        calls += [("adjacent_decisions", {"id": row.id}), ("decision", {"id": row.id})]
        calls += [("decisions_by_id_prefix", {"beginning": row.id[:size]}) for size in (5, len(row.id))]
    return calls
