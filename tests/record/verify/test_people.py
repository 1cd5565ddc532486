"""Events of people: a key holder who changes one is contradicted by the request that its person signed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ockham.record.evidence_archive import verifier_source
from ockham.record.ledger import append_entry
from ockham.record.requests import event_fields
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.log_edits import change_event, sign_log
from tests.helpers.requests import ask, new_signer, signed_request

SETTINGS = ("gate.target=0.9",)


@pytest.fixture
def run(tmp_path):
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        for iter_num in range(4):
            if iter_num == 1:
                ask(run.folder, "INTERVENE", settings=SETTINGS)
                ask(run.folder, "NOTE", iter_num=0)
            run.end_batch(run.start_batch(iter_num, 3.0))
    return run


def contradictions(folder):
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    return [finding.message for finding in report.findings if finding.kind == "contradiction"]


def standalone_findings(folder):
    """Return the output of verify.py on the run folder, which is an archive too."""
    command = [sys.executable, "-I", str(folder.path.parent / "verify.py"), str(folder.path)]
    (folder.path.parent / "verify.py").write_bytes(verifier_source())
    key = str(load_or_create_signer().verifier)
    done = subprocess.run([*command, "--key", key], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert done.returncode == (0 if "sound" in lines else 1), done.stderr
    return "\n".join(lines)


def test_events_of_people_are_counted(run):
    """An intervention and a note. The standalone verifier accepts both."""
    assert standalone_findings(run.folder).endswith("sound")
    report = verify_run(run.folder)
    assert report.sound
    assert report.checked["requests"] == 2


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("intervention.applied", "by", "bob"),
        ("intervention.applied", "reason", "no reason"),
        ("intervention.applied", "settings", ["gate.target=0.1"]),
        ("note.added", "iter_num", 7),
        ("note.added", "run_id", "b"),
        ("note.added", "request_id", "00000000-0000-7000-8000-000000000000"),
    ],
)
def test_changed_event_differs_from_its_signed_request(run, kind, name, value):
    """The log is signed again, so only the request contradicts it."""
    change_event(run.folder, kind, lambda data: data.update({name: value}))
    sign_log(run.folder)
    [message] = contradictions(run.folder)
    assert f"{kind} differs from its signed request: {name} is" in message
    assert f"differs from its signed request in {name}" in standalone_findings(run.folder)


def test_request_without_the_signature_of_its_key_is_a_contradiction(run):
    """The text of the note was changed."""

    def change(data):
        data.update(by="bob", request=data["request"].replace("alice", "bob"))

    change_event(run.folder, "note.added", change)
    sign_log(run.folder)
    [message] = contradictions(run.folder)
    assert "signature" in message
    assert "a request whose signature does not fit" in standalone_findings(run.folder)


def test_request_of_an_untrusted_key_is_a_contradiction(run):
    """A trainer that applies anyone's request is found."""
    stranger = new_signer()
    _, data = event_fields(signed_request(run.folder, "NOTE", stranger, iter_num=0))
    change_event(run.folder, "note.added", lambda old: old.update(data))
    sign_log(run.folder)
    [message] = contradictions(run.folder)
    assert "does not trust" in message
    assert "which the log does not trust" in standalone_findings(run.folder)


def test_request_for_another_run_is_a_contradiction(run, tmp_path):
    """A note about run b does not belong into the log of run a."""
    with Run("balanced", runs=tmp_path, run_id="b", facts={"max_iters": 30}) as other:
        other.end_batch(other.start_batch(0, 3.0))
    _, data = event_fields(signed_request(other.folder, "NOTE", iter_num=0))
    change_event(run.folder, "note.added", lambda old: old.update(data))
    sign_log(run.folder)
    assert "run b" in contradictions(run.folder)[0]
    assert "a signed request for another run" in standalone_findings(run.folder)


def test_request_under_another_first_line_is_a_contradiction(run):
    """The first line of the signed text names its purpose and the run."""
    _, data = event_fields(signed_request(run.folder, "NOTE", iter_num=0))
    line = data["request"].split("\n")[1]
    note = load_or_create_signer().sign(f"ockham/elsewhere/a\n{line}\n").decode()
    change_event(run.folder, "note.added", lambda old: old.update({**data, "request": note}))
    sign_log(run.folder)
    assert "first line" in contradictions(run.folder)[0]
    assert "a signed request for another run" in standalone_findings(run.folder)


def test_event_of_another_act_than_the_signed_one_is_a_contradiction(run):
    """The request of a stop is presented as a note."""
    _, data = event_fields(signed_request(run.folder, "STOP"))
    change_event(run.folder, "note.added", lambda old: old.update({**data, "iter_num": None}))
    sign_log(run.folder)
    assert any("STOP" in message for message in contradictions(run.folder))
    assert "a signed request that is not NOTE" in standalone_findings(run.folder)


def test_trusted_key_of_another_person_is_sound_in_both_verifiers(tmp_path):
    """The key is in run.started."""
    friend = new_signer()
    options = {"runs": tmp_path, "run_id": "a", "facts": {"max_iters": 30}}
    with Run("balanced", request_keys=[friend.verifier], **options) as run:
        for iter_num in range(4):
            if iter_num == 1:
                ask(run.folder, "NOTE", friend)
            run.end_batch(run.start_batch(iter_num, 3.0))
    assert contradictions(run.folder) == []
    assert standalone_findings(run.folder).endswith("sound")


def test_ledger_entry_is_checked_in_the_same_way(run, tmp_path):
    """A note after the end of the run."""
    kind, data = event_fields(signed_request(run.folder, "NOTE", iter_num=0))
    append_entry(tmp_path, kind, data)
    ledger = RunFolder(tmp_path, LEDGER)
    assert verify_run(ledger).sound
    append_entry(tmp_path, kind, {**data, "by": "bob"})
    assert "by is 'bob'" in contradictions(ledger)[0]
