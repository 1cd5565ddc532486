"""How far a verdict reaches: whose key is believed, what is signed, what is pinned, and what was looked at."""

from __future__ import annotations

import shutil

import orjson
import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.ledger import append_entry
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body
from ockham.record.verify.report import Finding
from ockham.record.verify.run import load_verifier_keys, verify_run
from tests.helpers.events import REVISION, decision, lines, log_folder, run_folder
from tests.helpers.runs import make_run
from tests.record.test_ledger import SAID

# In segments of 10, 10 and 6.
EVENTS = 26


@pytest.fixture
def folder(tmp_path):
    return log_folder(tmp_path)


def sign_head(folder, size):
    """The true tree head of the first events, signed."""
    root = root_from_leaves([leaf_hash(line) for line in lines(folder)[:size]])
    return load_or_create_signer().sign(checkpoint_body("ockham/runs/a/1-0", TreeHead(size, root)))


def notes(folder, **kwargs):
    """What is found but for contradictions and policies, which these few events do not explain."""
    report = verify_run(folder, parquet=False, **kwargs)
    return [f for f in report.findings if f.kind not in ("contradiction", "policy missing")]


NO_PIN = Finding("not pinned", "log/1-0", "no pin was given", cause="pins")


def test_whose_word_the_key_is(folder):
    """The run's own, where nobody gives one; a pin that it has signed, or whoever asks, vouches for it."""
    taken = Finding(
        "key not pinned", "run.json", f"taken from the run itself: {load_or_create_signer().verifier}"
    )
    assert notes(folder) == [taken, NO_PIN]
    assert notes(folder, keys=[load_or_create_signer().verifier]) == [NO_PIN]
    assert notes(folder, pins=[make_pin(folder)]) == []


def test_a_run_that_names_another_key_than_the_one_given(folder, tmp_path):
    """Is tampering, unless one of those given is its own."""
    stranger = load_or_create_signer(tmp_path / "stranger").verifier
    other = Finding("tampering", "run.json", "names another verifier key than the one given")
    assert other in notes(folder, keys=[stranger])
    assert other not in notes(folder, keys=[stranger, load_or_create_signer().verifier])
    assert notes(folder, keys=[stranger, load_or_create_signer().verifier]) == [NO_PIN]


@pytest.mark.parametrize("told", [None, b"{", b"[]", b"{}", b'{"verifier_key": 7}'])
def test_a_run_that_names_no_key(folder, told):
    """Nobody vouches for it; with a key that is given it can be judged all the same."""
    folder.run_json.unlink() if told is None else folder.run_json.write_bytes(told)
    with pytest.raises(UnverifiableError) as error:
        verify_run(folder)
    assert str(error.value) == f"{folder.run_json} names no verifier key; give one with --key"
    assert notes(folder, keys=[load_or_create_signer().verifier]) == [NO_PIN]


def test_a_folder_without_a_log(tmp_path):
    """There is nothing to judge."""
    with pytest.raises(UnverifiableError) as error:
        verify_run(run_folder(tmp_path))
    assert str(error.value) == f"{tmp_path / 'a'} has no log"


def test_the_key_of_the_ledger_is_this_machines(tmp_path, monkeypatch):
    """It has no run.json; on another machine a key must be given."""
    append_entry(tmp_path, "odr.registered", SAID)
    ledger = RunFolder(tmp_path, LEDGER)
    key = load_or_create_signer().verifier
    assert notes(ledger) == [Finding("key not pinned", LEDGER, f"taken from this machine: {key}"), NO_PIN]
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "stranger"))
    with pytest.raises(UnverifiableError) as error:
        verify_run(ledger)
    assert str(error.value) == "the ledger names no verifier key; give one with --key"
    load_or_create_signer()
    assert notes(ledger, keys=[key]) == [NO_PIN]


def test_the_ledger_is_held_against_the_runs(tmp_path):
    """And no run is: of a ledger that is none, nothing is looked up."""
    append_entry(tmp_path, "odr.registered", SAID)
    folder = make_run(tmp_path, "b", 3).folder
    assert verify_run(RunFolder(tmp_path, LEDGER)).checked["heads that runs name"] == 1
    assert "heads that runs name" not in verify_run(folder).checked


def test_how_far_it_is_pinned(folder):
    """To the newest of its pins, by its number of events; to the last one there is nothing to say."""
    few, more, all_ = (sign_head(folder, size) for size in (3, 5, EVENTS))
    said = Finding("not pinned", "log/1-0", "pinned up to event 5 of 26", cause="pins")
    assert notes(folder, pins=[few, more]) == notes(folder, pins=[more, few]) == [said]
    assert notes(folder, pins=[few, all_]) == []


def test_how_far_it_is_signed(folder):
    """Whole lines behind the newest head are counted, and are nobody's."""
    log = folder.log_dir(1, 0)
    (log / "checkpoint").write_bytes(sign_head(folder, 25))
    (log / "checkpoints").write_bytes(sign_head(folder, 25) + b"\n")
    shutil.rmtree(log / "tile")
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    said = "1 events after the newest valid signed tree head"
    assert Finding("not signed", "log/1-0", said) in report.findings
    assert (report.logs[0].signed, report.logs[0].events, report.logs[0].pinned) == (25, EVENTS, 0)


@pytest.mark.parametrize("jobs", [1, None])
def test_progress_is_told_by_segments(folder, jobs):
    """Their numbers of events, in order."""
    told = []
    verify_run(folder, parquet=False, jobs=jobs, progress=told.append)
    # As they are printed.
    assert repr(told) == "[10, 10, 6]"


def test_what_was_looked_at(tmp_path):
    """Parquet only where it is asked for; a policy once, however many logs and events name it."""
    folder = make_run(tmp_path, batches=12).folder
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(1, 1))
    with_parquet, without = verify_run(folder), verify_run(folder, parquet=False)
    assert with_parquet.checked.keys() - without.checked.keys() == {"Parquet files"}
    assert with_parquet.checked["policies"] == without.checked["policies"] == 1
    assert (
        "policies"
        not in verify_run(_without_policies(tmp_path), keys=[load_or_create_signer().verifier]).checked
    )
    assert [(log.attempt, log.rank) for log in without.logs] == [(1, 0), (1, 1)]


def _without_policies(tmp_path):
    folder = run_folder(tmp_path, "none")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    gap = {"from_attempt": 1, "from_sequence": 1, "reason_code": "WRITER_FAILED", "count": None}
    writer.append("log.gap", gap, subject="log")
    writer.close()
    return folder


def test_what_a_later_attempt_pruned_is_not_missed(tmp_path):
    """A checkpoint is recorded in one log, and may be pruned in any other."""
    folder = run_folder(tmp_path)
    data = {"iter_num": 1, "snapshot_id": "resume-1", "kind": "resume"}
    file = {"name": "a.bin", "sha256": "0" * 64, "bytes": 1}
    for attempt in (1, 2, 3):
        writer = LogWriter(folder, attempt, 0, policy_revision=REVISION)
        writer.append("decision.made", decision(0), iter_num=0)
        if attempt == 1:
            told = {**data, "decision_id": None, "weights_sha256": "0" * 64, "files": [file], "log_size": 1}
            writer.append("checkpoint.saved", {**told, "log_root": "0" * 64}, iter_num=1)
        elif attempt == 2:
            writer.append("checkpoint.pruned", {**data, "reason_code": "SUPERSEDED"}, iter_num=1)
        writer.close()
    key = load_or_create_signer().verifier
    assert "checkpoint" not in verify_run(folder, keys=[key], parquet=False).counts
    shutil.rmtree(folder.log_dir(2, 0))
    assert verify_run(folder, keys=[key], parquet=False).counts["checkpoint"] == 1


def test_a_key_is_a_text_or_a_file(tmp_path):
    """With or without a newline; a file that is no text is named."""
    key = load_or_create_signer().verifier
    path = tmp_path / "key"
    path.write_text(f"{key}\n", encoding="utf-8")
    assert load_verifier_keys([str(key), str(path)]) == [key, key]
    path.write_bytes(b"\xff")
    with pytest.raises(BadInputError) as error:
        load_verifier_keys([str(path)])
    assert str(error.value).startswith(
        f"the key file {path} cannot be read: 'utf-8' codec can't decode byte 0xff"
    )
    for text in ("nonsense", "a\0b", "x" * 5000, str(tmp_path)):
        with pytest.raises(BadInputError, match="is no verifier key"):
            load_verifier_keys([text])


def test_run_json_is_read_as_json(folder):
    """With whatever else it holds."""
    folder.run_json.write_bytes(
        orjson.dumps({"verifier_key": str(load_or_create_signer().verifier), "more": 1})
    )
    assert notes(folder)[0].kind == "key not pinned"
