"""Verification of a run while it is written: one consistent view, and no false alarm."""

from __future__ import annotations

import contextlib
import shutil
import threading

import orjson
import pytest

from ockham.record.checkpoints import CheckpointFiles
from ockham.record.run_folder import RunFolder
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.run import Run


def pack(metadata, state):
    return CheckpointFiles({"state.json": orjson.dumps(state or metadata), "w": b"1" * 10_000}, "0" * 64)


@pytest.fixture
def live_run(tmp_path):
    """Write batches, checkpoints and prunings in a thread until the test ends."""
    stop, begun = threading.Event(), threading.Event()

    def write():
        with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 1000, "vocab_size": 256}) as run:
            for iter_num in range(1_000_000):
                ctx = run.start_batch(iter_num, 3.0 + iter_num % 7 / 7, learning_rate=1e-3)
                run.end_batch(ctx, grad_norm=0.5)
                if iter_num % 5 == 4:
                    run.save_checkpoint(ctx, "resume", pack)
                    begun.set()
                if stop.is_set():
                    break

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(60)
    yield RunFolder(tmp_path, "a")
    stop.set()
    thread.join()


def findings(folder):
    report = verify_run(folder)
    return [finding for finding in report.findings if finding.kind not in NOTE_CLASSES]


def test_verify_of_a_run_that_is_written_has_no_finding(live_run):
    """Heads, tiles, checkpoints and Parquet files change while they are read."""
    alarms = [finding for _ in range(25) for finding in findings(live_run)]
    assert alarms == []


def test_copy_of_a_run_that_is_written_is_sound_or_named(live_run, tmp_path):
    """Files that were copied at different times are reported as such a copy."""
    for number in range(8):
        copy = tmp_path / f"copy-{number}" / "a"
        # A folder can be removed while it is copied.
        with contextlib.suppress(shutil.Error):
            shutil.copytree(live_run.path, copy)
        for finding in findings(RunFolder(copy.parent, "a")):
            assert finding.kind == "derived" or "made while the run was written" in finding.message
