"""Start and end of an attempt: refused states, waiting for the lock, and recovery of a torn log."""

from __future__ import annotations

import threading

import pytest

from ockham.errors import LogError, RunError
from ockham.record import attempt
from ockham.record.attempt import Attempt, last_policy_revision, log_head
from ockham.record.checkpoints import find_resume_point
from ockham.record.rank_group import RankGroup
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.tree_head import split_history
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import REVISION, events, lines, log_folder, run_folder


def test_attempt_is_open_between_first_and_last_event(tmp_path):
    """A second close writes no second end."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        assert run.attempt.is_open
        run.end_batch(run.start_batch(0, 3.0))
    assert not run.attempt.is_open
    before = lines(run.folder)
    run.attempt.close({"reason_code": "COMPLETED"})
    assert lines(run.folder) == before
    assert not Attempt(RunFolder(tmp_path, "b"), RankGroup(0, 1), resume=False).is_open


def test_attempt_with_several_ranks_requires_all_gather(tmp_path):
    """Without it ranks cannot agree on the attempt number, so nothing is touched."""
    with Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    again = Attempt(RunFolder(tmp_path, "a"), RankGroup(0, 2), resume=True)
    with pytest.raises(RunError, match="a resume on several ranks requires `all_gather`"):
        again.open(("sha256:" + "0" * 64, b"{}"), {}, {}, {})
    assert RunFolder(tmp_path, "a").logs() == [(1, 0)]


def test_rank_waits_for_rank_zero_to_create_the_run_folder(tmp_path, monkeypatch):
    """A network file system can show the folder later. The wait is limited."""
    folder = RunFolder(tmp_path, "a")
    waiting = Attempt(folder, RankGroup(1, 2), resume=False)
    monkeypatch.setattr(attempt, "WAIT_FOR_RANK_0_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"rank 1 waited 0\.1 s for rank 0 to create .*/a"):
        waiting._wait_for_rank_0()
    monkeypatch.setattr(attempt, "WAIT_FOR_RANK_0_SECONDS", 60)
    late = threading.Timer(0.1, lambda: run_folder(tmp_path, "a"))
    late.start()
    waiting._wait_for_rank_0()
    assert folder.exists()
    late.join()


def test_sealed_segment_is_converted_in_a_separate_process(tmp_path, monkeypatch):
    """The process uses the same interpreter, and no thread waits for it."""
    begun = []
    monkeypatch.setattr(attempt.subprocess, "Popen", lambda words, **kwargs: begun.append((words, kwargs)))
    Attempt(RunFolder(tmp_path, "a"), RankGroup(0, 1), resume=False)._derive_in_background(tmp_path)
    [(words, kwargs)] = begun
    assert words[1:] == ["-P", "-m", "ockham.record.parquet.builder", str(tmp_path), "a"]
    assert kwargs["start_new_session"]


def test_log_head_of_an_old_log_covers_complete_lines(tmp_path):
    """A torn tail does not count."""
    folder = log_folder(tmp_path)
    whole = lines(folder)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b'{"torn')
    assert log_head(folder, 1, 0) == {
        "from_size": len(whole),
        "from_root": root_from_leaves([leaf_hash(line) for line in whole]).hex(),
    }


def test_last_policy_is_read_from_the_newest_log_with_a_complete_line(tmp_path):
    """Logs without a complete line are skipped."""
    folder = run_folder(tmp_path)
    with pytest.raises(RunError, match="'a' has no log to resume from"):
        last_policy_revision(folder)
    folder = log_folder(tmp_path / "b")
    for number, content in ((2, b'{"torn'), (3, b"")):
        folder.log_dir(number, 0).mkdir()
        (folder.log_dir(number, 0) / f"{0:012d}.jsonl").write_bytes(content)
    folder.log_dir(4, 0).mkdir()
    assert last_policy_revision(folder) == REVISION
    with pytest.raises(RunError, match="no log to resume from"):
        last_policy_revision(RunFolder(tmp_path, "a"))


def test_run_with_a_torn_first_line_can_be_resumed(tmp_path):
    """The next attempt truncates the line and records it."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    torn = run.folder.log_dir(2, 0)
    torn.mkdir()
    (torn / f"{0:012d}.jsonl").write_bytes(b'{"specversion":"1.0"')
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")) as again:
        again.end_batch(again.start_batch(0, 3.0))
    found = events(run.folder, 3)
    assert [event["type"] for event in found[:3]] == [
        "ockham.run.resumed.v1",
        "ockham.log.recovered.v1",
        "ockham.policy.loaded.v1",
    ]
    # Attempt 2 has no event, so the chain of roots continues from attempt 1.
    assert (found[0]["data"]["from_attempt"], found[0]["data"]["from_size"]) == (1, len(events(run.folder)))
    assert found[1]["data"]["cut_bytes"] == 20


def test_resume_names_the_digest_of_run_json(tmp_path):
    """A first attempt that was killed before its first signed line leaves no other event that does."""
    with Run(plugins=[], runs=tmp_path, run_id="a", settings={"lr": 1}) as run:
        run.end_batch(run.start_batch(0, 3.0))
    log = run.folder.log_dir(1, 0)
    notes, _ = split_history((log / "checkpoints").read_bytes())
    (log / "checkpoint").write_bytes(notes[0])
    (log / "checkpoints").write_bytes(notes[0] + b"\n")
    with Run(plugins=[], runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")) as again:
        again.end_batch(again.start_batch(0, 3.0))
    assert verify_run(run.folder).sound
    content = run.folder.run_json.read_bytes()
    run.folder.run_json.write_bytes(content.replace(b'"lr": 1', b'"lr": 2'))
    found = {finding.place for finding in verify_run(run.folder).findings if finding.kind == "tampering"}
    assert found == {"run.json"}
    with pytest.raises(LogError, match="differs from the signed digest"):
        find_resume_point(tmp_path, "a")
