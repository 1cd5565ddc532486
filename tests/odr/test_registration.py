"""Pre-registration: proven only by the ledger's root in the first event of the candidate."""

from __future__ import annotations

import re
import shutil

import orjson
import pytest

from ockham.errors import BadInputError
from ockham.odr.check import check
from ockham.odr.lint import lint_folder
from ockham.odr.output_formats import format_text
from ockham.odr.records_folder import read_folder
from ockham.record.ledger import append_entry, read_entries
from tests.helpers.odr_cli import run_odr
from tests.helpers.runs import make_run
from tests.odr.checked_record import answering
from tests.odr.record_samples import TODAY

CONSTRAINTS = """constraints:
  - id: C1
    text: Updates at most every batch
    sql: SELECT avg(updated::INT) AS value, count(*) AS n FROM gate_decisions WHERE run_id = $candidate
    op: "<="
    threshold: 0.9
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A registered draft. The candidate then runs and is named as evidence."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "base", 30)
    append_entry(
        tmp_path / "runs",
        "odr.registered",
        {"odr_id": "ODR-0099", "title": "", "odr_sha256": "0" * 64, "constraints": []},
    )
    run_odr("new", "Skip more", "--owner", "a")
    file = tmp_path / "odr" / "0001-skip-more.md"
    file.write_text(
        file.read_text()
        .replace("constraints: []\n", CONSTRAINTS)
        .replace(
            "None yet: say what must hold, and how the log shows it.", "- [ ] C1 Updates at most every batch"
        )
    )
    run_odr("register", "1")
    return tmp_path / "odr"


def judged(folder, runs="runs"):
    record = lint_folder(folder)[0]
    judgement = check(record, [folder.parent / runs], answering(lambda *_: [{"value": 0.6, "n": 30}]), TODAY)
    return (
        judgement,
        [f"{f.code} {f.message}" for f in record.findings if f.code not in {"ODR511", "ODR706"}],
        record,
    )


def with_candidate(folder, batches=30):
    make_run(folder.parent / "runs", "cand", batches)
    run_odr("evidence", "1", "--baseline", "base", "--candidate", "cand")


def test_registration_before_the_run_is_proven(folder):
    """The candidate names the ledger."""
    with_candidate(folder)
    judgement, findings, record = judged(folder)
    assert findings == []
    metadata = judgement.registration
    assert (metadata.event_id, metadata.position, metadata.size) == (record.claims.registered, 1, 2)
    assert "before cand started: line 2 of 2" in format_text([], [record], {record.display_path: judgement})
    append_entry(
        folder.parent / "runs",
        "odr.registered",
        {"odr_id": "ODR-0098", "title": "", "odr_sha256": "0" * 64, "constraints": []},
    )
    # A later registration has no effect.
    assert judged(folder)[0].registration == metadata


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threshold: 0.9", "threshold: 0.99", "C1.threshold is 0.99, registered was 0.9"),
        ('op: "<="', 'op: "<"', "C1.op is '<', registered was '<='"),
        ("run_id = $candidate", "run_id = $baseline", "C1.sql is"),
        ("    threshold: 0.9", "    threshold: 0.9\n    severity: warn", "C1.severity is 'warn'"),
    ],
)
def test_changed_criterion_is_reported(folder, old, new, message):
    """The registration fixed it."""
    with_candidate(folder)
    file = next(folder.glob("0001*"))
    file.write_text(file.read_text().replace(old, new))
    judgement, findings, _ = judged(folder)
    assert judgement.registration is None
    assert next(f for f in findings if f.startswith("ODR411")).startswith(f"ODR411 {message}")


def test_added_or_removed_constraint_is_reported(folder):
    """The list was fixed too."""
    with_candidate(folder)
    file = next(folder.glob("0001*"))
    file.write_text(file.read_text().replace("id: C1", "id: C2").replace("- [ ] C1", "- [ ] C2"))
    assert [f for f in judged(folder)[1] if f.startswith("ODR411")] == [
        "ODR411 C1 was removed since",
        "ODR411 C2 was added since",
    ]


def test_earlier_run_proves_nothing(folder):
    """Runs of another folder have another ledger."""
    run_odr("evidence", "1", "--candidate", "base")
    assert judged(folder)[1] == ["ODR412 run base started without a ledger"]
    other = folder.parent / "elsewhere"
    append_entry(
        other,
        "odr.registered",
        {"odr_id": "ODR-0099", "title": "", "odr_sha256": "0" * 64, "constraints": []},
    )
    make_run(other, "cand", 30)
    shutil.copytree(other / "cand", folder.parent / "runs" / "cand")
    run_odr("evidence", "1", "--candidate", "cand")
    assert judged(folder)[1] == ["ODR412 run cand began when the ledger had 1 lines, and this is line 2"]
    append_entry(
        other,
        "odr.registered",
        {"odr_id": "ODR-0097", "title": "", "odr_sha256": "0" * 64, "constraints": []},
    )
    make_run(other, "late", 30)
    shutil.copytree(other / "late", folder.parent / "runs" / "late")
    run_odr("evidence", "1", "--candidate", "late")
    assert judged(folder)[1][0].startswith("ODR412 the ledger is not the one that run late ")


def test_missing_baseline_is_reported(folder):
    """A constraint needs both sides."""
    with_candidate(folder)
    file = next(folder.glob("0001*"))
    before = file.read_bytes()
    with pytest.raises(BadInputError, match="has the baseline base; pass --baseline base"):
        run_odr("evidence", "1", "--candidate", "cand")
    assert file.read_bytes() == before


def test_changed_ledger_is_reported(folder):
    """The root differs from the one in the run."""
    with_candidate(folder)
    segment = next((folder.parent / "runs" / "_ledger" / "log" / "2-0").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"threshold":0.9', b'"threshold":0.8'))
    file = next(folder.glob("0001*"))
    file.write_text(file.read_text().replace("threshold: 0.9", "threshold: 0.8"))
    assert judged(folder)[1][0].startswith("ODR412 the ledger is not the one")


def test_unknown_registration_is_reported(folder):
    """Also one of another record."""
    with_candidate(folder)
    file = next(folder.glob("0001*"))
    good = file.read_text()
    own = orjson.loads(read_entries(folder.parent / "runs")[1])["id"]
    other = orjson.loads(read_entries(folder.parent / "runs")[0])["id"]
    file.write_text(good.replace(own, own[:-1] + ("0" if own[-1] != "0" else "1")))
    assert judged(folder)[1][0].startswith("ODR409")
    file.write_text(good.replace(own, other))
    assert judged(folder)[1][0] == f"ODR409 {other} registers ODR-0099"


def test_packed_registration_needs_no_ledger(folder):
    """Each part of it is checked."""
    with_candidate(folder)
    assert "registrations" in run_odr("pack", "1").stdout
    shutil.rmtree(folder.parent / "runs")
    assert judged(folder)[0].registration is not None
    file = next((folder / "evidence" / "registrations").iterdir())
    good = orjson.loads(file.read_bytes())
    for change in (
        {"index": 0},
        {"index": -1},
        {"index": True},
        {"size": 5},
        {"path": []},
        {"path": ["00" * 32]},
        {"path": ["xyz"]},
        {"line": good["line"].replace("0.9", "0.8")},
        {"line": "{}"},
        {"line": 7},
    ):
        file.write_bytes(orjson.dumps({**good, **change}))
        assert judged(folder)[0].registration is None, change
    file.write_bytes(b"[" * 100_000)
    assert judged(folder)[1][0].startswith("ODR409")


def test_impossible_registration_writes_nothing(folder):
    """Each reason has its message."""
    before = read_entries(folder.parent / "runs")
    with pytest.raises(BadInputError, match="is registered as"):
        run_odr("register", "1")
    run_odr("new", "Nothing to hold", "--owner", "a")
    with pytest.raises(BadInputError, match="has no constraint"):
        run_odr("register", "2")
    file = next(folder.glob("0001*"))
    late = re.sub(r"registered: .*\n", "", file.read_text())
    file.write_text(late.replace("constraints:\n", "evidence: {candidate: {run: base}}\nconstraints:\n"))
    with pytest.raises(BadInputError, match="the candidate run base exists"):
        run_odr("register", "1")
    file.write_text(late.replace("avg(updated::INT)", "avg(updated::INT"))
    with pytest.raises(BadInputError, match="ODR503 at line"):
        run_odr("register", "1")
    file.write_text(late.replace("status: draft", "status: rejected"))
    with pytest.raises(BadInputError, match="is rejected"):
        run_odr("register", "1")
    assert read_entries(folder.parent / "runs") == before


def test_attested_check_is_in_the_ledger(folder):
    """Records without claims are skipped."""
    with_candidate(folder)
    run_odr("new", "Nothing to hold", "--owner", "a")
    metadata = run_odr("check", "--attest").stderr
    event = orjson.loads(read_entries(folder.parent / "runs")[-1])
    assert event["id"] in metadata
    assert "nothing to attest" in metadata
    assert event["type"] == "ockham.odr.checked.v1"
    assert (event["data"]["odr_id"], event["data"]["verdict"]) == ("ODR-0001", "KEEP")
    assert event["data"]["evidence"][1]["root"] == read_folder(folder)[0].claims.candidates[0].root
    assert event["data"]["constraints"][0]["state"] == "pass"
