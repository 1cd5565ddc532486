"""The segment that a log writer appends to."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from ockham.errors import LogHaltedError
from ockham.record.log_writer import LogWriter
from ockham.record.segment import Segment
from tests.helpers.events import REVISION, decision, run_folder

LINES = [b'{"a":1}\n', b'{"b":22}\n', b'{"c":333}\n']


def test_sealed_segment_matches_the_file(tmp_path):
    """Bytes, digest and number of lines are equal."""
    segment = Segment(tmp_path, 40)
    segment.write(LINES[:2])
    segment.write(LINES[2:])
    assert (segment.next_sequence, segment.path.read_bytes()) == (43, b"".join(LINES))
    metadata = segment.seal()
    digest = hashlib.sha256(segment.path.read_bytes()).hexdigest()
    assert metadata == {
        "segment": "000000000040.jsonl",
        "first_sequence": 40,
        "events": 3,
        "bytes": 27,
        "sha256": digest,
    }
    assert segment.digest.hex() == digest
    segment.close()


def test_segment_does_not_overwrite_an_existing_file(tmp_path):
    """The file can belong to another writer."""
    Segment(tmp_path, 0).close()
    with pytest.raises(FileExistsError):
        Segment(tmp_path, 0)


@pytest.mark.parametrize("bytes_written", range(sum(map(len, LINES))))
def test_failed_write_keeps_complete_lines(tmp_path, monkeypatch, bytes_written):
    """The disk accepted only some bytes."""
    segment, real = Segment(tmp_path, 0), os.write
    segment.write([b'{"first":0}\n'])

    def filling(descriptor, data):
        if len(data) == sum(map(len, LINES)) and bytes_written:
            return real(descriptor, data[:bytes_written])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", filling)
    with pytest.raises(OSError, match="No space"):
        segment.write(LINES)
    segment.truncate_to_whole_lines()
    monkeypatch.undo()
    kept = segment.next_sequence - 1
    whole = b'{"first":0}\n' + b"".join(LINES[:kept])
    assert len(b"".join(LINES[:kept])) <= bytes_written < len(b"".join(LINES[: kept + 1]))
    assert segment.path.read_bytes() == whole
    assert (segment.next_sequence, segment.size, segment.digest) == (
        1 + kept,
        len(whole),
        hashlib.sha256(whole).digest(),
    )
    segment.write(LINES[kept:])
    segment.truncate_to_whole_lines()
    assert segment.path.read_bytes() == b'{"first":0}\n' + b"".join(LINES)
    segment.close()


def test_failed_start_of_a_segment_closes_no_file_twice(tmp_path, monkeypatch):
    """A closed file number can belong to another file."""
    writer = LogWriter(run_folder(tmp_path), 1, 0, policy_revision=REVISION, segment_events=2)
    real = os.open

    def full(path, flags, *rest):
        if flags & os.O_EXCL:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", full)
    for i in range(2):
        writer.append("decision.made", decision(i), iter_num=i)
    with pytest.raises(LogHaltedError, match="No space left"):
        writer.close()
