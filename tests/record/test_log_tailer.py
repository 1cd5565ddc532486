"""Tailing a growing log: each complete line once and in order, from any start position."""

from __future__ import annotations

import filelock
import pytest

from ockham.record import log_tailer
from ockham.record.checkpoints import find_resume_point
from ockham.record.log_tailer import LogTailer, RunTailer, is_run_finished
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.helpers.events import events, lines, log_folder, run_folder


@pytest.fixture
def folder(tmp_path):
    """A log of 26 lines in segments of 10."""
    return log_folder(tmp_path)


def read_all(reader, limit):
    """Return the lines of repeated calls, until a call returns no line."""
    found = []
    while fresh := reader.lines(limit):
        assert len(fresh) <= limit
        found += fresh
    return found


@pytest.mark.parametrize("limit", [1, 7, 10, 1000])
@pytest.mark.parametrize("begin", [0, 1, 9, 10, 11, 25])
def test_tailer_reads_all_lines_from_a_sequence_number(folder, begin, limit):
    """It crosses segments and respects the limit."""
    whole = lines(folder)
    found = read_all(LogTailer(folder, (1, 0), begin), limit)
    assert found == [((1, 0), at, whole[at]) for at in range(begin, len(whole))]


def test_tailer_reads_lines_longer_than_a_block(folder, monkeypatch):
    """Blocks usually end within a line."""
    monkeypatch.setattr(log_tailer, "READ_BYTES", max(map(len, lines(folder))) + 1)
    assert [line.content for line in read_all(LogTailer(folder, (1, 0)), 4)] == lines(folder)


def test_tailer_waits_for_a_future_sequence_number(folder):
    """It returns that line later, and none before it."""
    reader = LogTailer(folder, (1, 0), 27)
    assert reader.lines() == []
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b"26\n27\n28")
        file.flush()
        assert reader.lines() == [((1, 0), 27, b"27")]
        assert reader.lines() == []
        file.write(b"\n")
        file.flush()
    assert reader.lines() == [((1, 0), 28, b"28")]


def test_tailer_of_a_missing_log_waits_for_its_first_segment(tmp_path):
    """The lines follow then."""
    folder = run_folder(tmp_path)
    reader = LogTailer(folder, (1, 0))
    assert reader.lines() == []
    folder.log_dir(1, 0).mkdir(parents=True)
    (folder.log_dir(1, 0) / f"{0:012d}.jsonl").write_bytes(b"0\n1\n")
    assert [line.content for line in reader.lines()] == [b"0", b"1"]
    (folder.log_dir(1, 0) / f"{2:012d}.jsonl").write_bytes(b"2\n")
    assert [line.sequence for line in reader.lines()] == [2]


def test_tailer_stops_at_a_missing_segment(folder):
    """`verify` reports the gap."""
    folder.segments(1, 0)[1].unlink()
    assert [line.sequence for line in read_all(LogTailer(folder, (1, 0)), 1000)] == list(range(10))


def test_run_tailer_reads_all_logs_from_their_positions(tmp_path):
    """Older attempts come first, and new ones are found."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    folder = run.folder
    reader = RunTailer(folder)
    first = reader.lines(3)
    assert [line.sequence for line in first] == [0, 1, 2]
    first += read_all(reader, 1000)
    assert [line.content for line in first] == lines(folder)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")) as again:
        again.end_batch(again.start_batch(0, 3.0))
    assert [(line.log, line.content) for line in read_all(reader, 1000)] == [
        ((2, 0), line) for line in lines(folder, 2)
    ]
    late = RunTailer(folder, {(1, 0): 2, (2, 0): 1})
    assert [(line.log, line.sequence) for line in late.lines()] == [
        *(((1, 0), at) for at in range(2, len(lines(folder)))),
        *(((2, 0), at) for at in range(1, len(lines(folder, 2)))),
    ]
    assert RunTailer(folder).lines(len(lines(folder)) + 1)[-1][:2] == ((2, 0), 0)


def test_run_is_finished_when_all_logs_of_the_newest_attempt_are(tmp_path):
    """A log that a process writes is not finished. A killed rank writes no end, and releases its lock."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
        run.flush()
        live = RunTailer(run.folder)
        live.lines()
        assert not live.is_finished()
    live.lines()
    assert live.is_finished()
    assert RunTailer(run.folder, {(1, 0): len(lines(run.folder))}).is_finished()
    (run.folder.log_dir(1, 1)).mkdir()
    (run.folder.log_dir(1, 1) / f"{0:012d}.jsonl").write_bytes(lines(run.folder)[0] + b"\n")
    with filelock.FileLock(str(run.folder.log_dir(1, 1) / "lock")):
        assert not live.is_finished()
    assert live.is_finished()
    (run.folder.log_dir(1, 0) / f"{0:012d}.jsonl").write_bytes(lines(run.folder)[0] + b"\n")
    assert not RunTailer(run.folder).is_finished()
    assert not RunTailer(run_folder(tmp_path, "empty")).is_finished()


def test_run_finished_is_found_before_seal_events(tmp_path):
    """A segment that was sealed after the end follows it."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    folder = RunFolder(tmp_path, "a")
    count = len(lines(folder))
    added = folder.log_dir(1, 0) / f"{count:012d}.jsonl"
    added.write_bytes(b'{"type":"ockham.log.sealed.v1","data":{"sequence":%d}}\n' % count)
    assert RunTailer(folder).is_finished()
    added.write_bytes(b'{"type":"ockham.log.resumed.v1","data":{"sequence":%d}}\n' % count)
    assert not RunTailer(folder).is_finished()


def test_run_finished_is_recognised_by_its_type_only(folder):
    """A line that mentions it does not count."""
    assert not is_run_finished(b'{"type":"ockham.log.gap.v1","data":{"message":"no run.finished"}}')
    assert is_run_finished(b'{"type":"ockham.run.finished.v1","data":{}}')
    assert not is_run_finished(b"run.finished, and no event")
    assert not any(is_run_finished(line) for line in lines(folder))
    assert events(folder)
