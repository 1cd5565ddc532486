"""The decision records of this project, checked by its own commands."""

from ockham import resources
from ockham.odr.check import check
from ockham.odr.graph import render_index
from ockham.odr.lint import lint_folder, sorted_findings
from ockham.odr.query import guarded_queries
from ockham.odr.records_folder import read_folder
from tests.odr.record_samples import TODAY

OURS = resources.data_root() / "odr"


def test_project_records_have_no_finding():
    """Form, links, locks and claims."""
    assert sorted_findings(lint_folder(OURS)) == []


def test_project_index_is_up_to_date():
    """It is generated from the records."""
    text = (OURS / "README.md").read_text()
    assert render_index(read_folder(OURS), text) == text


def test_project_claims_match_the_packed_evidence(tmp_path):
    """No run folder is needed."""
    records = lint_folder(OURS)
    judged = {record.claims.id: check(record, [tmp_path], guarded_queries, TODAY) for record in records}

    # The adapter is the change: the record is older than `evidence.varies`, which would name it.
    assert [(f.odr_id, f.code) for f in sorted_findings(records)] == [("ODR-0013", "ODR416")]
    verdicts = [judgement.verdict for judgement in judged.values()]
    assert verdicts.count("KEEP") >= 4
    assert "REVERT" in verdicts
    registered = judged["ODR-0012"].registration
    # The constraints were registered before the candidate started.
    assert registered is not None
    assert (registered.position, registered.size) == (0, 1)


def test_project_has_records_of_each_kind():
    """At least six, one of them superseded."""
    claims = [record.claims for record in read_folder(OURS)]
    assert len(claims) >= 6
    assert "superseded" in {c.status for c in claims}
