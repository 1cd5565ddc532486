import math
import struct
import threading
import time

import cloudevents.core.v1.event
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ockham.errors import InvalidEventError, LogError, LogLockedError
from ockham.event import Change, event_kind, parse_number
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import StateRecord
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import open_note
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, parse_head, split_history
from tests.helpers.events import (
    REVISION,
    context_record,
    decision,
    events,
    lines,
    open_idle_writer,
    plain_validator,
    run_folder,
)


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path)


@pytest.fixture
def log(folder):
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    yield writer
    writer.close()


def test_written_lines_pass_an_independent_schema_validator(folder, log):
    """The jsonschema package accepts each kind of payload."""
    log.append("decision.made", decision(), iter_num=0)
    log.append("context.recorded", context_record(), iter_num=0)
    log.append("plugin_state.recorded", StateRecord(0, 0, "START", {"gate": {"q": math.inf}}), iter_num=0)
    log.close()

    found = events(folder)
    assert [event_kind(event["type"]) for event in found] == [
        "decision.made",
        "context.recorded",
        "plugin_state.recorded",
    ]
    for event in found:
        plain_validator(event_kind(event["type"])).validate(event)


def test_written_line_is_a_cloudevent(folder, log):
    """The CloudEvents SDK reads the envelope as version 1.0."""
    log.append("decision.made", decision(), iter_num=7)
    log.close()

    raw = events(folder)[0]
    data = raw.pop("data")
    raw["time"] = __import__("datetime").datetime.fromisoformat(raw["time"])
    event = cloudevents.core.v1.event.CloudEvent(raw, data)
    assert (event.get_subject(), event.get_type()) == ("iter/7", "ockham.decision.made.v1")


@pytest.mark.parametrize("wake", ["urgent", "flush", "close"])
def test_urgent_event_flush_and_close_wake_the_writer(folder, monkeypatch, wake):
    """Ordinary events wait for the interval."""
    monkeypatch.setattr("ockham.record.log_writer.SYNC_INTERVAL_SECONDS", 600.0)
    log = open_idle_writer(folder)
    written = threading.Event()
    log.on_durable = lambda _: written.set()
    log.append("decision.made", decision(), iter_num=0, urgent=wake == "urgent")
    other = threading.Thread(target=getattr(log, wake, lambda: None))
    if wake != "urgent":
        assert not written.wait(0.05)
    other.start()
    try:
        assert written.wait(60)
    finally:
        log._wake.set()
        other.join()
        log.close()


def test_due_tree_head_is_signed_under_steady_traffic(folder, monkeypatch):
    """The writer syncs for it in place of waiting for an idle moment."""
    monkeypatch.setattr("ockham.record.log_writer.SYNC_INTERVAL_SECONDS", 600.0)
    monkeypatch.setattr("ockham.record.log_writer.HISTORY_INTERVAL_SECONDS", 0.0)
    log = open_idle_writer(folder)
    acknowledged: list[int] = []
    log.on_durable = lambda events: acknowledged.append(len(events))
    for i in range(3_000):
        log.append("decision.made", decision(), iter_num=i)
    log._wake.set()
    until = time.monotonic() + 60
    while sum(acknowledged) < 3_000 and time.monotonic() < until:
        time.sleep(0.01)
    log._wake.set()
    log.close()
    assert len(acknowledged) >= 3
    assert len(split_history((log.path / HISTORY).read_bytes())[0]) >= 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_written_numbers_keep_every_bit(tmp_path_factory, values):
    """NaN stays NaN."""
    folder = run_folder(tmp_path_factory.mktemp("runs"))
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    for value in values:
        writer.append("decision.made", decision(observed=value, numbers={"x": value}), iter_num=0)
    writer.close()

    for value, event in zip(values, events(folder), strict=True):
        for back in (parse_number(event["data"]["observed"]), parse_number(event["data"]["numbers"]["x"])):
            assert (
                math.isnan(back) if math.isnan(value) else struct.pack("<d", back) == struct.pack("<d", value)
            )


def test_sequence_numbers_have_no_gap_across_segments(folder):
    """log.sealed names each segment."""
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=10)
    for i in range(35):
        writer.append("decision.made", decision(i), iter_num=i)
    writer.close()

    found = events(folder)
    assert [event["data"]["sequence"] for event in found] == list(range(len(found)))
    assert [s.name for s in folder.segments(1, 0)] == [f"{n:012d}.jsonl" for n in range(0, len(found), 10)]
    sealed = [event["data"] for event in found if event_kind(event["type"]) == "log.sealed"]
    assert [s["segment"] for s in sealed] == [
        "000000000000.jsonl",
        "000000000010.jsonl",
        "000000000020.jsonl",
    ]
    for s in sealed:
        import hashlib

        content = (folder.log_dir(1, 0) / s["segment"]).read_bytes()
        assert (s["bytes"], s["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_flush_makes_all_appended_events_durable(folder, log):
    """Each is a complete line on disk."""
    for i in range(100):
        log.append("decision.made", decision(i), iter_num=i)
    log.flush()

    assert len(lines(folder)) == 100


def test_second_writer_of_a_log_is_refused(folder, log):
    """It touches no byte."""
    with pytest.raises(LogLockedError, match="one writer"):
        LogWriter(folder, 1, 0, policy_revision=REVISION)


def test_event_that_fails_its_schema_stops_the_log(folder):
    """Earlier events remain."""
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    writer.append("decision.made", decision(0), iter_num=0)
    writer.flush()
    writer.append("decision.made", decision(1, hook="on_lunch"), iter_num=1)

    with pytest.raises(InvalidEventError, match="data/hook"):
        writer.close()
    assert len(lines(folder)) == 1
    with pytest.raises(InvalidEventError):
        writer.append("decision.made", decision(2), iter_num=2)


def test_full_queue_blocks_and_counts_the_time(folder):
    """No event is dropped."""
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, queue_limit=4)
    for i in range(200):
        writer.append("decision.made", decision(i), iter_num=i)
    writer.close()

    assert len(lines(folder)) == 200
    assert writer.blocked_seconds > 0


def test_large_state_is_written_to_a_blob(folder, log):
    """The file is named by its digest."""
    state = {"gate": {"history": [0.123456789 + i for i in range(5000)]}}
    log.append("plugin_state.recorded", StateRecord(0, 0, "START", state), iter_num=0)
    log.close()

    data = events(folder)[0]["data"]
    assert data["state"] is None
    assert orjson.loads(folder.blob(data["state_sha256"]).read_bytes()) == state


def test_subscribers_receive_durable_events_only(folder, log):
    """on_durable gets each event once, in order."""
    heard = []
    log.on_durable = heard.extend
    for i in range(50):
        log.append("decision.made", decision(i), iter_num=i)
    log.close()

    assert [event["data"]["iter_num"] for event in heard] == list(range(50))


def test_empty_log_is_signed_before_its_first_line(folder, log):
    """Lines without any head are therefore not the trace of a crash."""
    path = folder.log_dir(1, 0)
    notes = [(path / CHECKPOINT).read_bytes(), *split_history((path / HISTORY).read_bytes())[0]]
    heads = [parse_head(open_note(note, [log.signer.verifier])[0])[1] for note in notes]
    assert [head.size for head in heads] == [0, 0]


def test_events_are_delivered_after_a_signed_head_covers_them(folder, log):
    """A subscriber would otherwise act on an event that a crash can remove."""
    sizes = []

    def hear(found):
        note = (folder.log_dir(1, 0) / CHECKPOINT).read_bytes()
        head = parse_head(open_note(note, [log.signer.verifier])[0])[1]
        sizes.append((head.size, found[-1]["data"]["sequence"]))

    log.on_durable = hear
    for i in range(5):
        log.append("decision.made", decision(i), iter_num=i)
        log.flush()
    assert sizes
    assert [(size, sequence) for size, sequence in sizes if size <= sequence] == []


def test_list_knob_change_is_logged_before_and_after(folder, log):
    """An example is the gain of each example."""
    log.append("decision.made", decision(changes=(Change("example_gain", (), (1.0, 0.5)),)), iter_num=0)
    log.close()

    assert events(folder)[0]["data"]["changes"] == [
        {"field": "example_gain", "before": [], "after": [1.0, 0.5]}
    ]


def test_decision_id_is_known_before_the_line_is_written(folder: RunFolder, log):
    """It equals the ID in the line."""
    place = log.append("decision.made", decision(), iter_num=0)
    promised = log.event_id_at(place)
    log.close()

    assert events(folder)[0]["id"] == promised


def test_segment_requires_at_least_two_events(folder):
    """With one, sealing would never end."""
    with pytest.raises(LogError, match="2 or more"):
        LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=1)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=2)
    writer.append("decision.made", decision(), iter_num=0)
    writer.append("decision.made", decision(), iter_num=1)
    writer.close()
    assert [event_kind(event["type"]) for event in events(folder)] == ["decision.made"] * 2 + ["log.sealed"]


def test_closed_log_refuses_events(folder):
    """A later event would never be written, so it must not get a number."""
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    writer.append("decision.made", decision(), iter_num=0)
    writer.close()
    with pytest.raises(LogError, match="the log is closed, so no event can be appended"):
        writer.append("decision.made", decision(), iter_num=1)
    assert writer.next_sequence == len(lines(folder)) == 1
