"""Background verification: results belong to one state of the files, and the newest runs are first."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import threading
import time

import pytest

from dashboard.verification_worker import verify_to_dict
from dashboard.verifier import FINDING_HEADLINES, LogState, RunVerifier, WorkerProcess, read_report
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES
from ockham.run import Run
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, "a", batches=30)


def test_run_is_not_verified_until_its_turn(tmp_path, run):
    """No result is assumed. The result contains events, key and time."""
    verifier = RunVerifier(tmp_path)
    assert verifier.state("a") == LogState()
    before = dt.datetime.now(dt.UTC)
    verifier.verify_changed()
    state = verifier.state("a")
    assert (state.status, state.is_current, state.is_own_key) == ("verified", True, True)
    assert before <= state.checked <= dt.datetime.now(dt.UTC)
    lines = sum(len(path.read_bytes().splitlines()) for path in run.folder.segments(1, 0))
    assert (state.events, state.signed, state.pinned) == (lines, lines, 0)


def test_changed_digit_is_found_and_located(tmp_path, run):
    """The result is out of date at once, and names the changed event after the next verification."""
    verifier = RunVerifier(tmp_path)
    verifier.verify_changed()
    sequence = change_one_digit(run.folder)
    assert not verifier.state("a").is_current
    # The pause after a verification is a multiple of its duration.
    verifier._results["a"] = verifier._results["a"]._replace(seconds=0.0)
    verifier.verify_changed()
    state = verifier.state("a")
    assert (state.status, state.problem, state.sequence) == ("broken", "tampering", sequence)
    assert state.headline == f"changed after it was signed, at event {sequence}"
    assert list(verifier.broken()) == ["a"]


def test_change_with_the_same_size_and_time_is_noticed(tmp_path, run):
    """A program cannot set back the time of the inode."""
    verifier = RunVerifier(tmp_path)
    verifier.verify_changed()
    segment = run.folder.segments(1, 0)[0]
    before = segment.stat()
    change_one_digit(run.folder)
    os.utime(segment, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert segment.stat().st_size == before.st_size
    assert not verifier.state("a").is_current


def test_broken_run_stays_broken_until_it_is_verified_again(tmp_path, run):
    """Another change of the files does not make the result better."""
    shutil.copytree(tmp_path / "a", tmp_path / "saved")
    change_one_digit(run.folder)
    verifier = RunVerifier(tmp_path)
    verifier.verify_changed()
    shutil.rmtree(tmp_path / "a")
    shutil.move(tmp_path / "saved", tmp_path / "a")
    assert verifier.state("a").is_broken
    verifier._results["a"] = verifier._results["a"]._replace(seconds=0.0)
    verifier.verify_changed()
    assert verifier.state("a").status == "verified"


def test_newest_runs_are_first_and_a_requested_run_is_next(tmp_path):
    """A run that a page shows does not wait for the others."""
    for number, name in enumerate(("c", "a", "d", "b")):
        make_run(tmp_path, name, batches=3)
        os.utime(tmp_path / name / "run.json", (number, number))
    order = []
    verifier = RunVerifier(tmp_path)

    def verify(runs, run_id):
        order.append(run_id)
        if run_id == "b":
            verifier.state("c")
        return verify_to_dict(runs, run_id)

    verifier._verify = verify
    verifier.verify_changed()
    assert order == ["b", "c", "d", "a"]
    verifier.verify_changed()
    assert len(order) == 4, "unchanged runs are not verified again"


def test_live_run_is_not_verified_all_the_time(tmp_path):
    """After a verification there is a pause of a multiple of its duration."""
    calls = []

    def verify(runs, run_id):
        calls.append(run_id)
        return verify_to_dict(runs, run_id)

    verifier = RunVerifier(tmp_path, verify)
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        run.end_batch(run.start_batch(0, 2.0))
        run.flush()
        verifier.verify_changed()
        verifier._results["live"] = verifier._results["live"]._replace(seconds=1000.0)
        run.end_batch(run.start_batch(1, 2.0))
        run.flush()
        verifier.verify_changed()
        assert calls == ["live"]
        state = verifier.state("live")
        assert (state.status, state.is_current) == ("verified", False)


def test_run_without_log_and_removed_run_have_no_good_result(tmp_path, run):
    """A run that cannot be verified is broken. A run that does not exist has no result."""
    make_run(tmp_path, "b", batches=3)
    shutil.rmtree(tmp_path / "b" / "log")
    verifier = RunVerifier(tmp_path)
    verifier.verify_changed()
    assert verifier.state("b").status == "unreadable"
    assert "no log" in verifier.state("b").message
    shutil.rmtree(tmp_path / "b")
    verifier.verify_changed()
    assert list(verifier.broken()) == []


def test_each_class_of_findings_has_a_headline():
    """A new class of findings needs words for the header."""
    assert set(FINDING_HEADLINES) == set(CLASS_DESCRIPTIONS) - NOTE_CLASSES


def test_gravest_class_is_the_headline():
    """The first class of the report's order is shown, and its lowest event."""
    findings = [
        {"kind": "derived", "place": "p", "message": "m", "sequence": 1},
        {"kind": "tampering", "place": "log/1-0", "message": "x", "sequence": None},
        {"kind": "tampering", "place": "log/1-0", "message": "y", "sequence": 9},
        {"kind": "tampering", "place": "log/2-0", "message": "z", "sequence": 7},
    ]
    counts = {"derived": 1, "tampering": 3, "not pinned": 1}
    report = {"logs": [], "counts": counts, "findings": findings}
    state = read_report(report, dt.datetime.now(dt.UTC))
    assert (state.problem, state.sequence, state.message, state.findings) == ("tampering", 7, "z", 4)


def test_worker_process_reports_the_same_as_this_process(tmp_path, run):
    """The worker is started again after it has ended, and ends with its input."""
    worker = WorkerProcess()
    assert worker.verify(str(tmp_path), "a") == verify_to_dict(str(tmp_path), "a")
    assert "no log" in worker.verify(str(tmp_path), "nowhere")["error"]
    worker._child.kill()
    worker._child.wait()
    assert worker.verify(str(tmp_path), "a")["report"]["sound"]
    child = worker._child
    worker.close()
    worker.close()
    assert child.returncode == 0


def test_thread_ends_when_it_is_stopped(tmp_path, run):
    """A server with another folder does not keep the threads of earlier ones."""
    verifier = RunVerifier(tmp_path)
    thread = threading.Thread(target=verifier.run_forever, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while verifier.state("a").status != "verified" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert verifier.state("a").status == "verified"
    verifier.stop()
    thread.join(20)
    assert not thread.is_alive()
