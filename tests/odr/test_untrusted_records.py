"""Untrusted records and logs: findings or one error, no blocking, and no access to other files."""

from __future__ import annotations

import os
import shutil

import orjson
import pytest

from ockham.errors import OckhamError
from ockham.odr.arrow_tables import build_odr_tables
from ockham.odr.check import check
from ockham.odr.evidence_pack import unpack_log
from ockham.odr.lint import lint_folder
from ockham.odr.pinned_log import find_events, list_policies, parse_event, pin_side, read_pinned_log
from ockham.odr.pinning import pack_record
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import EvidenceSide, parse_record_data
from ockham.odr.registration import _named_ledger
from ockham.record.run_folder import RunFolder
from tests.helpers.log_edits import sign_log
from tests.odr.checked_record import record_text
from tests.odr.record_samples import TODAY, put

BIG = "9" * 280


@pytest.fixture
def record(tmp_path):
    """Function that reads a record with other evidence, registration and constraint."""

    def read(side="run: cand", extra="", constraint=""):
        text = (
            "---\nodr: 1\nid: ODR-0001\ntitle: T\nstatus: draft\ndate: 2026-01-14\nowners: [a]\n"
            f"evidence: {{candidate: {{{side}}}}}\n{extra}\nconstraints:\n"
            f"  - {{id: C1, text: t, sql: SELECT 1, op: '<', threshold: 1{constraint}}}\n---\n"
        )
        put(tmp_path / "odr", text)
        return lint_folder(tmp_path / "odr", TODAY)[0]

    return read


@pytest.mark.parametrize("name", ["attempt", "rank", "through_sequence"])
def test_huge_number_is_a_finding(record, tmp_path, name):
    """No file name can contain it."""
    found = record(side=f"run: cand, {name}: {BIG}", constraint=f", min_n: {BIG}")
    assert "ODR109" in {f.code for f in found.findings}
    assert build_odr_tables([found])["odr_constraints"].num_rows == 1
    check(found, [tmp_path / "runs"], guarded_queries, TODAY)


@pytest.mark.timeout(120)
def test_registration_id_cannot_leave_the_folder(record, tmp_path):
    """A path or a pipe is not opened."""
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe", "../../../pipe"):
        found = record(extra=f"registered: {path}")
        assert "ODR105" in {f.code for f in found.findings}
        assert found.claims.registered == ""
        check(found, [tmp_path / "runs"], guarded_queries, TODAY)
    assert parse_record_data({"registered": "0192f3a1-7c1e-7b3a-9d55-0a1b2c3d4e5f"}).registered


def test_run_name_cannot_leave_the_packed_evidence(tmp_path):
    """No file outside is tested."""
    (tmp_path / "x.1-0.jsonl.gz").write_bytes(b"not looked at")
    with pytest.raises(OckhamError, match="run ID"):
        unpack_log(tmp_path / "odr", EvidenceSide("candidate", "../x"), tmp_path / "out")


@pytest.mark.timeout(120)
def test_pipe_among_policies_is_ignored(runs):
    """It would block."""
    folder = RunFolder(runs, "cand")
    (folder.path / "policies").mkdir(exist_ok=True)
    os.mkfifo(folder.path / "policies" / f"{'0' * 64}.json")
    assert list_policies(folder) == []


LINES = (
    b'{"type":"ockham.decision.made.v1","plugin":"memory","action":"ACCEPT"}',
    b'"plugin":"memory" "action":"ACCEPT" "type":"ockham.context.recorded.v1" "hook":"on_evaluate"',
    b'[{"id":"0192f3a1","plugin":"memory","action":"ACCEPT"}]',
    b'{"id":"0192f3a1","type":"ockham.../../x.v1","data":{"plugin":"memory","action":"ACCEPT"}}',
    b'{"id":"0192f3a1","type":"ockham.run.started.v1","data":%s}'
    % b'{"ledger":"xx","plugin":"memory","action":"ACCEPT"}',
)


@pytest.mark.parametrize("line", LINES)
def test_line_that_resembles_an_event_is_ignored(runs, line):
    """It must fit its schema."""
    folder = RunFolder(runs, "cand")
    first = folder.segments(1, 0)[0]
    first.write_bytes(line + b"\n" + first.read_bytes())
    sign_log(folder)
    side = pin_side("candidate", folder)
    found = read_pinned_log(side, folder)
    assert parse_event(line) is None
    assert find_events(found, "0192f3a1") == []
    assert _named_ledger(found) is None


@pytest.mark.parametrize("numbers", ["x", {"oq": "x"}, {"oq": []}, None])
def test_cited_decision_must_fit_its_schema(runs, numbers):
    """Its numbers are used."""
    put(runs.parent / "odr", record_text(runs))
    folder = RunFolder(runs, "cand")
    for segment in folder.segments(1, 0):
        lines = []
        for line in segment.read_bytes().splitlines():
            event = orjson.loads(line)
            if event["data"].get("action") == "ACCEPT":
                event["data"]["numbers"] = numbers
            lines.append(orjson.dumps(event) + b"\n")
        segment.write_bytes(b"".join(lines))
    shutil.rmtree(folder.path / "decisions", ignore_errors=True)
    found = lint_folder(runs.parent / "odr", TODAY)[0]
    found.claims = found.claims._replace(candidates=(found.claims.candidates[0]._replace(root=""),))
    check(found, [runs], guarded_queries, TODAY)
    assert "ODR403" in {f.code for f in found.findings}


def test_pack_does_not_follow_links(runs, tmp_path):
    """An untrusted folder can contain one."""
    file = put(runs.parent / "odr", record_text(runs))
    (tmp_path / "elsewhere").mkdir()
    (file.parent / "evidence").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OckhamError, match="is a link"):
        pack_record(lint_folder(file.parent, TODAY)[0], runs)
    assert list((tmp_path / "elsewhere").iterdir()) == []
