"""torchrun as in the README: `-m ockham train`, a killed rank, and Ctrl-C."""

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
from tests.helpers.train_command import has_checkpoint

LIMIT_SECONDS = 120


def wait_until(condition, process):
    """Return the value of the condition as soon as it is true, while the process is alive."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (value := condition()):
        assert process.poll() is None, "torchrun has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def find_worker(torchrun, rank):
    """Return the process ID of a rank."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_text().split("\0")
        if f"RANK={rank}" in variables:
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks by /proc")
def test_torchrun_restarts_a_killed_rank_and_ctrl_c_ends_all(tmp_path):
    """After a kill both ranks resume from the checkpoint as attempt 2.

    Ctrl-C ends both logs of one valid run.
    """
    text(tmp_path)
    folder = RunFolder(tmp_path / "runs", "t")
    overrides = [
        w for s in (*TINY, "max_iters=100000", "checkpoint_every=10", "device=cpu") for w in ("--set", s)
    ]
    options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    options += ["-m", "--", "ockham", "train", "--run", "t", "--resume"]
    options += ["--runs", "runs", "--data", "text.txt", *overrides]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    with (
        open(tmp_path / "output", "w") as output,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=output) as torchrun,
    ):
        try:
            # The second one exists after the event of the first was signed.
            wait_until(lambda: has_checkpoint(folder, 19), torchrun)
            os.kill(find_worker(torchrun, 1), signal.SIGKILL)
            wait_until(lambda: list(folder.path.glob("checkpoints/resume-*.2")), torchrun)
            torchrun.send_signal(signal.SIGINT)
            torchrun.wait(LIMIT_SECONDS)
        except BaseException:
            torchrun.terminate()
            raise
    output_text = (tmp_path / "output").read_text()
    # Rank 0 reports that the other rank was killed.
    assert output_text.count("ockham:") == 1, output_text
    assert "another rank has ended" in output_text
    for rank in (0, 1):
        log_events = events(folder, 2, rank)
        assert log_events[0]["data"]["reason_code"] == "RESUMED_FROM_CHECKPOINT"
        assert log_events[-1]["data"]["reason_code"] == "INTERRUPTED"
        assert log_events[-1]["data"]["batches"] == events(folder, 2, 0)[-1]["data"]["batches"]
    assert verify_run(folder).sound
    # This covers both attempts of both ranks, also of the killed one.
    assert replay_run(folder).identical
