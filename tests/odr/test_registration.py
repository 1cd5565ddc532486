"""Pre-registration: proven only by the ledger's root in the first event of the candidate."""

from __future__ import annotations

import json
import re
import shutil

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ockham.errors import BadInputError, RunError
from ockham.odr.check import check
from ockham.odr.edit import NO_CONSTRAINT
from ockham.odr.lint import lint_folder
from ockham.odr.output_formats import format_text
from ockham.odr.records_folder import read_folder
from ockham.odr.registration import MAX_VALUE_CHARACTERS, format_change
from ockham.record.ledger import append_entry, read_entries
from tests.helpers.odr_cli import run_odr
from tests.helpers.runs import make_run
from tests.odr.checked_record import answering
from tests.odr.record_samples import TODAY, fill_template

CONSTRAINTS = """constraints:
  - id: C1
    text: Updates at most every batch
    sql: SELECT avg(updated::INT) AS value, count(*) AS n FROM gate_decisions WHERE run_id = $candidate
    op: "<="
    threshold: 0.9
"""


def register_other(runs, odr_id):
    """Append the registration of another record."""
    fields = {"odr_id": odr_id, "title": "", "odr_sha256": "0" * 64, "constraints": []}
    append_entry(runs, "odr.registered", fields)


@pytest.fixture
def draft(tmp_path, monkeypatch):
    """A draft with a constraint, an older run, and a ledger with the registration of another record."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "base", 30)
    register_other(tmp_path / "runs", "ODR-0099")
    run_odr("new", "Skip more", "--owner", "a")
    file = tmp_path / "odr" / "0001-skip-more.md"
    file.write_text(
        file.read_text()
        .replace("constraints: []\n", CONSTRAINTS)
        .replace(NO_CONSTRAINT, "- [ ] C1 Updates at most every batch")
    )
    fill_template(file)
    return tmp_path / "odr"


@pytest.fixture
def folder(draft):
    """A registered draft. The candidate then runs and is named as evidence."""
    run_odr("register", "1", "--candidate", "cand", "--baseline", "base")
    return draft


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
    register_other(folder.parent / "runs", "ODR-0098")
    # A later registration has no effect.
    assert judged(folder)[0].registration == metadata


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threshold: 0.9", "threshold: 0.99", "C1.threshold is 0.99, registered was 0.9"),
        ("threshold: 0.9", "threshold: 0.9\n    tolerance: 0.2", "C1.tolerance is 0.2, registered was 0.0"),
        ('op: "<="', 'op: "<"', 'C1.op is "<", registered was "<="'),
        ("run_id = $candidate", "run_id = $baseline", 'C1.sql is "SELECT avg('),
        (
            "    threshold: 0.9",
            "    threshold: 0.9\n    severity: warn",
            'C1.severity is "warn", registered was "error"',
        ),
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


@given(
    st.text(min_size=150, max_size=300), st.text(max_size=300), st.text(max_size=300), st.text(max_size=300)
)
def test_change_of_a_text_shows_the_first_difference(before, now, then, after):
    """Both excerpts contain it, however long the texts are."""
    texts = [json.dumps(before + middle + after, ensure_ascii=False) for middle in (now, then)]
    assume(texts[0] != texts[1])
    same = next(at for at in range(len(texts[0])) if texts[0][: at + 1] != texts[1][: at + 1])
    shown = format_change(before + now + after, before + then + after)
    for text in texts:
        assert text[max(0, same - 20) : same + 20] in shown
    assert len(shown) < 2 * MAX_VALUE_CHARACTERS + 40


def test_removed_registration_is_reported(folder):
    """The ledger contains it, and the packed evidence too."""
    with_candidate(folder)
    run_odr("pack", "1")
    file = next(folder.glob("0001*"))
    event_id = read_folder(folder)[0].claims.registered
    file.write_text(re.sub(r"registered: .*\n", "", file.read_text()))
    expected = [f"ODR417 ODR-0001 is registered as {event_id}, which the record does not name"]
    assert judged(folder)[1] == expected
    packed = next((folder / "evidence" / "registrations").iterdir())
    good = packed.read_bytes()
    packed.unlink()
    assert judged(folder)[1] == expected
    packed.write_bytes(good)
    shutil.rmtree(folder.parent / "runs" / "_ledger")
    assert judged(folder)[1] == expected
    packed.unlink()
    assert judged(folder)[1] == []


def test_second_registration_of_a_record_is_refused(folder):
    """Otherwise the criterion that fits best could be named later."""
    file = next(folder.glob("0001*"))
    file.write_text(re.sub(r"registered: .*\n", "", file.read_text()))
    with pytest.raises(BadInputError, match="ODR-0001 is registered as"):
        run_odr("register", "1", "--candidate", "cand2", "--baseline", "base")
    with pytest.raises(BadInputError, match="ODR-0001 is registered as"):
        run_odr("register", "1", "--candidate", "cand", "--baseline", "base")


def test_registered_record_keeps_its_number(folder):
    """The ledger names it."""
    with pytest.raises(BadInputError, match="ODR-0001 is registered in the ledger"):
        run_odr("renumber", "1", "--number", "7")


def test_deleted_registered_record_is_reported(folder):
    """Only a check of all records can find it."""
    with_candidate(folder)
    findings = run_odr("check", status=1).stdout
    assert "odr:1:1: ODR418 ODR-0099 is registered as" in findings
    assert "ODR-0001 Skip more is registered" not in findings
    assert "ODR418" not in run_odr("check", "1").stdout
    next(folder.glob("0001*")).unlink()
    findings = run_odr("check", status=1).stdout
    assert "ODR418 ODR-0001 Skip more is registered as" in findings
    assert findings.count("ODR418") == 2


def test_baseline_after_a_registration_without_one_is_reported(draft):
    """It could be the one that fits best."""
    run_odr("register", "1", "--candidate", "cand")
    with_candidate(draft)
    judgement, findings, _ = judged(draft)
    assert findings == ["ODR413 the baselines are base, registered were none"]
    assert judgement.registration is None


def test_constraint_with_a_baseline_is_not_registered_without_one(draft):
    """The comparison is part of the criterion."""
    file = next(draft.glob("0001*"))
    file.write_text(file.read_text().replace("run_id = $candidate", "run_id IN ($baseline, $candidate)"))
    with pytest.raises(BadInputError, match="ODR-0001: C1 compares with a baseline; name it with --baseline"):
        run_odr("register", "1", "--candidate", "cand")


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
    assert judged(folder)[1][-1] == "ODR412 run base started without a ledger"
    other = folder.parent / "elsewhere"
    register_other(other, "ODR-0099")
    make_run(other, "cand", 30)
    shutil.copytree(other / "cand", folder.parent / "runs" / "cand")
    run_odr("evidence", "1", "--candidate", "cand")
    assert judged(folder)[1][-1] == "ODR412 run cand began when the ledger had 1 lines, and this is line 2"
    register_other(other, "ODR-0097")
    make_run(other, "late", 30)
    shutil.copytree(other / "late", folder.parent / "runs" / "late")
    run_odr("evidence", "1", "--candidate", "late")
    assert judged(folder)[1][-1].startswith("ODR412 the ledger is not the one that run late ")


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
    unnamed = f"ODR417 ODR-0001 is registered as {own}, which the record does not name"
    assert judged(folder)[1] == [f"ODR409 {other} registers ODR-0099", unnamed]


def test_packed_registration_needs_no_ledger(folder):
    """Each part of it is checked."""
    with_candidate(folder)
    assert "registrations" in run_odr("pack", "1").stdout
    shutil.rmtree(folder.parent / "runs")
    assert judged(folder)[0].registration is not None
    file = next((folder / "evidence" / "registrations").iterdir())
    good = orjson.loads(file.read_bytes())
    proof = good["proofs"][0]
    for change in (
        {"index": 0},
        {"index": -1},
        {"index": True},
        {"proofs": []},
        {"proofs": [{**proof, "size": 5}]},
        {"proofs": [{**proof, "path": []}]},
        {"proofs": [{**proof, "path": ["00" * 32]}]},
        {"proofs": [{**proof, "path": ["xyz"]}]},
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
        run_odr("register", "1", "--candidate", "x")
    run_odr("new", "Nothing to hold", "--owner", "a")
    with pytest.raises(BadInputError, match="has no constraint"):
        run_odr("register", "2", "--candidate", "x")
    file = next(folder.glob("0001*"))
    late = re.sub(r"registered: .*\n", "", file.read_text())
    file.write_text(late.replace("constraints:\n", "evidence: {candidate: {run: base}}\nconstraints:\n"))
    with pytest.raises(BadInputError, match="the candidate run base exists"):
        run_odr("register", "1")
    file.write_text(late)
    with pytest.raises(BadInputError, match="the candidate run base exists"):
        run_odr("register", "1", "--candidate", "base")
    for arguments, message in (
        ([], "needs the candidates"),
        (["--candidate", "x", "--matching", "x*"], "needs the candidates"),
        (["--matching", "x*"], "needs --count"),
        (["--candidate", "x,x"], "named twice"),
    ):
        with pytest.raises(BadInputError, match=message):
            run_odr("register", "1", *arguments)
    with pytest.raises(RunError, match="not valid"):
        run_odr("register", "1", "--matching", "x[a]", "--count", "1")
    file.write_text(late.replace("avg(updated::INT)", "avg(updated::INT"))
    with pytest.raises(BadInputError, match="ODR503 at line"):
        run_odr("register", "1", "--candidate", "x")
    file.write_text(late.replace("status: draft", "status: rejected"))
    with pytest.raises(BadInputError, match="is rejected"):
        run_odr("register", "1", "--candidate", "x")
    assert read_entries(folder.parent / "runs") == before


def test_another_run_in_place_of_the_registered_one_is_reported(folder):
    """It was trained after the registration too, and could be the best of many."""
    with_candidate(folder)
    make_run(folder.parent / "runs", "cand2", 30)
    run_odr("evidence", "1", "--baseline", "base", "--candidate", "cand2")
    judgement, findings, _ = judged(folder)
    assert findings == ["ODR413 the candidates are cand2, registered were cand"]
    assert judgement.registration is None
    run_odr("evidence", "1", "--baseline", "base", "--candidate", "cand,cand2")
    assert judged(folder)[1] == ["ODR413 the candidates are cand, cand2, registered were cand"]
    make_run(folder.parent / "runs", "base2", 30)
    run_odr("evidence", "1", "--baseline", "base2", "--candidate", "cand")
    assert judged(folder)[1] == ["ODR413 the baselines are base2, registered were base"]


@pytest.fixture
def selected(draft):
    """A draft whose candidates are the first two runs named seed-*. One such run is older."""
    make_run(draft.parent / "runs", "seed-0", 30)
    run_odr("register", "1", "--matching", "seed-*", "--count", "2")
    for number in (3, 1, 2):
        make_run(draft.parent / "runs", f"seed-{number}", 30)
    return draft


@pytest.mark.parametrize(
    ("runs", "finding"),
    [
        ("seed-3,seed-1", ""),
        ("seed-1,seed-3", ""),
        (
            "seed-1,seed-2",
            "ODR413 run seed-3 is one of the first 2 runs named seed-*, but the record does not",
        ),
        ("seed-3", "ODR413 the record cites 1 candidates, registered were the first 2 runs named seed-*"),
        ("seed-3,base", "ODR413 run base does not match the registered pattern seed-*"),
        ("seed-0,seed-3", "ODR413 run seed-1 is one of the first 2 runs named seed-*"),
    ],
)
def test_first_runs_with_the_registered_name_are_the_candidates(selected, runs, finding):
    """The order is that of their starts; a run from before the registration is not one of them."""
    run_odr("evidence", "1", "--candidate", runs)
    judgement, findings, _ = judged(selected)
    assert [f for f in findings if f.startswith("ODR413")] == findings[: bool(finding)]
    assert findings == [] if not finding else findings[0].startswith(finding)
    assert (judgement.registration is not None) == (not finding)


def test_several_candidates_are_packed_with_a_proof_for_each_ledger(selected):
    """They began when the ledger had different sizes."""
    register_other(selected.parent / "runs", "ODR-0098")
    make_run(selected.parent / "runs", "seed-9", 30)
    run_odr("evidence", "1", "--candidate", "seed-3,seed-9")
    run_odr("pack", "1")
    shutil.rmtree(selected.parent / "runs")
    judgement, findings, _ = judged(selected)
    assert findings == []
    assert judgement.registration.candidates == "the first 2 runs named seed-*"


def test_attested_check_is_in_the_ledger(folder):
    """Records without claims are skipped."""
    with_candidate(folder)
    run_odr("new", "Nothing to hold", "--owner", "a")
    metadata = run_odr("check", "1", "2", "--attest").stderr
    event = orjson.loads(read_entries(folder.parent / "runs")[-1])
    assert event["id"] in metadata
    assert "nothing to attest" in metadata
    assert event["type"] == "ockham.odr.checked.v1"
    assert (event["data"]["odr_id"], event["data"]["verdict"]) == ("ODR-0001", "KEEP")
    assert event["data"]["evidence"][1]["root"] == read_folder(folder)[0].claims.candidates[0].root
    assert event["data"]["constraints"][0]["state"] == "pass"
