"""Chunks of a log between key frames: source locations of lines, and errors for unreadable input."""

from __future__ import annotations

import functools

import pytest

from ockham.errors import UnverifiableError
from ockham.record import attempt
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import RunFolder
from ockham.replay.chunks import split_log
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import REVISION, lines, log_folder, run_folder
from tests.helpers.runs import make_run
from tests.helpers.signatures import sign_again


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run with key frames every ten batches, and segments of 37 lines."""
    monkeypatch.setattr("ockham.record.recorder.KEY_FRAME_BATCHES", 10)
    monkeypatch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=37))
    monkeypatch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
    return make_run(tmp_path, batches=40).folder


def test_chunks_reach_from_key_frame_to_key_frame(folder):
    """Both are included, and together they cover all lines after the first."""
    found = split_log(folder, 1, 0)
    whole = lines(folder)
    assert found.events == len(whole)
    assert found.size == sum(len(line) + 1 for line in whole)
    assert [stretch.first_iter for stretch in found.stretches] == [0, 10, 20, 30]
    frames = [
        at for at, line in enumerate(whole) if b'"trigger":"START"' in line or b'"trigger":"INTERVAL"' in line
    ]
    assert len(frames) == 4
    for stretch, begin, end in zip(found.stretches, frames, [*frames[1:], None], strict=True):
        assert list(stretch.lines()) == whole[begin : None if end is None else end + 1]
    assert replay_run(folder).identical


def test_torn_key_frame_is_ignored(folder):
    """It is being written."""
    before = split_log(folder, 1, 0)
    frame = next(line for line in lines(folder) if b"plugin_state.recorded" in line)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(frame[:-5])
    after = split_log(folder, 1, 0)
    assert [list(s.lines()) for s in after.stretches] == [list(s.lines()) for s in before.stretches]
    assert (after.events, after.size, len(after.frames)) == (before.events, before.size, len(before.frames))


def test_log_without_a_line_has_no_chunks(tmp_path):
    """The process died before its first line."""
    folder = run_folder(tmp_path)
    assert (split_log(folder, 1, 0).events, split_log(folder, 1, 0).stretches) == (0, [])


def test_unsigned_lines_are_counted_and_left_out(folder):
    """Their content has no effect."""
    before = split_log(folder, 1, 0)
    forged = next(line for line in lines(folder) if b"plugin_state.recorded" in line)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(forged + b"\nno event\n")
    after = split_log(folder, 1, 0)
    assert after.unsigned == 2
    assert [list(s.lines()) for s in after.stretches] == [list(s.lines()) for s in before.stretches]
    report = replay_run(folder)
    assert report.identical
    assert report.logs[0].unsigned == 2


def test_replay_of_edited_lines_is_not_identical(folder):
    """A record that is consistent with itself is not the one that was signed."""
    segment = folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes().replace(b'"blocked_seconds":0.0', b'"blocked_seconds":0.5'))
    report = replay_run(folder)
    assert report.total("found") == 0
    assert not report.identical


def test_attempt_that_ended_before_its_policy_has_nothing_to_replay(folder):
    """A kill just after run.resumed leaves one line. The other attempts are replayed."""
    writer = LogWriter(folder, 2, 0)
    opening = {"from_attempt": 1, **attempt.log_head(folder, 1, 0), "reason_code": "STARTED_AGAIN"}
    fields = {
        "policy_revision": REVISION,
        "settings": {},
        "world_size": 1,
        "iter_num": 0,
        "snapshot_id": None,
    }
    writer.append("run.resumed", {**opening, **fields})
    writer.close()
    assert split_log(folder, 2, 0).stretches == []
    assert replay_run(folder).logs[1].proof.contexts == 0


def test_log_that_decides_without_a_policy_is_an_error(tmp_path):
    """A replay needs it."""
    with pytest.raises(UnverifiableError, match="log 1-0 of run a names no policy"):
        split_log(log_folder(tmp_path), 1, 0)


def test_unreadable_segment_is_an_error(folder, monkeypatch):
    """The error names it with the reason."""
    gone = folder.segments(1, 0)[0].with_name("gone.jsonl")
    monkeypatch.setattr(RunFolder, "segments", lambda *_: [gone])
    with pytest.raises(UnverifiableError, match=r"gone\.jsonl cannot be read: No such file"):
        split_log(folder, 1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (b"ockham.plugin_state.recorded.v1", "a line that is not an event of Ockham"),
        (b'{"type":"ockham.plugin_state.recorded.v1","data":7}', "a line that is not an event of Ockham"),
        (
            b'{"type":"ockham.plugin_state.recorded.v1","data":{"sequence":9}}',
            "the key frame at sequence 9 of run a cannot be read",
        ),
        (
            b'{"type":"ockham.plugin_state.recorded.v1","data":{"sequence":9,"state":null,"state_sha256":"'
            + b"0" * 64
            + b'"}}',
            "the key frame at sequence 9 of run a cannot be read: .*No such file",
        ),
    ],
)
def test_unreadable_key_frame_is_an_error(tmp_path, words, message):
    """Invalid JSON, missing data, state or blob."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    with run.folder.segments(1, 0)[-1].open("ab") as file:
        file.write(words + b"\n")
    sign_again(run.folder)
    with pytest.raises(UnverifiableError, match=message):
        split_log(run.folder, 1, 0)
