"""Checks of single lines and of the bytes after the last one: findings and source locations."""

from __future__ import annotations

import orjson
import pytest

from ockham.event import MAX_LINE_BYTES
from ockham.record.fast_decode import DecisionData
from ockham.record.log_writer import LogWriter
from ockham.record.tlog.merkle import leaf_hash
from ockham.record.tlog.tiles import WIDTH
from ockham.record.verify.report import Finding, VerificationReport
from ockham.record.verify.segment import LineVerifier, SegmentTask, verify_segment
from tests.helpers.events import REVISION, context_record, decision, lines, run_folder

PLACE = "log/2-1/000000000000.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Log 2-1 of a run: 600 decisions and contexts in one segment."""
    folder = run_folder(tmp_path_factory.mktemp("lines"))
    writer = LogWriter(folder, 2, 1, policy_revision=REVISION)
    for i in range(300):
        writer.append("decision.made", decision(i), iter_num=i)
        writer.append("context.recorded", context_record(i), iter_num=i)
    writer.close()
    return folder


def read(folder, raw, sequence=4):
    """Return the event of a line and the findings about it."""
    report = VerificationReport("a")
    [event] = LineVerifier(folder, 2, 1, folder.segments(2, 1)[0], report).events([raw], sequence)
    return event, report.findings


def changed(folder, **values):
    """Return the fifth line with other values. The prefix `data_` selects fields of the data."""
    event = orjson.loads(lines(folder, 2, 1)[4])
    for name, value in values.items():
        (event["data"] if name.startswith("data_") else event)[name.removeprefix("data_")] = value
    return orjson.dumps(event)


def test_decoded_line_is_its_event(folder):
    """Fast and slow path return equal kind, ID and data."""
    raw = lines(folder, 2, 1)[4]
    kind, id_, data = read(folder, raw)[0]
    assert (kind, id_, type(data), data.iter_num) == (
        "decision.made",
        orjson.loads(raw)["id"],
        DecisionData,
        2,
    )
    assert read(folder, raw)[1] == []
    spaced = raw.replace(b'"data":', b'"data": ')
    expected = "event 4 is not written as we write: a key twice, or other spacing"
    assert read(folder, spaced) == ((kind, id_, data), [Finding("tampering", PLACE, expected, 4)])


def test_decisions_and_contexts_use_the_fast_path(folder, monkeypatch):
    """The slow path costs three times as much."""
    slowly = []
    monkeypatch.setattr(LineVerifier, "event", lambda _self, _raw, sequence: slowly.append(sequence))
    found = lines(folder, 2, 1)
    LineVerifier(folder, 2, 1, folder.segments(2, 1)[0], VerificationReport("a")).events(found, 0)
    assert slowly == list(range(600, len(found)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"type": "ockham.decision.unmade.v1"},
            "does not fit its schema: unknown type 'ockham.decision.unmade.v1'",
        ),
        ({"type": "decision.made"}, "does not fit its schema: unknown type 'decision.made'"),
        ({"type": "x" * 200}, f"does not fit its schema: unknown type '{'x' * 79}"),
        ({"data": {}}, "is not an event of Ockham ('sequence')"),
        ({"data": []}, "is not an event of Ockham (list indices must be integers or slices, not str)"),
        ({"type": 7}, "is not an event of Ockham ('int' object has no attribute 'removeprefix')"),
        (
            {"data_iter_num": -1},
            "does not fit its schema: decision.made: data/iter_num: -1 is less than the minimum of 0",
        ),
    ],
)
def test_invalid_event_is_corruption(folder, change, expected):
    """The finding has its position."""
    finding = Finding("corruption", PLACE, f"event 4 {expected}", 4)
    assert read(folder, changed(folder, **change)) == (None, [finding])


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b"\xff"])
def test_bytes_that_are_not_json_are_corruption(folder, raw):
    """The same holds for other JSON values."""
    event, [finding] = read(folder, raw)
    assert event is None
    assert (finding.kind, finding.place, finding.sequence) == ("corruption", PLACE, 4)
    assert finding.message.startswith("event 4 is not an event of Ockham (")


def test_line_has_a_maximum_length(folder):
    """The limit is exact to the byte."""
    room = MAX_LINE_BYTES - len(changed(folder, data_ext={"long": ""}))
    longest = changed(folder, data_ext={"long": "x" * room})
    assert (len(longest), read(folder, longest)[1]) == (MAX_LINE_BYTES, [])
    longer = longest.replace(b'"data":', b'"data": ')
    event, found = read(folder, longer)
    assert event is not None
    assert found == [Finding("tampering", PLACE, "event 4 is too long", 4)]


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ({"data_sequence": 5}, "(5, 2, 1, 'ockham://runs/a')"),
        ({"data_attempt": 1}, "(4, 1, 1, 'ockham://runs/a')"),
        ({"data_rank": 0}, "(4, 2, 0, 'ockham://runs/a')"),
        ({"source": "ockham://runs/b"}, "(4, 2, 1, 'ockham://runs/b')"),
    ],
)
def test_line_with_another_position_is_tampering(folder, change, position):
    """All such lines of a log have one cause."""
    event, found = read(folder, changed(folder, **change))
    assert event is not None
    expected = f"event 4 names position {position}, but is at (4, 2, 1, 'ockham://runs/a')"
    assert found == [Finding("tampering", PLACE, expected, 4, "places in log 2-1")]


def test_segment_returns_leaf_hashes_and_block_offsets(folder):
    """Offsets count from the first line of the log."""
    [segment] = folder.segments(2, 1)
    found = lines(folder, 2, 1)
    ends = [0]
    for line in found:
        ends.append(ends[-1] + len(line) + 1)
    judged = verify_segment(SegmentTask(folder, 2, 1, segment, None, True, 0, signed=600))
    assert judged.leaves == b"".join(map(leaf_hash, found))
    assert judged.block_offsets == [ends[0], ends[WIDTH], ends[2 * WIDTH]]
    assert judged.report.checked == {"events": 600, "decisions": 300, "contexts": 300}
    later = verify_segment(SegmentTask(folder, 2, 1, segment, None, True, WIDTH - 10, signed=9999))
    assert later.block_offsets == [ends[10], ends[WIDTH + 10], ends[2 * WIDTH + 10]]
    assert later.report.checked["events"] == 600


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (b"torn", "4 bytes without a newline"),
        (bytes(5), "5 zero bytes"),
        (b"\0\1", "2 bytes without a newline"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_bytes_after_the_last_newline_are_a_crash_tail(folder, tail, what, last):
    """Elsewhere they are damage."""
    [segment] = folder.segments(2, 1)
    whole = segment.read_bytes()
    try:
        segment.write_bytes(whole + tail)
        judged = verify_segment(SegmentTask(folder, 2, 1, segment, None, last, 0))
    finally:
        segment.write_bytes(whole)
    assert [f for f in judged.report.findings if what in f.message] == [
        Finding("crash tail", PLACE, f"{what} after the last complete line")
        if last
        else Finding("corruption", PLACE, f"{what} at the end of a segment that others follow")
    ]
    assert judged.leaves == b"".join(map(leaf_hash, lines(folder, 2, 1)))


def test_segment_reads_back_to_the_last_batch_only(tmp_path, monkeypatch):
    """It does not read all earlier segments."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 2, 1, policy_revision=REVISION, segment_events=9)
    for i in range(3):
        writer.append("decision.made", decision(i), iter_num=i)
        writer.append("context.recorded", context_record(i), iter_num=i)
    writer.append("context.recorded", context_record(2, hook="on_evaluate"), iter_num=2)
    for _ in range(4):
        writer.append("decision.made", decision(3), iter_num=3)
    writer.close()
    before, segment = folder.segments(2, 1)
    read, whole = [], LineVerifier.event
    monkeypatch.setattr(
        LineVerifier, "event", lambda self, raw, at: [read.append(raw), whole(self, raw, at)][1]
    )
    verify_segment(SegmentTask(folder, 2, 1, segment, before, True, 9))
    assert read[:4] == lines(folder, 2, 1)[5:9][::-1]
    assert not set(read[4:]) & set(lines(folder, 2, 1)[:9])
