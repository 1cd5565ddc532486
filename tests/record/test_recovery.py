"""Crashes of a real process: no acknowledged event is lost, and the next attempt records the cut."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import orjson
import pytest

from ockham.errors import LogError, LogLockedError
from ockham.record import log_writer as log
from ockham.record.checkpoints import find_resume_point
from ockham.record.evidence import check_signed_prefix
from ockham.record.log_status import read_log_status
from ockham.record.log_writer import LogWriter
from ockham.record.parquet.coverage import read_coverage
from ockham.record.recovery import read_gap, recover_log
from ockham.record.run_folder import RunFolder
from ockham.record.signed_heads import read_heads
from ockham.record.tlog.merkle import EMPTY
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import REVISION, decision, events, lines, open_idle_writer, run_folder
from tests.odr.small_runs import FINISHED

# Writes batches as fast as possible, and prints each size that flush() returns.
WRITER = """
import sys
from ockham.run import Run
with Run("balanced", runs=sys.argv[1], run_id="a", facts={"max_iters": 100000, "vocab_size": 256}) as run:
    for i in range(100000):
        run.end_batch(run.start_batch(i, 3.0 + (i % 7) / 10), grad_norm=0.5)
        if i % 25 == 24:
            print(run.flush().size, flush=True)
"""


def killed(tmp_path, after: int) -> int:
    """Start the writer and kill it after some acknowledgements. Return the last acknowledged size."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = 0
    for _ in range(after):
        acknowledged = int(process.stdout.readline())
    time.sleep(0.003 * (after % 5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = process.stdout.read().split()
    process.stdout.close()
    return int(rest[-1]) if rest else acknowledged


@pytest.mark.parametrize("after", [1, 4, 9])
def test_kill_loses_no_acknowledged_event_and_verifies(tmp_path, after):
    """A resume continues after kill -9."""
    acknowledged = killed(tmp_path, after)
    folder = RunFolder(tmp_path, "a")
    assert len(lines(folder)) >= acknowledged > 0
    assert verify_run(folder).sound
    start = find_resume_point(tmp_path, "a")
    with Run(runs=tmp_path, run_id="a", resumed=start) as run:
        run.end_batch(run.start_batch(0, 3.0))
    report = verify_run(folder)
    assert report.sound, report.findings
    assert [log.attempt for log in report.logs] == [1, 2]
    assert report.logs[0].signed == report.logs[0].events


@pytest.mark.parametrize("tail", [b'{"specversion":"1.0","id', b"\0" * 4096])
def test_torn_tail_is_truncated_kept_and_recorded(tmp_path, tail):
    """The bytes are in torn/, and log.recovered names them."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    segment = run.folder.segments(1, 0)[0]
    before = segment.read_bytes()
    with segment.open("ab") as file:
        file.write(tail)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    message = next(e["data"] for e in events(run.folder, 2) if e["type"] == "ockham.log.recovered.v1")
    assert (run.folder.path / message["cut_file"]).read_bytes() == tail
    assert message["cut_bytes"] == len(tail)
    assert message["kept_events"] == before.count(b"\n")
    assert segment.read_bytes() == before
    assert verify_run(run.folder).sound


def test_log_with_a_writer_cannot_be_resumed(tmp_path):
    """The first writer continues."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
        run.flush()
        with (
            pytest.raises(LogLockedError, match="still being written"),
            Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")),
        ):
            pass
        run.end_batch(run.start_batch(1, 3.0))
    assert verify_run(run.folder).sound


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_failed_sync_is_never_repeated(tmp_path, monkeypatch, call, code):
    """A second fsync could succeed although pages are lost, so nothing more is written."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    writer.append("decision.made", decision(0)._replace(), iter_num=0)
    calls = []

    def broken(descriptor):
        calls.append(descriptor)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(LogError, match=os.strerror(code)):
        writer.flush()
    size = folder.segments(1, 0)[0].stat().st_size
    with pytest.raises(LogError):
        writer.append("decision.made", decision(1), iter_num=1)
    with pytest.raises(LogError):
        writer.close()
    assert len(calls) == 1
    assert folder.segments(1, 0)[0].stat().st_size == size


@pytest.mark.parametrize("wait", ["", "run.flush()"], ids=["the segment is full", "a tree head is full"])
def test_full_disk_is_recorded_as_log_halted(tmp_path, wait):
    """Verification reports a gap and no tampering."""
    script = f"""
set -e
mount -t tmpfs -o size=600k tmpfs {tmp_path}
export OCKHAM_KEY_DIR={tmp_path.parent}/{tmp_path.name}-keys
{sys.executable} - <<'P' || true
import atexit
from ockham.run import Run
atexit.register(lambda: print(run.attempt.log.next_sequence))
with Run("balanced", runs="{tmp_path}", run_id="a", facts={{"max_iters": 100000, "vocab_size": 256}}) as run:
    for i in range(100000):
        run.end_batch(run.start_batch(i, 3.0 + (i % 7) / 10), grad_norm=0.5)
        {wait}
P
tail -n 1 {tmp_path}/a/log/1-0/*.jsonl
{sys.executable} - <<'P'
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
report = verify_run(RunFolder("{tmp_path}", "a"))
print(report.logs[0].signed, ", ".join(sorted(report.counts)))
P
"""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    if "Operation not permitted" in done.stderr or done.returncode == 127:
        pytest.skip("this machine does not allow mounting a small file system")
    appended, line, verified = done.stdout.splitlines()
    last = orjson.loads(line)
    assert last["type"] == "ockham.log.halted.v1"
    assert last["data"]["reason_code"] == "ENOSPC"
    assert last["data"]["sequence"] + last["data"]["lost_events"] == int(appended)
    assert verified == f"{last['data']['sequence'] + 1} gap, key not pinned, not pinned"


def test_file_size_limit_is_recorded(tmp_path):
    """Acknowledged events remain, and the loss is recorded."""
    code = f"""
import resource, signal, sys
from ockham.errors import LogError
from ockham.run import Run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    facts = {{"max_iters": 100000, "vocab_size": 256}}
    with Run("balanced", runs={str(tmp_path)!r}, run_id="a", facts=facts) as run:
        run.end_batch(run.start_batch(0, 3.0))
        print(run.flush().size, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        for i in range(1, 100000):
            run.end_batch(run.start_batch(i, 3.0 + (i % 7) / 10), grad_norm=0.5)
            if i % 25 == 0:
                print(run.flush().size, flush=True)
except LogError as error:
    print("halted", error, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    message = done.stdout.splitlines()
    assert message[-1].startswith("halted"), done.stderr[-400:]
    folder = RunFolder(tmp_path, "a")
    assert len(lines(folder)) >= int(message[-2]) > 0
    assert folder.segments(1, 0)[0].stat().st_size <= 150_000
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    report = verify_run(folder)
    assert report.counts.keys() & {"gap", "tampering", "corruption", "contradiction"} == {"gap"}
    assert any(f.kind == "gap" for f in report.findings)


def test_failed_sync_is_recorded_by_the_next_attempt(tmp_path, monkeypatch):
    """It starts with a signed log.gap of unknown size."""
    real = os.fdatasync
    run = Run(plugins=[], runs=tmp_path, run_id="a").__enter__()
    run.end_batch(run.start_batch(0, 3.0))
    run.flush()

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LogError):
        run.end_batch(run.start_batch(1, 3.0))
        run.flush()
    with pytest.raises(LogError):
        run.__exit__(None, None, None)
    monkeypatch.setattr(os, "fdatasync", real)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    gap = next(e["data"] for e in events(run.folder, 2) if e["type"] == "ockham.log.gap.v1")
    assert (gap["reason_code"], gap["from_attempt"], gap["count"]) == ("WRITER_FAILED", 1, None)
    assert verify_run(run.folder).counts.keys() & {"gap", "tampering", "corruption"} == {"gap"}


@pytest.mark.parametrize("attack", ["shorter", "other"])
def test_missing_signed_events_prevent_a_resume(tmp_path, attack):
    """A crash cannot cause that. Nothing is changed."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    segment = run.folder.segments(1, 0)[0]
    data = segment.read_bytes()
    whole = data.splitlines(keepends=True)
    data = b"".join(whole[:-1]) if attack == "shorter" else data.replace(b"3.0", b"4.0", 1)
    segment.write_bytes(data + b"torn")
    with (
        pytest.raises(LogError, match="signed"),
        Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")),
    ):
        pass
    assert segment.read_bytes() == data + b"torn"
    assert run.folder.last_attempt() == 1


def write_log(tmp_path, *last):
    """Write log 2-1 of a run: three decisions in segments of three, and the given events."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 2, 1, policy_revision=REVISION, segment_events=3)
    for i in range(3):
        writer.append("decision.made", decision(i), iter_num=i)
    for kind, fields in last:
        writer.append(kind, fields, subject="log")
    writer.close()
    return folder


HALTED = ("log.halted", {"reason_code": "ENOSPC", "message": "full", "lost_events": 3})


@pytest.mark.parametrize("torn", [b"", b'{"torn'])
def test_lost_events_of_a_halted_log_are_counted(tmp_path, torn):
    """The last complete line can be in the segment before a torn one."""
    folder = write_log(tmp_path, HALTED)
    count = len(lines(folder, 2, 1))
    assert len(folder.segments(2, 1)) > 1
    if torn:
        (folder.log_dir(2, 1) / f"{count:012d}.jsonl").write_bytes(torn)
    gap = {"from_attempt": 2, "from_sequence": count, "reason_code": "ENOSPC", "count": 3}
    assert read_gap(folder, 2, 1) == gap


def test_gap_distinguishes_a_stopped_writer_from_a_killed_one(tmp_path):
    """Only the stopped one released its reserve."""
    folder = write_log(tmp_path)
    count = len(lines(folder, 2, 1))
    gap = {"from_attempt": 2, "from_sequence": count, "reason_code": "WRITER_FAILED", "count": None}
    assert read_gap(folder, 2, 1) == gap
    (folder.log_dir(2, 1) / "reserve").write_bytes(b"")
    assert read_gap(folder, 2, 1) is None
    assert read_gap(folder, 1, 0) is None


def test_gap_after_an_end_is_none(tmp_path):
    """The same holds for a log without a line."""
    assert read_gap(write_log(tmp_path, ("run.finished", FINISHED)), 2, 1) is None
    assert read_gap(run_folder(tmp_path, "b"), 1, 0) is None


def test_recovery_writes_parquet_of_complete_lines(tmp_path):
    """Without a torn tail nothing is truncated."""
    folder = write_log(tmp_path, HALTED)
    whole = lines(folder, 2, 1)
    with folder.segments(2, 1)[-1].open("ab") as file:
        file.write(b"torn")
    message = recover_log(folder, 2, 1, [load_or_create_signer().verifier])
    assert (message["kept_events"], message["cut_events"], message["cut_bytes"]) == (len(whole), 0, 4)
    assert read_coverage(folder, 2, 1).segments == []
    # A kill can prevent the event, so the next resume reports the same.
    assert recover_log(folder, 2, 1, [load_or_create_signer().verifier]) == message
    assert recover_log(folder, 3, 0) is None
    assert lines(folder, 2, 1) == whole


@pytest.mark.parametrize("attack", ["other", "less"])
def test_missing_signed_lines_are_reported_with_their_log(tmp_path, attack):
    """Nothing is truncated."""
    folder = write_log(tmp_path)
    segment = folder.segments(2, 1)[0 if attack == "other" else -1]
    before = segment.read_bytes()
    data = before.replace(b'"q":0.25', b'"q":0.26', 1) if attack == "other" else b"torn"
    assert data != before
    segment.write_bytes(data)
    message = "differ from the signed ones" if attack == "other" else "events were signed, but"
    with pytest.raises(LogError, match=rf"^.*/a/log/2-1: .*{message}"):
        recover_log(folder, 2, 1, [load_or_create_signer().verifier])
    assert segment.read_bytes() == data
    # Without a key, no tree head is valid.
    assert check_signed_prefix(folder, 2, 1, []).signed == 0


def test_heads_of_other_keys_do_not_hide_signed_heads(tmp_path):
    """Without a signature nothing can be missing."""
    folder = write_log(tmp_path)
    keys, log = [load_or_create_signer().verifier], folder.log_dir(2, 1)
    sizes = read_heads(folder, 2, 1, keys).roots.keys()
    assert max(sizes) == len(lines(folder, 2, 1))
    strange = load_or_create_signer(tmp_path / "strange").sign("ockham/runs/a/2-1\n1\n" + "A" * 43 + "=\n")
    (log / "checkpoints").write_bytes(strange + b"\n" + (log / "checkpoints").read_bytes())
    (log / "checkpoint").unlink()
    assert read_heads(folder, 2, 1, keys).roots.keys() == sizes
    (log / "checkpoints").unlink()
    for segment in folder.segments(2, 1):
        segment.unlink()
    assert read_heads(folder, 2, 1, keys).roots == {}
    assert check_signed_prefix(folder, 2, 1, keys).head == (0, EMPTY)


def test_run_finished_as_last_event_of_a_segment_is_an_end(tmp_path):
    """log.sealed follows it in the next segment."""
    for filled in range(2, 9):
        folder = run_folder(tmp_path, f"r{filled}")
        writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=filled)
        writer.append("decision.made", decision(0), iter_num=0)
        writer.append("run.finished", FINISHED)
        writer.close()
        assert read_gap(folder, 1, 0) is None, filled
        found = read_log_status(folder, 1, 0)
        assert (found.last, found.reason_code, found.events) == (
            "run.finished",
            "COMPLETED",
            len(lines(folder)),
        )


def test_run_finished_followed_by_several_seals_is_an_end(tmp_path, monkeypatch):
    """Each waiting segment adds one seal."""
    folder = run_folder(tmp_path)
    # All events are in the queue before the writer reads it.
    monkeypatch.setattr(log, "SYNC_INTERVAL_SECONDS", 600.0)
    writer = open_idle_writer(folder, segment_events=10)
    for i in range(60):
        writer.append("decision.made", decision(i), iter_num=i)
    writer.append("run.finished", FINISHED)
    writer.close()
    kinds = [orjson.loads(line)["type"] for line in lines(folder)]
    assert kinds[kinds.index("ockham.run.finished.v1") + 2 :], "the writer was faster: nothing was tried"
    assert read_gap(folder, 1, 0) is None
    assert (read_log_status(folder, 1, 0).last, read_log_status(folder, 1, 0).events) == (
        "run.finished",
        len(lines(folder)),
    )


@pytest.mark.fault_injection
@pytest.mark.parametrize("part", range(8))
def test_two_hundred_kills_lose_no_acknowledged_event(tmp_path, part):
    """No crash is reported as tampering. Eight parts of 25 kills."""
    heard = there = 0
    for i in range(25 * part, 25 * part + 25):
        runs = tmp_path / str(i)
        acknowledged = killed(runs, 1 + i % 11)
        folder = RunFolder(runs, "a")
        found = len(lines(folder))
        assert found >= acknowledged > 0, i
        assert verify_run(folder).sound, i
        heard, there = heard + acknowledged, there + found
    print(
        f"kills {25 * part} to {25 * part + 24}: {heard} events acknowledged, {there} on disk,"
        " 0 lost, 0 called tampering"
    )
