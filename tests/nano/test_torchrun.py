"""torchrun itself, as the README has it: `-m ockham train`, a rank that dies, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.tiny_trainer import TINY, text

LIMIT_SECONDS = 120


def until(seen, process):
    """Wait until something is there, while the process lives."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (found := seen()):
        assert process.poll() is None, "torchrun has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def worker(torchrun, rank):
    """Process ID of a rank."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    of = {pid: dict(v.partition("=")[::2] for v in Path(f"/proc/{pid}/environ").read_text().split("\0")) for pid in children}  # fmt: skip
    return next(int(pid) for pid, env in of.items() if env.get("RANK") == str(rank))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks by /proc")
def test_a_lost_rank_is_started_again_and_ctrl_c_ends_all(tmp_path):
    """One rank is killed: both go on from the checkpoint, as attempt 2. Interrupted: both logs end, one valid run."""
    text(tmp_path)
    folder = RunFolder(tmp_path / "runs", "t")
    sets = [w for s in (*TINY, "max_iters=100000", "checkpoint_every=10", "device=cpu") for w in ("--set", s)]
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "ockham", "train", "--run-id", "t",
             "--resume", "--runs", "runs", "--data", "text.txt", *sets]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    with (
        open(tmp_path / "said", "w") as said,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=said, stderr=said) as torchrun,
    ):
        try:
            until((folder.path / "checkpoints/resume-00000009").exists, torchrun)
            os.kill(worker(torchrun, 1), signal.SIGKILL)
            until(lambda: list(folder.path.glob("checkpoints/resume-*.2")), torchrun)
            torchrun.send_signal(signal.SIGINT)
            torchrun.wait(LIMIT_SECONDS)
        except BaseException:
            torchrun.terminate()
            raise
    told = (tmp_path / "said").read_text()
    assert told.count("ockham:") == 1, told  # what rank 0 says of the one that was killed
    assert "another rank has ended" in told
    for rank in (0, 1):
        found = events(folder, 2, rank)
        assert found[0]["data"]["reason_code"] == "RESUMED_FROM_CHECKPOINT"
        assert found[-1]["data"]["reason_code"] == "INTERRUPTED"
        assert found[-1]["data"]["batches"] == events(folder, 2, 0)[-1]["data"]["batches"]
    assert verify_run(folder).sound
    assert replay_run(folder).identical  # both attempts of both ranks, the one that was killed too
