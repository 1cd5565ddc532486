"""The ledger: one tree over all entries, and its head in the first event of later runs."""

from __future__ import annotations

import concurrent.futures
import threading

import filelock
import orjson
import pytest

from ockham.errors import InvalidEventError, LogLockedError, RunError
from ockham.record import ledger
from ockham.record.ledger import append_entry, ledger_head, read_entries
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.schema import validate_event
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from tests.helpers.events import REGISTRATION
from tests.helpers.runs import make_run


def test_ledger_appends_entries_and_has_a_head(tmp_path):
    """Each entry is a valid event under a signed tree head."""
    assert ledger_head(tmp_path) is None
    before: list[bytes] = []
    for count in (1, 2, 3):
        event_id = append_entry(tmp_path, "odr.registered", REGISTRATION)
        lines = read_entries(tmp_path)
        assert lines[:-1] == before
        assert (len(lines), orjson.loads(lines[-1])["id"]) == (count, event_id)
        validate_event("odr.registered", orjson.loads(lines[-1]))
        before = lines
    head = {"size": 3, "root": root_from_leaves([leaf_hash(line) for line in before]).hex()}
    assert ledger_head(tmp_path) == head
    folder = RunFolder(tmp_path, LEDGER)
    assert folder.logs() == [(1, 0), (2, 0), (3, 0)]
    assert all((folder.log_dir(*log) / "checkpoint").exists() for log in folder.logs())
    assert {orjson.loads(line)["subject"] for line in before} == {"ledger"}


def test_ledger_keeps_entries_of_concurrent_writers(tmp_path):
    """No line is lost, and none precedes an older one."""
    speakers = [
        threading.Thread(target=append_entry, args=(tmp_path, "odr.registered", REGISTRATION))
        for _ in range(4)
    ]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()
    ids = [orjson.loads(line)["id"] for line in read_entries(tmp_path)]
    assert len(set(ids)) == 4
    assert ids == sorted(ids)


def test_ledger_that_is_locked_is_an_error(tmp_path, monkeypatch):
    """The error follows a timeout, and nothing is written."""
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    before = read_entries(tmp_path)
    monkeypatch.setattr(ledger, "WAIT_SECONDS", 0.05)
    with (
        filelock.FileLock(str(tmp_path / LEDGER / "lock")),
        pytest.raises(LogLockedError, match="_ledger is being written by another process"),
    ):
        threaded(lambda: append_entry(tmp_path, "odr.registered", REGISTRATION))
    assert read_entries(tmp_path) == before


def test_ledger_rejects_events_that_fail_the_schema(tmp_path):
    """The next valid event is accepted."""
    with pytest.raises(InvalidEventError, match="odr_sha256"):
        append_entry(tmp_path, "odr.registered", {**REGISTRATION, "odr_sha256": "x"})
    assert read_entries(tmp_path) == []
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    assert len(read_entries(tmp_path)) == 1


def threaded(act):
    """Run a function in another thread, because the holder of a file lock can take it twice."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def test_run_started_names_the_head_of_the_ledger(tmp_path):
    """Without a ledger it names none."""
    make_run(tmp_path, "before", 3)
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    head = ledger_head(tmp_path)
    make_run(tmp_path, "after", 3)
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    for run_id, named in (("before", None), ("after", head)):
        line = RunFolder(tmp_path, run_id).segments(1, 0)[0].read_bytes().split(b"\n")[0]
        assert orjson.loads(line)["data"]["ledger"] == named


def test_ledger_that_is_a_link_is_not_written(tmp_path):
    """Attesting an untrusted run writes next to it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / LEDGER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        append_entry(tmp_path / "runs", "odr.registered", REGISTRATION)
    assert list((tmp_path / "elsewhere").iterdir()) == []
