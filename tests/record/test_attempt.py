"""Opening and ending an attempt: what it refuses, whom it waits for, and what it makes of a log that is torn."""

from __future__ import annotations

import threading

import pytest

from ockham.errors import RunError
from ockham.record import attempt
from ockham.record.attempt import Attempt, last_policy_revision, log_head
from ockham.record.checkpoints import find_resume_point
from ockham.record.rank_group import RankGroup
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.run import Run
from tests.helpers.events import REVISION, events, lines, log_folder, run_folder


def test_it_is_open_from_its_first_event_to_its_last(tmp_path):
    """A second close writes no second end."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        assert run.attempt.is_open
        run.end_batch(run.start_batch(0, 3.0))
    assert not run.attempt.is_open
    before = lines(run.folder)
    run.attempt.close({"reason_code": "COMPLETED"})
    assert lines(run.folder) == before
    assert not Attempt(RunFolder(tmp_path, "b"), RankGroup(0, 1), resume=False).is_open


def test_many_ranks_must_agree_on_the_number_of_an_attempt(tmp_path):
    """Without `gather` they cannot: refused before anything is touched."""
    with Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    again = Attempt(RunFolder(tmp_path, "a"), RankGroup(0, 2), resume=True)
    with pytest.raises(RunError, match="a resume on many ranks needs `gather`"):
        again.open(("sha256:" + "0" * 64, b"{}"), {}, {}, {})
    assert RunFolder(tmp_path, "a").logs() == [(1, 0)]


def test_a_rank_waits_until_the_folder_is_seen(tmp_path, monkeypatch):
    """What rank 0 made may be seen late over a network; for ever it does not wait."""
    folder = RunFolder(tmp_path, "a")
    waiting = Attempt(folder, RankGroup(1, 2), resume=False)
    monkeypatch.setattr(attempt, "WAIT_FOR_RANK_0_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"rank 1 waited 0\.1 s for rank 0 to make .*/a"):
        waiting._wait_for_rank_0()
    monkeypatch.setattr(attempt, "WAIT_FOR_RANK_0_SECONDS", 60)
    late = threading.Timer(0.1, lambda: run_folder(tmp_path, "a"))
    late.start()
    waiting._wait_for_rank_0()
    assert folder.exists()
    late.join()


def test_a_sealed_segment_is_derived_by_a_process_of_its_own(tmp_path, monkeypatch):
    """Of this run, with the interpreter that runs; nobody waits for it."""
    begun = []
    monkeypatch.setattr(attempt.subprocess, "Popen", lambda words, **kwargs: begun.append((words, kwargs)))
    Attempt(RunFolder(tmp_path, "a"), RankGroup(0, 1), resume=False)._derive_in_background(tmp_path)
    [(words, kwargs)] = begun
    assert words[1:] == ["-P", "-m", "ockham.record.parquet.builder", str(tmp_path), "a"]
    assert kwargs["start_new_session"]


def test_size_and_root_of_an_old_log_are_those_of_its_whole_lines(tmp_path):
    """A torn tail does not count."""
    folder = log_folder(tmp_path)
    whole = lines(folder)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b'{"torn')
    assert log_head(folder, 1, 0) == {
        "from_size": len(whole), "from_root": root_from_leaves([leaf_hash(line) for line in whole]).hex()
    }  # fmt: skip


def test_the_last_policy_is_that_of_the_newest_log_with_a_whole_line(tmp_path):
    """A log that tore in its first line says nothing, and one without a segment neither."""
    folder = run_folder(tmp_path)
    with pytest.raises(RunError, match="'a' has no log to go on from"):
        last_policy_revision(folder)
    folder = log_folder(tmp_path / "b")
    for number, content in ((2, b'{"torn'), (3, b"")):
        folder.log_dir(number, 0).mkdir()
        (folder.log_dir(number, 0) / f"{0:012d}.jsonl").write_bytes(content)
    folder.log_dir(4, 0).mkdir()
    assert last_policy_revision(folder) == REVISION
    with pytest.raises(RunError, match="no log to go on from"):
        last_policy_revision(RunFolder(tmp_path, "a"))


def test_a_run_that_tore_in_its_first_line_goes_on(tmp_path):
    """A kill while the first event was written: the next attempt cuts it, says so, and starts."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    torn = run.folder.log_dir(2, 0)
    torn.mkdir()
    (torn / f"{0:012d}.jsonl").write_bytes(b'{"specversion":"1.0"')
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")) as again:
        again.end_batch(again.start_batch(0, 3.0))
    found = events(run.folder, 3)
    assert [event["type"] for event in found[:3]] == [
        "ockham.run.resumed.v1", "ockham.log.recovered.v1", "ockham.policy.loaded.v1"
    ]  # fmt: skip
    assert (found[0]["data"]["from_attempt"], found[0]["data"]["from_size"]) == (2, 0)
    assert found[1]["data"]["cut_bytes"] == 20
