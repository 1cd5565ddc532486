"""Power loss: system calls of a real writer, replayed into the disk images that a crash can leave."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ockham.errors import UnverifiableError
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from tests.fault_injection.crash_disk import Disk, Op, traced

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")

WRITER = """
import sys
from ockham.run import Run
with Run(plugins=[], runs=sys.argv[1], run_id="a") as run:
    for i in range(9):
        run.end_batch(run.start_batch(i, 3.0))
        if i % 2 == 1:
            print(f"acknowledged {run.flush().size}", flush=True)
"""
WRONG = {"tampering", "corruption", "contradiction", "policy missing", "unsigned", "gap"}


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """File operations of one run, and its folder. The key is on another disk."""
    at = tmp_path_factory.mktemp("power")
    env = {**os.environ, "OCKHAM_KEY_DIR": str(at / "keys")}
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from ockham.record.tlog.note import load_or_create_signer; load_or_create_signer()",
        ],
        env=env,
        check=True,
    )
    (at / "runs").mkdir()
    ops = traced([sys.executable, "-c", WRITER, str(at / "runs")], at / "trace", env)
    return ops, str(at / "runs")


def broken(image: dict[str, bytes | None], acknowledged: int, root: str, at: Path) -> str:
    """Return the guarantee that this disk image violates, or an empty text."""
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    for path, data in image.items():
        target = at / path.removeprefix(root + "/")
        if data is None:
            target.mkdir()
        else:
            target.write_bytes(data)
    folder = RunFolder(at, "a")
    lines = sum(s.read_bytes().count(b"\n") for s in folder.segments(1, 0)) if folder.logs() else 0
    if lines < acknowledged:
        return f"{acknowledged} events were acknowledged, {lines} are there"
    try:
        report = verify_run(folder, parquet=False)
    except UnverifiableError as error:
        return f"cannot judge: {error}" if acknowledged else ""
    if acknowledged and report.logs[0].signed < acknowledged:
        return f"{acknowledged} events were acknowledged, and {report.logs[0].signed} are signed"
    wrong = report.counts.keys() & (WRONG if acknowledged else {"tampering", "contradiction"})
    return (
        f"called {sorted(wrong)}: {[f.message for f in report.findings if f.kind in wrong]}" if wrong else ""
    )


def crashes(ops: list[Op], root: str, at: Path, most: int, every: int = 1) -> tuple[int, str]:
    """Return the number of checked images, and the first violated guarantee."""
    disk, draw, tried, changes = Disk(root), random.Random(19), 0, 0
    for number, op in enumerate(ops):
        if not disk.do(op):
            continue
        changes += 1
        if changes % every:
            continue
        for image in disk.images(draw, most):
            tried += 1
            what = broken(image, disk.acknowledged, root, at)
            if what:
                return tried, f"after call {number}, {op.call} {op.target or op.quoted}: {what}"
    return tried, ""


def classify_sync(op: Op, root: str) -> str:
    """Return the kind of file that a sync call makes durable, or '' for other calls."""
    if op.call not in ("fsync", "fdatasync") or not op.target.startswith(root):
        return ""
    name = op.target.rpartition("/")[2]
    if "/day=" in op.target or name == "reserve":
        # Derived files can be rebuilt, and the next attempt allocates a lost reserve again.
        return ""
    if op.target == root:
        return "name of the run folder"
    if op.target.rpartition("/")[0] == root and name.endswith(".tmp"):
        # The run folder before it gets its name.
        return "names in the run folder"
    if name.endswith(".json") and ".tmp/" in op.target:
        # A file of the run folder before the folder gets its name.
        return "file " + ("policy" if len(name) > 40 else "run")
    if name.endswith(".tmp"):
        return "file " + ("policy" if len(name) > 40 else name.split(".")[1])
    kinds = {
        "1-0": "names in the log folder",
        "log": "name of the log folder",
        "a": "names in the run folder",
        "policies": "names of policies",
        "checkpoints": "history of tree heads",
    }
    return "lines" if name.endswith(".jsonl") else kinds.get(name, "")


def test_power_loss_keeps_flushed_events(trace, tmp_path):
    """A sample of the calls. No crash is called tampering."""
    tried, what = crashes(*trace, tmp_path / "image", most=5, every=3)
    assert what == ""
    assert tried > 150


def test_trace_contains_acknowledged_events(trace):
    """Otherwise every image would pass."""
    disk = Disk(trace[1])
    for op in trace[0]:
        disk.do(op)
    assert disk.acknowledged > 10


@pytest.mark.fault_injection
def test_power_loss_at_every_call_keeps_flushed_events(trace, tmp_path):
    """Forty images per call."""
    tried, what = crashes(*trace, tmp_path / "image", most=40)
    assert what == ""
    assert tried > 5_000


def test_removing_any_kind_of_sync_loses_events(trace, tmp_path):
    """The test would notice a missing sync."""
    ops, root = trace
    kinds = {classify_sync(op, root) for op in ops} - {""}
    assert {"lines", "history of tree heads", "names in the log folder", "file checkpoint"} <= kinds
    assert {"file run", "file policy", "names of policies", "name of the run folder"} <= kinds
    survived = [
        kind
        for kind in sorted(kinds)
        if not crashes(
            [op for op in ops if classify_sync(op, root) != kind], root, tmp_path / "image", most=4
        )[1]
    ]
    assert survived == []
