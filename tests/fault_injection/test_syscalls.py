"""Faults in system calls of the log: strace makes each call fail, or kills the process at it.

make fault-injection    all of it
make test               a few of each
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.run import Run

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")

# Prints the number of appended events and the size that flush() returns.
# An error of the log ends the script, as it ends a trainer.
WRITER = """
import sys
from ockham.errors import OckhamError
from ockham.run import Run
try:
    with Run("balanced", runs=sys.argv[1], run_id="a", facts={"max_iters": 1000, "vocab_size": 256}) as run:
        print("open", flush=True)
        for i in range(12):
            run.end_batch(run.start_batch(i, 3.0 + (i % 7) / 10), grad_norm=0.5)
            if i % 3 == 2:
                print("acknowledged", run.flush().size, flush=True)
except OckhamError as error:
    print("error", type(error).__name__, flush=True)
"""
CALLS = ("write", "fdatasync", "fsync", "rename", "ftruncate", "openat")
FAULTS = ("error=EIO", "error=ENOSPC", "signal=KILL")


def injected(folder: Path, call: str, fault: str, when: int) -> list[str]:
    """Run the writer with one fault in its folder, and return its output."""
    keys = folder / "keys"
    env = {**os.environ, "OCKHAM_KEY_DIR": str(keys)}
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from ockham.record.tlog.note import load_or_create_signer; load_or_create_signer()",
        ],
        env=env,
        check=True,
    )
    runs = folder / "runs"
    (runs / "a").parent.mkdir(parents=True, exist_ok=True)
    trace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{fault}:when={when}",
        sys.executable,
        "-c",
        WRITER,
        str(runs),
    ]
    done = subprocess.run(trace, capture_output=True, text=True, timeout=120, env=env)
    return done.stdout.split("\n")


def judge(folder: Path, words: list[str], monkeypatch) -> str:
    """Check the guarantees after a fault, and return a description for failure messages."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(folder / "keys"))
    run = RunFolder(folder / "runs", "a")
    metadata = [w.split() for w in words if w.startswith("acknowledged ")]
    # A fault can also truncate the output.
    acknowledged = max((int(w[1]) for w in metadata if len(w) > 1), default=0)
    if not run.exists() or not run.logs():
        assert acknowledged == 0
        return "nothing begun"
    lines = sum(segment.read_bytes().count(b"\n") for segment in run.segments(1, 0))
    assert lines >= acknowledged, f"{acknowledged} were acknowledged, {lines} are there"
    if lines == 0:
        return "nothing written"
    report = verify_run(run)
    metadata = [(f.kind, f.place, f.message) for f in report.findings]
    assert "tampering" not in report.counts, metadata
    assert "corruption" not in report.counts, metadata
    assert "contradiction" not in report.counts, metadata
    with Run(
        runs=folder / "runs", run_id="a", resumed=find_resume_point(folder / "runs", "a"), policy="balanced"
    ) as again:
        again.end_batch(again.start_batch(0, 3.0))
    after = verify_run(run)
    assert {"tampering", "corruption", "contradiction"}.isdisjoint(after.counts), after.findings
    return json.dumps(report.counts)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("call", "when"), [("write", 25), ("fdatasync", 2), ("fsync", 9), ("rename", 8)])
def test_fault_loses_no_acknowledged_event(tmp_path, monkeypatch, call, fault, when):
    """A few of each system call. A resume continues."""
    judge(tmp_path, injected(tmp_path, call, fault, when), monkeypatch)


@pytest.mark.fault_injection
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_fault_at_every_occurrence_loses_nothing(tmp_path, monkeypatch, call, fault):
    """Until the writer ends without the fault."""
    step = 1 if call in ("fdatasync", "fsync", "rename", "ftruncate") else 7
    missed = 0
    for when in range(1, 400, step):
        folder = tmp_path / str(when)
        folder.mkdir()
        words = injected(folder, call, fault, when)
        judge(folder, words, monkeypatch)
        clean = any(w.startswith("acknowledged") for w in words) and "error" not in " ".join(words)
        missed = missed + 1 if clean else 0
        shutil.rmtree(folder)
        if missed >= 4:
            return
