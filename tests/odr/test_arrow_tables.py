import pytest

from ockham.catalog import ODR_SCHEMAS
from ockham.odr.arrow_tables import build_odr_tables, load_odr_tables
from ockham.odr.record_data import Constraint
from ockham.odr.verdict import CheckResult, OqDelta, PairDelta, PairStatistics, Result
from tests.helpers.odr_cli import run_odr
from tests.odr.record_samples import GOOD, TODAY, judgement, lint, put
from tests.odr.small_runs import make_run


def test_tables_of_a_folder_have_unknown_values_as_null(tmp_path):
    """Records, constraints, evidence and findings."""
    put(tmp_path / "odr", GOOD)
    put(tmp_path / "odr", judgement(2, "draft", "ODR-0001"), "0002-a.md")
    put(tmp_path / "odr", b"\xff", "0003-a.md")
    tables = load_odr_tables(tmp_path / "odr", TODAY)

    assert tables["odrs"].column("odr_id").to_pylist() == ["ODR-0001", "ODR-0002", None]
    assert tables["odrs"].column("supersedes").to_pylist() == [[], ["ODR-0001"], []]
    assert tables["odrs"].column("errors").to_pylist() == [0, 0, 1]
    assert tables["odr_constraints"].select(["constraint_id", "threshold", "state"]).to_pylist() == [
        {"constraint_id": "C1", "threshold": 0.5, "state": None},
        {"constraint_id": "C2", "threshold": 0.02, "state": None},
    ]
    assert tables["odr_evidence"].column("decision_id").to_pylist() == [
        "0192f3a1-7c1e-7b3a-9d55-0a1b2c3d4e5f",
        "0192f3a2",
    ]
    assert tables["odr_findings"].column("code").to_pylist() == ["ODR706", "ODR003"]


def test_tables_contain_check_results_next_to_claims(tmp_path):
    """Results are passed by display path."""
    put(tmp_path / "odr", GOOD)
    records = lint(tmp_path / "odr")
    results = (Result(Constraint(1, "C2", "t", "", ">", 0.02), "fail", 0.01, 9, "", "ODR510"),)
    tables = build_odr_tables(
        records, {records[0].display_path: CheckResult("ODR-0001", "REVERT", 0.1, results, ())}
    )

    assert tables["odrs"].select(
        ["claimed_verdict", "verdict", "claimed_oq_delta", "oq_delta"]
    ).to_pylist() == [
        {"claimed_verdict": "KEEP", "verdict": "REVERT", "claimed_oq_delta": 0.4, "oq_delta": 0.1}
    ]
    assert tables["odr_constraints"].column("state").to_pylist() == [None, "fail"]


def test_tables_contain_interval_and_p_of_several_pairs(tmp_path):
    """A constraint over one pair has none."""
    put(tmp_path / "odr", GOOD)
    records = lint(tmp_path / "odr")
    pairs = PairStatistics(3, 0.03, 0.01, 0.05, 0.2)
    constraint = Constraint(1, "C2", "t", "", ">", 0.02)
    results = (Result(constraint, "unknown", 0.03, 9, "wide", "ODR516", (), pairs),)
    oq = OqDelta(0.1, "tokens", (PairDelta("base", "cand", 1500.0, 0.1),))
    result = CheckResult("ODR-0001", "INCONCLUSIVE", 0.1, results, (), None, oq)
    tables = build_odr_tables(records, {records[0].display_path: result})

    columns = ["judge", "value", "n_pairs", "interval_low", "interval_high", "p_value"]
    assert [list(row.values()) for row in tables["odr_constraints"].select(columns).to_pylist()] == [
        ["interval", None, None, None, None, None],
        ["interval", 0.03, 3, 0.01, 0.05, 0.2],
    ]
    assert tables["odrs"].column("oq_delta_at").to_pylist() == ["at 1,500 tokens"]


def test_tables_of_a_missing_folder_are_empty_and_typed(tmp_path):
    """Every column exists."""
    tables = load_odr_tables(tmp_path / "none")
    assert {name: table.schema for name, table in tables.items()} == ODR_SCHEMAS
    assert {table.num_rows for table in tables.values()} == {0}


def test_attested_results_fill_the_tables(tmp_path, monkeypatch):
    """Until the file changes. The ledger is a table too."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "base", loss=2.0)
    make_run(tmp_path / "runs", "cand", loss=1.8)
    run_odr("new", "T", "--baseline", "base", "--candidate", "cand", "--owner", "a")
    tables = load_odr_tables(tmp_path / "odr", TODAY, tmp_path / "runs")
    assert (tables["odrs"]["verdict"].to_pylist(), tables["ledger_events"].num_rows) == ([None], 0)

    event_id = run_odr("check", "--fix", "--attest").stderr.split("attested as ")[1].split()[0]
    tables = load_odr_tables(tmp_path / "odr", TODAY, tmp_path / "runs")
    row = tables["odrs"].to_pylist()[0]
    assert (row["verdict"], row["checked"], row["attestation_id"]) == ("KEEP", True, event_id)
    assert row["oq_delta"] == pytest.approx(2.0 / 1.8 - 1)
    constraint = tables["odr_constraints"].to_pylist()[0]
    assert (constraint["state"], constraint["n"]) == ("pass", 3)
    assert constraint["value"] == pytest.approx(1.8 / 2.0 - 1)
    ledger = tables["ledger_events"].to_pylist()
    assert [(event["position"], event["event_id"], event["odr_id"]) for event in ledger] == [
        (0, event_id, "ODR-0001")
    ]

    file = tmp_path / "odr" / "0001-t.md"
    file.write_text(file.read_text().replace("Describe the change", "Changed"))
    tables = load_odr_tables(tmp_path / "odr", TODAY, tmp_path / "runs")
    assert tables["odrs"]["verdict"].to_pylist() == [None]
    assert tables["odr_constraints"]["state"].to_pylist() == [None]
