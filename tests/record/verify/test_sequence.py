"""Checks of files and losses that events name against the files that exist."""

from __future__ import annotations

import pytest

from ockham.event import Change
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import StateRecord
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify import standalone
from ockham.record.verify.report import Finding, VerificationReport
from ockham.record.verify.run import verify_run
from ockham.record.verify.segment import LineVerifier
from ockham.record.verify.sequence import SequenceChecker
from tests.helpers.events import (
    REVISION,
    append_run_finished,
    context_record,
    decision,
    events,
    lines,
    run_folder,
)
from tests.helpers.log_edits import replace_data
from tests.helpers.runs import make_run
from tests.helpers.signatures import sign_again


def found_in(folder):
    """Return the findings, except a missing opening event, policy or pin, which these short logs lack."""
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    found = [f for f in report.findings if f.kind not in ("not pinned", "policy missing")]
    return [
        (f.sequence, f.kind, f.place, f.message)
        for f in found
        if not f.message.startswith("a log opens with")
    ]


def test_missing_or_changed_run_json_is_reported(tmp_path):
    """Its key and data are then unknown."""
    folder = make_run(tmp_path, batches=5).folder
    assert found_in(folder) == []
    odd = (0, "tampering", "run.json", "is not the file whose digest the first event gives")
    folder.run_json.write_bytes(folder.run_json.read_bytes() + b"\n")
    assert odd in found_in(folder)
    folder.run_json.unlink()
    assert odd in found_in(folder)


def test_recorded_loss_is_a_gap(tmp_path):
    """A full disk and a gap have reason and number."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    gap = {"from_attempt": 1, "from_sequence": 1, "reason_code": "WRITER_FAILED", "count": None}
    writer.append("log.gap", gap, subject="log")
    writer.append("log.gap", {**gap, "count": 7}, subject="log")
    writer.append("log.halted", {"reason_code": "ENOSPC", "message": "full", "lost_events": 3}, subject="log")
    writer.close()
    assert found_in(folder) == [
        (0, "gap", "log/1-0", "the log records an unknown number of missing events (WRITER_FAILED)"),
        (1, "gap", "log/1-0", "the log records 7 missing events (WRITER_FAILED)"),
        (2, "gap", "log/1-0", "the log was halted (ENOSPC): 3 events were lost"),
    ]


@pytest.mark.parametrize("size", [1, 3000])
def test_key_frame_state_must_match(tmp_path, size):
    """It is in the line or in a blob."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    state = {"gate": {"history": [i + 0.123456789 for i in range(size)]}}
    writer.append("plugin_state.recorded", StateRecord(0, 0, "START", state), iter_num=0)
    writer.close()
    assert found_in(folder) == []
    assert verify_run(folder, keys=[load_or_create_signer().verifier]).checked["key frames"] == 1
    if size == 1:
        assert not (folder.path / "blobs").exists()
        return
    [blob] = (folder.path / "blobs").iterdir()
    place = f"blobs/{blob.name}"
    blob.write_bytes(b"{}")
    assert found_in(folder) == [(0, "tampering", place, "the plugin state is not the one recorded")]
    blob.unlink()
    assert found_in(folder) == [(0, "corruption", place, "the plugin state of a key frame is missing")]


def write_and_parse_events(tmp_path, *payloads):
    """Write a log of decisions and contexts, and return the events that verify parses."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    for payload in payloads:
        kind = "decision.made" if hasattr(payload, "plugin") else "context.recorded"
        writer.append(kind, payload, iter_num=payload.iter_num)
    writer.close()
    check = LineVerifier(folder, 1, 0, folder.segments(1, 0)[0], VerificationReport("a"))
    return check.events(lines(folder)[: len(payloads)], 0)


def told_by(events, first=1, run_id="a", world_size=1):
    """Return the facts that the checker collects from events, and its report."""
    report = VerificationReport(run_id)
    story = SequenceChecker(RunFolder(".", run_id), 2, 1, report, world_size)
    story.feed(first, events)
    return story.finish(), report


def test_batch_of_a_skipped_position_is_a_contradiction(tmp_path):
    """Positions before the event, outside of the range and unknown ones are accepted."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    skipped = {"first_position": 3, "last_position": 5, "by": "user", "reason_code": "SKIP_DATA_SETTING"}
    positions = [3, 2, None, 6, 5, 3]
    for iter_num, position in enumerate(positions):
        if iter_num == 1:
            writer.append("data.skipped", {"iter_num": 1, **skipped, "decision_id": None}, iter_num=1)
        rows = None if position is None else {"position": position}
        record = context_record(iter_num, rows=rows, decisions=0)
        writer.append("context.recorded", record, iter_num=iter_num)
    writer.close()
    assert [found for found in found_in(folder) if "position" in found[3]] == [
        (5, "contradiction", "log/1-0", "this batch read position 5, which is recorded as skipped"),
        (6, "contradiction", "log/1-0", "this batch read position 3, which is recorded as skipped"),
    ]


@pytest.mark.parametrize("change", ["nothing", "another state", "other weights"])
def test_rollback_to_a_state_that_was_not_saved_is_a_contradiction(tmp_path, change):
    """ID and digest must be those of a saved checkpoint."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    saved = {"snapshot_id": "resume-00000004", "weights_sha256": "a" * 64, "kind": "resume", "files": []}
    position = {"iter_num": 4, "decision_id": None, "log_size": 0, "log_root": "0" * 64}
    writer.append("checkpoint.saved", {**position, **saved}, iter_num=4)
    restored = {"snapshot_id": saved["snapshot_id"], "weights_sha256": saved["weights_sha256"]}
    if change == "another state":
        restored["snapshot_id"] = "resume-00000009"
    if change == "other weights":
        restored["weights_sha256"] = "b" * 64
    back = {"iter_num": 6, "decision_id": None, "anchor_iter_num": 4, "drift": 0.1, "seconds": 0.1}
    writer.append("rollback.performed", {**back, **restored}, iter_num=6)
    writer.close()
    message = f"a rollback restored {restored['snapshot_id']!r}, and no event saved it with these weights"
    expected = [] if change == "nothing" else [(1, "contradiction", "log/1-0", message)]
    assert [each for each in found_in(folder) if each[0] == 1] == expected


def test_checker_counts_decisions_and_contexts(tmp_path):
    """It counts from start_reporting on."""
    events = write_and_parse_events(
        tmp_path, decision(0), decision(0), decision(0), context_record(0), context_record(1)
    )
    assert told_by(events)[1].checked == {"decisions": 3, "contexts": 2}
    assert told_by(events[3:])[1].checked == {"contexts": 2}
    report, again = VerificationReport("a"), VerificationReport("a")
    story = SequenceChecker(RunFolder(tmp_path, "a"), 2, 1, report, 1)
    story.feed(1, events[:2])
    story.start_reporting(again)
    story.feed(3, events[2:4])
    metadata = story.finish()
    assert (report.checked, again.checked) == ({}, {"decisions": 1, "contexts": 1})
    assert metadata.policies == {REVISION: 3}


def test_checker_stores_where_each_policy_is_named_first(tmp_path):
    """Decisions, contexts and other events name policies."""
    events = write_and_parse_events(tmp_path, decision(0), context_record(0), context_record(1))
    loaded = ("policy.loaded", "id", {"policy_revision": "sha256:" + "c" * 64})
    failed = ("plugin.failed", "id", {})
    assert told_by(events)[0].policies == {REVISION: 1}
    assert told_by(events[1:], 7)[0].policies == {REVISION: 7}
    assert told_by([loaded, failed, *events, loaded])[0].policies == {"sha256:" + "c" * 64: 1, REVISION: 3}


@pytest.mark.parametrize(
    ("field", "after", "shadow", "marks"),
    [
        ("accepted", True, False, 1),
        ("accepted", True, True, 0),
        ("accepted", False, False, 0),
        ("updated", True, False, 0),
    ],
)
def test_accepting_decision_is_collected_with_its_iteration(tmp_path, field, after, shadow, marks):
    """Shadow decisions are not."""
    made = decision(3, changes=(Change("halt", False, True), Change(field, not after, after)), shadow=shadow)
    events = write_and_parse_events(tmp_path, made)
    assert told_by(events)[0].acceptances_and_checkpoints == [(events[0][1], 3)] * marks


def test_log_must_start_with_an_opening_event(tmp_path):
    """Ledger entries can be of any kind."""
    [event] = write_and_parse_events(tmp_path, decision(0))
    expected = "a log opens with run.started or run.resumed, not with decision.made"
    assert told_by([event], 0)[1].findings == [Finding("contradiction", "log/2-1", expected, 0)]
    assert told_by([event], 1)[1].findings == []
    assert told_by([("odr.registered", "id", {})], 0, run_id=LEDGER)[1].findings == []
    assert told_by([("run.resumed", "id", {"world_size": 1})], 0)[1].findings == []


def test_checker_continues_after_an_invalid_line(tmp_path):
    """The next batch can be any."""
    contexts = [context_record(i, decisions=0) for i in (0, 5, 7)]
    made, first, *rest = write_and_parse_events(tmp_path, decision(0), *contexts)
    first[2].left.updated = True
    for each in rest:
        each[2].left.updated = True
    _, report = told_by([made, None, first, None, *rest])
    assert [(f.sequence, f.message) for f in report.findings if "follows" in f.message] == [
        (6, "batch (7, 0) follows batch (5, 0)")
    ]
    assert not [f for f in report.findings if "this context names" in f.message]
    assert report.checked == {"decisions": 1, "contexts": 3}


def test_checker_hashes_contexts_for_rank_comparison_only(tmp_path):
    """One rank needs no hashes."""
    events = write_and_parse_events(tmp_path, *(context_record(i, decisions=0) for i in (3, 4, 4)))
    alone, among = told_by(events)[0], told_by(events, world_size=2)[0]
    assert (list(alone.knob_hashes), list(alone.iterations)) == ([], [])
    assert list(among.iterations) == [3, 4, 4]
    assert among.knob_hashes[0] != among.knob_hashes[1] == among.knob_hashes[2]


@pytest.mark.parametrize("kind", ["decision.made", "context.recorded", "evaluation.recorded", "run.finished"])
def test_signed_event_after_the_end_is_a_contradiction(tmp_path, kind):
    """A writer appends only log.sealed after run.finished. The packed verifier agrees."""
    folder = make_run(tmp_path, batches=15).folder
    segment = folder.segments(1, 0)[-1]
    lines = segment.read_bytes().splitlines()
    copied = next(line for line in reversed(lines) if f'"ockham.{kind}.v1"'.encode() in line)
    segment.write_bytes(segment.read_bytes() + replace_data(copied, sequence=len(lines)) + b"\n")
    sign_again(folder)
    found = [finding.message for finding in verify_run(folder).findings if finding.kind == "contradiction"]
    assert f"{kind} follows the end of the run" in found
    key = standalone.parse_key(str(load_or_create_signer().verifier))
    assert standalone.verify_archive(standalone.load(folder.path), "a", key, known=True) == 1


def test_seal_after_the_end_is_accepted(tmp_path):
    """A segment that is full at the end is sealed after it."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=2)
    writer.append("decision.made", decision(0))
    append_run_finished(writer)
    writer.close()
    kinds = [event["type"] for event in events(folder)]
    assert kinds[-2:] == ["ockham.run.finished.v1", "ockham.log.sealed.v1"]
    messages = [finding.message for finding in verify_run(folder).findings]
    assert not any("follow" in message for message in messages)
