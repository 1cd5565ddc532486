"""Views and saved questions of the catalog, on real, empty and growing runs."""

from __future__ import annotations

import json
import math
import re
import shutil
import time

import orjson
import pyarrow as pa
import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import VIEWS, load_question, load_views, question_names
from ockham.errors import QueryError, UnverifiableError
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.parquet import builder
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.run import Run
from ockham.study.run_data import load_run_data
from tests.helpers.events import events, log_folder
from tests.helpers.log_edits import sign_log
from tests.helpers.resumed_run import resumed_run
from tests.helpers.runs import make_run

DOCUMENTED_VIEWS = set(
    "runs run_summary events decisions contexts acting_decisions current_batches current_steps "
    "measured_gauges gate_decisions compressor_decisions limiter_decisions "
    "memory_decisions hyperparameter_changes evaluations checkpoints policies reason_codes log_gaps "
    "rollbacks skipped_data people odrs odr_constraints odr_evidence ledger_events odr_findings".split()
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    make_run(folder, "a", nan_at=50)
    make_run(folder, "b", batches=40)
    return folder


@pytest.fixture(scope="module")
def catalog(runs):
    return Catalog(runs)


def test_views_without_runs_have_typed_columns(tmp_path):
    """Every documented view exists without runs, and its columns have types."""
    empty = Catalog(tmp_path / "nowhere")
    dictionary = empty.rows("select * from data_dictionary")
    assert {row["view"] for row in dictionary} >= DOCUMENTED_VIEWS
    for name in DOCUMENTED_VIEWS:
        table = empty.sql(f"select * from {name}")
        assert table.num_columns > 1
        if name != "reason_codes":
            assert table.num_rows == 0
        assert not [f.name for f in table.schema if pa.types.is_null(f.type)]


def test_view_schemas_do_not_depend_on_content(runs, tmp_path, catalog):
    """A view has the same schema with and without rows."""
    empty = Catalog(tmp_path)
    for name in DOCUMENTED_VIEWS:
        assert catalog.sql(f"select * from {name}").schema == empty.sql(f"select * from {name}").schema, name


def test_views_and_columns_have_comments(catalog):
    """Every view has a comment, and all columns of `decisions` have one."""
    rows = catalog.rows("select view, any_value(view_comment) as c from data_dictionary group by view")
    assert all(row["c"] for row in rows)
    assert {view.name for view in load_views()} == set(VIEWS)
    keys = catalog.rows("select comment from data_dictionary where view = 'decisions'")
    assert all(row["comment"] for row in keys)


def test_views_contain_all_events_and_decisions_of_logs(runs, catalog):
    """The views contain every line of the log as an event, and every decision."""
    lines = events(RunFolder(runs, "a"))
    decisions = [e for e in lines if e["type"] == "ockham.decision.made.v1"]
    assert catalog.rows("select count(*) n from events where run_id = 'a'")[0]["n"] == len(lines)
    rows = catalog.rows("select * from decisions where run_id = 'a' order by sequence")
    assert [r["decision_id"] for r in rows] == [e["id"] for e in decisions]
    assert [r["observed"] for r in rows if r["plugin"] == "gate"][:5] == [
        e["data"]["observed"] for e in decisions if e["data"]["plugin"] == "gate"
    ][:5]


def test_run_summary_equals_run_finished_event(runs, catalog):
    """The rates of the view equal the rates in run.finished."""
    row = catalog.rows("select * from run_summary where run_id = 'a'")[0]
    finished = events(RunFolder(runs, "a"))[-1]["data"]
    assert row["state"] == "COMPLETED"
    assert row["batches"] == finished["batches"]
    assert row["batches"] == 120
    assert row["nonfinite"] == 1
    assert row["finite_batches"] == 119
    assert row["update_rate"] == pytest.approx(finished["update_rate"])
    assert row["accept_rate"] == pytest.approx(finished["accept_rate"])
    assert row["accepted"] == finished["accepted"]
    assert row["accepted"] > 0


def test_nonfinite_loss_is_nan_in_contexts(catalog):
    """A NaN loss is NaN in SQL, not text and not NULL."""
    row = catalog.rows(
        "select isnan(task_loss) as nan, updated from contexts "
        "where run_id = 'a' and iter_num = 50 and hook = 'batch'"
    )[0]
    assert row == {"nan": True, "updated": False}


def test_gate_and_memory_views_contain_verdicts_and_limits(catalog):
    """The views contain verdict and margin of the gate, and failed gate and quotients of the memory."""
    mismatches = (
        "select count(*) n from gate_decisions "
        "where updated <> (action = 'UPDATE') or abs(margin - (observed - threshold)) > 0"
    )
    assert catalog.rows(mismatches)[0]["n"] == 0
    first = catalog.rows(
        "select * from memory_decisions where accepted and run_id = 'a' order by sequence limit 1"
    )[0]
    assert first["reason_code"] == "ACCEPTED_FIRST_VALID"
    assert first["baseline_quotient"] is None
    assert first["occam_quotient"] > 0


def test_renamed_gate_plugin_is_in_gate_decisions(tmp_path):
    """The policy defines the kind of a plugin, not its name."""
    (tmp_path / "p.yaml").write_text(
        "name: mine\nplugins:\n  finite: {}\n  surprise: {use: gate, target: 0.5}\n"
    )
    make_run(tmp_path / "runs", policy=str(tmp_path / "p.yaml"), batches=30)
    assert Catalog(tmp_path / "runs").rows("select distinct plugin from gate_decisions") == [
        {"plugin": "surprise"}
    ]


def test_plugin_name_of_two_kinds_is_resolved_per_policy(tmp_path):
    """The same plugin name can have different kinds in different policies."""
    policy = tmp_path / "swapped.yaml"
    policy.write_text(
        "name: swapped\nplugins:\n  finite: {}\n  gate: {use: limiter, grad_norm_ceiling: 0.1}\n"
        "  wall: {use: gate, target: 0.5}\n"
    )
    make_run(tmp_path / "runs", "swapped", policy=str(policy), batches=30)
    make_run(tmp_path / "runs", "usual", batches=30)
    catalog = Catalog(tmp_path / "runs")
    rows = catalog.rows("select run_id, plugin, count(*) n from gate_decisions group by all order by run_id")
    assert rows == [
        {"run_id": "swapped", "plugin": "wall", "n": 30},
        {"run_id": "usual", "plugin": "gate", "n": 30},
    ]
    limiter_rows = catalog.rows("select distinct plugin from limiter_decisions where run_id = 'swapped'")
    assert "gate" in {row["plugin"] for row in limiter_rows}


def test_lineage_question_returns_decision_of_checkpoint(catalog):
    """The saved question `lineage` returns the decisions that led to a checkpoint."""
    name = catalog.rows(
        "select snapshot_id from checkpoints where kind = 'accepted' and run_id = 'a' limit 1"
    )[0]["snapshot_id"]
    rows = catalog.ask("lineage", snapshot=name, run="a").to_pylist()
    assert rows[0]["reason_code"].startswith("ACCEPTED")
    assert len(rows[0]["log_root"]) == 64


@pytest.mark.parametrize("name", question_names())
def test_saved_questions_run_with_and_without_runs(catalog, name):
    """Every saved question has a text, which may explain it, and runs on real runs and without runs."""
    question = load_question(name)
    assert re.fullmatch(r"[^?]+\?( .+\.)?", question.question)
    values = {"run": "a", "run_a": "a", "run_b": "b", "iter": 5, "snapshot": "accepted-00000019"}
    assert catalog.ask(name, **{key: values[key] for key in question.parameters}).num_columns > 1
    assert re.fullmatch(r"[a-z_]+", name)


def test_saved_questions_are_at_least_fifteen():
    """At least fifteen saved questions exist."""
    assert len(question_names()) >= 15


def test_run_filter_limits_catalog_and_questions(runs):
    """`run_ids` limits the catalog, and `ask(run=...)` limits a question."""
    only = Catalog(runs, run_ids=["b"])
    assert only.rows("select distinct run_id from events") == [{"run_id": "b"}]
    assert {r["run_id"] for r in Catalog(runs).ask("decisions_by_reason", run="b").to_pylist()} == {"b"}


def test_live_run_is_read_without_duplicates(tmp_path):
    """Lines without Parquet files are read, each of them once."""
    catalog = Catalog(tmp_path)
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        count = "select count(*) n from contexts"
        for i in range(30):
            run.end_batch(run.start_batch(i, 2.0))
            if i in (9, 19):
                run.flush()
                assert catalog.rows(count)[0]["n"] == i + 1
        assert catalog.rows("select state from runs") == [{"state": "UNFINISHED"}]
    assert catalog.rows(count)[0]["n"] == 30
    assert catalog.rows("select state from runs") == [{"state": "COMPLETED"}]


def test_incomplete_line_is_ignored_and_signed_invalid_line_is_an_error(tmp_path):
    """An incomplete last line is not an event. A signed invalid line is an error with its location."""
    run = make_run(tmp_path, batches=20)
    for kind in ("contexts", "decisions", "events"):
        for path in (run.folder.path / kind).rglob("*.parquet"):
            path.unlink()
    segment = run.folder.segments(1, 0)[0]
    count = segment.read_bytes().count(b"\n")
    with segment.open("ab") as file:
        file.write(b'{"specversion":"1.0","id":"x')
    assert Catalog(tmp_path).rows("select count(*) n from events")[0]["n"] == count
    with segment.open("ab") as file:
        file.write(b"\n")
    sign_log(run.folder)
    with pytest.raises(UnverifiableError, match=r"000000000000\.jsonl: line"):
        Catalog(tmp_path)


def test_new_batch_is_visible_within_two_seconds(tmp_path):
    """New batches are visible while the log grows and its last line is incomplete."""
    from ockham.record.log_writer import LogWriter
    from tests.helpers.events import REVISION, decision, run_folder

    folder = run_folder(tmp_path)
    log = LogWriter(folder, 1, 0, policy_revision=REVISION)
    log.append("decision.made", decision(0), iter_num=0)
    log.flush()
    # The second rank was killed while it wrote a line.
    torn = RunFolder(tmp_path, "a").log_dir(1, 1)
    torn.mkdir()
    line = folder.segments(1, 0)[0].read_bytes()
    (torn / "000000000000.jsonl").write_bytes(line.replace(b'"rank":0', b'"rank":1') + line[:100])
    live = Catalog(tmp_path)
    for i in range(1, 6):
        log.append("decision.made", decision(i), iter_num=i)
        appended = time.monotonic()
        while live.rows("select max(iter_num) as last from decisions")[0]["last"] < i:
            assert time.monotonic() - appended < 60
            time.sleep(0.01)
    log.close()
    assert live.rows("select rank, count(*) as n from decisions group by all order by all") == [
        {"rank": 0, "n": 6},
        {"rank": 1, "n": 1},
    ]


@pytest.mark.parametrize("sandboxed", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_query_during_compaction_returns_every_row_once(tmp_path, monkeypatch, sandboxed, times):
    """If files are removed after the scan, the catalog scans again and returns every row once."""
    folder = log_folder(tmp_path, 60)
    monkeypatch.setattr(builder, "_compact", lambda *_, **__: None)
    update_parquet(folder, 1, 0, last=True)
    monkeypatch.undo()
    catalog = Catalog(tmp_path, sandboxed=sandboxed)
    execute, removals_left = catalog._execute, iter(range(times))

    def remove_files_first(*arguments):
        if next(removals_left, None) is not None:
            for kind in PARQUET_TABLES:
                for day in (folder.path / kind).glob("day=*"):
                    shutil.rmtree(day)
            update_parquet(folder, 1, 0, last=times % 2 == 1)
        return execute(*arguments)

    monkeypatch.setattr(catalog, "_execute", remove_files_first)
    [row] = catalog.rows(
        "select count(*) as n, count(distinct sequence) as sequences, max(time) as last from events"
    )
    assert row["n"] == 66
    assert row["sequences"] == 66


def test_invalid_query_without_file_changes_is_not_repeated(catalog, monkeypatch):
    """An invalid query is not repeated if the files have not changed."""
    calls, execute = [], catalog._execute

    def count_and_execute(*arguments):
        calls.append(arguments)
        return execute(*arguments)

    monkeypatch.setattr(catalog, "_execute", count_and_execute)
    with pytest.raises(QueryError):
        catalog.sql("select nothing from decisions")
    assert len(calls) == 1


def test_superseded_rows_are_marked_and_not_counted(tmp_path):
    """Rows after the resume point of a later attempt are superseded, and no rate counts them."""
    resumed_run(tmp_path)
    catalog = Catalog(tmp_path)
    counted = catalog.rows("select attempt, superseded, count(*) n from contexts group by all order by all")
    assert counted == [
        {"attempt": 1, "superseded": False, "n": 10},
        {"attempt": 1, "superseded": True, "n": 10},
        {"attempt": 2, "superseded": False, "n": 15},
    ]
    assert catalog.rows("select batches, last_iter from run_summary") == [{"batches": 25, "last_iter": 24}]


def test_update_rate_with_nan_in_shadow_mode_is_at_most_one(tmp_path):
    """In shadow mode the chain allows a NaN batch, but the update rate does not count it."""
    with Run("observe", runs=tmp_path, run_id="a") as run:
        for i, loss in enumerate([math.nan, 2.0, 3.0, math.nan]):
            ctx = run.end_batch(run.start_batch(i, loss), stepped=math.isfinite(loss))
    assert ctx.update_rate == 1.0
    assert run.rates()["update_rate"] == 1.0
    assert load_run_data(tmp_path, "a").update_rate == 1.0
    rows = Catalog(tmp_path).rows(
        "select update_rate, updated_batches, skipped_batches, nonfinite from run_summary"
    )
    assert rows == [{"update_rate": 1.0, "updated_batches": 2, "skipped_batches": 2, "nonfinite": 2}]


def test_length_and_settings_of_an_extended_run_are_those_of_the_newest_attempt(tmp_path):
    """run.json describes the first attempt only."""

    def keep(metadata, state):
        return CheckpointFiles({"state.json": orjson.dumps(state)}, "0" * 64)

    resumed = None
    for length in (6, 9, 12):
        options = {"facts": {"max_iters": length}, "settings": {"lr": length / 1000}}
        with Run("observe", runs=tmp_path, run_id="a", resumed=resumed, **options) as run:
            if resumed is not None:
                run.load_state_dict(resumed.state["run"])
            for i in range(length - 3, length):
                ctx = run.end_batch(run.start_batch(i, 2.0))
            run.save_checkpoint(ctx, "resume", keep)
        resumed = find_resume_point(tmp_path, "a")
        row = Catalog(tmp_path).rows("select max_iters, settings, attempts from runs")[0]
        assert row["max_iters"] == length
        assert json.loads(row["settings"])["lr"] == length / 1000
    assert row["attempts"] == 3


def test_quotient_of_resumed_run_is_from_last_attempt(tmp_path):
    """The sequence starts at 0 in each attempt, so the attempt decides which quotient is the last."""

    def pack_state(metadata, state):
        return CheckpointFiles({"state.json": orjson.dumps(state)}, "0" * 64)

    facts = {"model_params": 1000, "vocab_size": 256}
    with Run(plugins=[], runs=tmp_path, run_id="a", facts=facts) as run:
        for i in range(9):
            ctx = run.end_batch(run.start_batch(i, 4.0))
        run.evaluate(ctx, 4.0)
        ctx = run.end_batch(run.start_batch(9, 4.0))
        run.save_checkpoint(ctx, "resume", pack_state)
    start = find_resume_point(tmp_path, "a")
    with Run(runs=tmp_path, run_id="a", facts=facts, resumed=start) as run:
        run.load_state_dict(start.state["run"])
        run.evaluate(run.end_batch(run.start_batch(10, 2.0)), 2.0)
        ctx = run.end_batch(run.start_batch(11, 2.0))
    [row] = Catalog(tmp_path).rows("select val_loss, occam_quotient from run_summary")
    assert row == {"val_loss": 2.0, "occam_quotient": ctx.occam_quotient}


def test_rates_are_compared_with_band_from_200_batches(tmp_path):
    """A rate of 40 batches is not compared with the band. A rate of 200 batches is."""
    policy = tmp_path / "mine.yaml"
    policy.write_text("extends: balanced\ntargets: {accept_rate: [0.05, 0.15]}\n")
    for run_id, batches in (("few", 40), ("many", 200)):
        make_run(tmp_path / "runs", run_id, batches=batches, policy=policy)
    rows = Catalog(tmp_path / "runs").ask("bands").to_pylist()
    few, many = sorted(rows, key=lambda row: row["run_id"])
    assert few["update_in_band"] is None
    assert few["accept_in_band"] is None
    assert many["update_in_band"] is True
    assert many["accept_in_band"] is not None


def test_incomplete_line_after_crash_is_not_a_gap(tmp_path):
    """A recovered incomplete line is not a gap. Missing events of the log are."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        cut = {"kept_events": 1, "cut_bytes": 9, "cut_sha256": "0" * 64, "cut_file": "log/1-0/torn/0.9"}
        run.emit("log.recovered", cut)
    assert Catalog(tmp_path).ask("trouble").num_rows == 0
    with Run(plugins=[], runs=tmp_path, run_id="b") as run:
        run.emit("log.gap", {"from_attempt": 1, "from_sequence": 3, "reason_code": "ENOSPC", "count": 4})
    assert Catalog(tmp_path).ask("trouble").to_pylist() == [{"run_id": "b", "kind": "gap", "n": 4}]


def test_uncited_question_ignores_acceptance_in_shadow_mode(tmp_path):
    """A memory in shadow mode saves no checkpoint, so no decision record is missing."""
    make_run(tmp_path, "a", batches=40, policy="observe")
    assert Catalog(tmp_path).rows("select count(*) n from memory_decisions where accepted")[0]["n"] > 0
    assert Catalog(tmp_path).ask("uncited").num_rows == 0


def test_invalid_question_or_parameter_raises_query_error(catalog):
    """The messages contain the most similar question, the accepted parameters, or DuckDB's error."""
    with pytest.raises(QueryError, match="did you mean 'refusals'"):
        catalog.ask("refusal")
    with pytest.raises(QueryError, match="accepted: none"):
        catalog.ask("refusals", limit=3)
    with pytest.raises(QueryError, match="Binder Error"):
        catalog.sql("select nothing from decisions")
    for name in ("refusals", "why_skipped"):
        with pytest.raises(QueryError, match=r"'c': run not found in .*; existing runs: a, b"):
            catalog.ask(name, run="c")


def test_settings_hold_in_every_session(catalog):
    """Each query has its own cursor, which has only the settings of all sessions."""
    sql = "select current_setting('timezone'), current_setting('python_enable_replacements')"
    for session in (catalog.connection, catalog.connection.cursor()):
        assert session.execute(sql).fetchall() == [("UTC", False)]


def test_python_variable_is_not_a_table(catalog):
    """DuckDB can read local Python variables as tables, but the catalog does not allow it."""
    secret = pa.table({"a": [1]})
    with pytest.raises(QueryError):
        catalog.sql("select * from secret")
    assert secret.num_rows == 1
