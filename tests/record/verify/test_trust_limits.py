"""Limits of a verification result: trusted keys, signed events, pinned events and checked files."""

from __future__ import annotations

import shutil

import orjson
import pytest

from ockham.errors import UnverifiableError
from ockham.record.ledger import append_entry
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body
from ockham.record.verify.report import Finding
from ockham.record.verify.run import verify_run
from tests.helpers.events import REGISTRATION, REVISION, decision, lines, log_folder, run_folder
from tests.helpers.runs import make_run

# The segments have 10, 10 and 6 events.
EVENTS = 26


@pytest.fixture
def folder(tmp_path):
    return log_folder(tmp_path)


def sign_head(folder, size):
    """Return the signed tree head of the first events."""
    root = root_from_leaves([leaf_hash(line) for line in lines(folder)[:size]])
    return load_or_create_signer().sign(checkpoint_body("ockham/runs/a/1-0", TreeHead(size, root)))


def notes(folder, **kwargs):
    """Return the findings, except contradictions and missing policies, which these short logs lack."""
    report = verify_run(folder, parquet=False, **kwargs)
    return [f for f in report.findings if f.kind not in ("contradiction", "policy missing")]


NO_PIN = Finding("not pinned", "log/1-0", "no pin was given", cause="pins")


def test_key_from_run_json_is_used_with_a_note(folder):
    """A given key or a pin with its signature confirms the key, and removes the note."""
    taken = Finding(
        "key not pinned", "run.json", f"taken from the run itself: {load_or_create_signer().verifier}"
    )
    assert notes(folder) == [taken, NO_PIN]
    assert notes(folder, keys=[load_or_create_signer().verifier]) == [NO_PIN]
    assert notes(folder, pins=[make_pin(folder)]) == []


def test_run_json_with_another_key_than_the_given_ones_is_tampering(folder, tmp_path):
    """If the given keys include the key of the run, verify reports no tampering."""
    stranger = load_or_create_signer(tmp_path / "stranger").verifier
    other = Finding("tampering", "run.json", "names another verifier key than the one given")
    assert other in notes(folder, keys=[stranger])
    assert other not in notes(folder, keys=[stranger, load_or_create_signer().verifier])
    assert notes(folder, keys=[stranger, load_or_create_signer().verifier]) == [NO_PIN]


@pytest.mark.parametrize("metadata", [None, b"{", b"[]", b"{}", b'{"verifier_key": 7}'])
def test_run_json_without_a_key_requires_a_given_key(folder, metadata):
    """Without a given key the run is unverifiable. With a given key it is verified."""
    folder.run_json.unlink() if metadata is None else folder.run_json.write_bytes(metadata)
    with pytest.raises(UnverifiableError) as error:
        verify_run(folder)
    assert str(error.value) == f"{folder.run_json} names no verifier key; give one with --key"
    assert notes(folder, keys=[load_or_create_signer().verifier]) == [NO_PIN]


def test_folder_without_a_log_is_unverifiable(tmp_path):
    """The error names the folder."""
    with pytest.raises(UnverifiableError) as error:
        verify_run(run_folder(tmp_path))
    assert str(error.value) == f"{tmp_path / 'a'} has no log"


def test_ledger_is_verified_with_the_key_of_this_machine(tmp_path, monkeypatch):
    """The ledger has no run.json. On another machine a key is required."""
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    ledger = RunFolder(tmp_path, LEDGER)
    key = load_or_create_signer().verifier
    assert notes(ledger) == [Finding("key not pinned", LEDGER, f"taken from this machine: {key}"), NO_PIN]
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "stranger"))
    with pytest.raises(UnverifiableError) as error:
        verify_run(ledger)
    assert str(error.value) == "the ledger names no verifier key; give one with --key"
    load_or_create_signer()
    assert notes(ledger, keys=[key]) == [NO_PIN]


def test_only_the_ledger_is_compared_with_heads_in_runs(tmp_path):
    """The check of the heads that runs name is in the report of the ledger only."""
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    folder = make_run(tmp_path, "b", 3).folder
    assert verify_run(RunFolder(tmp_path, LEDGER)).checked["heads that runs name"] == 1
    assert "heads that runs name" not in verify_run(folder).checked


def test_note_contains_the_size_of_the_newest_pin(folder):
    """The order of the pins has no effect. With a pin of the last event there is no note."""
    few, more, all_ = (sign_head(folder, size) for size in (3, 5, EVENTS))
    message = Finding("not pinned", "log/1-0", "pinned up to event 5 of 26", cause="pins")
    assert notes(folder, pins=[few, more]) == notes(folder, pins=[more, few]) == [message]
    assert notes(folder, pins=[few, all_]) == []


def test_complete_lines_after_the_newest_head_are_not_signed(folder):
    """The finding contains their number."""
    log = folder.log_dir(1, 0)
    (log / "checkpoint").write_bytes(sign_head(folder, 25))
    (log / "checkpoints").write_bytes(sign_head(folder, 25) + b"\n")
    shutil.rmtree(log / "tile")
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    message = "1 events after the newest valid signed tree head"
    assert Finding("not signed", "log/1-0", message) in report.findings
    assert (report.logs[0].signed, report.logs[0].events, report.logs[0].pinned) == (25, EVENTS, 0)


@pytest.mark.parametrize("jobs", [1, None])
def test_progress_receives_the_events_of_each_segment(folder, jobs):
    """The calls are in the order of the segments."""
    metadata = []
    verify_run(folder, parquet=False, jobs=jobs, progress=metadata.append)
    # The printed form excludes other number types.
    assert repr(metadata) == "[10, 10, 6]"


def test_report_counts_parquet_files_and_policies_that_were_checked(tmp_path):
    """Parquet files are checked only if requested. A policy of several logs is counted once."""
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


def test_checkpoint_that_a_later_attempt_pruned_is_not_missing(tmp_path):
    """Without the log of the later attempt the checkpoint is missing."""
    folder = run_folder(tmp_path)
    data = {"iter_num": 1, "snapshot_id": "resume-1", "kind": "resume"}
    file = {"name": "a.bin", "sha256": "0" * 64, "bytes": 1}
    for attempt in (1, 2, 3):
        writer = LogWriter(folder, attempt, 0, policy_revision=REVISION)
        writer.append("decision.made", decision(0), iter_num=0)
        if attempt == 1:
            metadata = {
                **data,
                "decision_id": None,
                "weights_sha256": "0" * 64,
                "files": [file],
                "log_size": 1,
            }
            writer.append("checkpoint.saved", {**metadata, "log_root": "0" * 64}, iter_num=1)
        elif attempt == 2:
            writer.append("checkpoint.pruned", {**data, "reason_code": "SUPERSEDED"}, iter_num=1)
        writer.close()
    key = load_or_create_signer().verifier
    assert "checkpoint" not in verify_run(folder, keys=[key], parquet=False).counts
    shutil.rmtree(folder.log_dir(2, 0))
    assert verify_run(folder, keys=[key], parquet=False).counts["checkpoint"] == 1


def test_run_json_with_unknown_fields_provides_the_key(folder):
    """Only the field `verifier_key` is read."""
    folder.run_json.write_bytes(
        orjson.dumps({"verifier_key": str(load_or_create_signer().verifier), "more": 1})
    )
    assert notes(folder)[0].kind == "key not pinned"
