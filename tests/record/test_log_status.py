"""Status of a log: reported parts, read without changing the log."""

from __future__ import annotations

import os

import pytest

from ockham.errors import UnverifiableError
from ockham.record.log_status import read_log_status
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.helpers.events import lines, log_folder
from tests.helpers.runs import make_run


def _files(folder):
    return {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}


def test_status_of_a_finished_run_has_no_open_parts(tmp_path):
    """Reading the status changes no byte."""
    make_run(tmp_path, "a", batches=5)
    folder = RunFolder(tmp_path, "a")
    before = _files(folder)
    found = read_log_status(folder, 1, 0)
    assert found == (False, len(lines(folder)), "run.finished", "COMPLETED", 0, len(lines(folder)))
    assert _files(folder) == before


def test_status_of_a_running_run_is_writing(tmp_path):
    """Only the held lock decides."""
    with Run("balanced", runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
        run.flush()
        assert read_log_status(run.folder, 1, 0).writing
    assert not read_log_status(run.folder, 1, 0).writing


def test_status_counts_the_bytes_of_a_torn_tail(tmp_path):
    """The tail can be longer than the maximum line."""
    make_run(tmp_path, "a", batches=5)
    folder = RunFolder(tmp_path, "a")
    whole = read_log_status(folder, 1, 0)
    segment = folder.segments(1, 0)[0]
    with segment.open("ab") as file:
        file.write(b'{"specversion":' + b"x" * 500)
    assert read_log_status(folder, 1, 0) == whole._replace(torn_bytes=515)


def test_status_of_a_log_without_lines_or_head_is_empty(tmp_path):
    """A kill in the first milliseconds leaves such a log."""
    make_run(tmp_path, "a", batches=5)
    folder = RunFolder(tmp_path, "a")
    folder.segments(1, 0)[0].write_bytes(b"")
    (folder.log_dir(1, 0) / "checkpoint").unlink()
    assert read_log_status(folder, 1, 0) == (False, 0, None, None, 0, None)


@pytest.mark.parametrize("line", [b"not JSON", b"[]", b'{"type":1}', b'{"data":{"sequence":"x"},"type":"t"}'])
def test_status_of_an_invalid_last_line_is_an_error(tmp_path, line):
    """The error names the location."""
    make_run(tmp_path, "a", batches=5)
    folder = RunFolder(tmp_path, "a")
    with folder.segments(1, 0)[0].open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UnverifiableError, match="1-0: the last line is not an event"):
        read_log_status(folder, 1, 0)


@pytest.mark.timeout(120)
def test_status_does_not_block_on_a_pipe_as_lock(tmp_path):
    """A pipe is not a writer."""
    folder = log_folder(tmp_path)
    lock = folder.log_dir(1, 0) / "lock"
    lock.unlink(missing_ok=True)
    os.mkfifo(lock)
    assert not read_log_status(folder, 1, 0).writing
