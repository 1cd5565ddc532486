"""Random kills of a real writer, then repair, verification and resumes in random order.

make fault-injection    500 runs
make test               a few
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from tests.fault_injection import checkpoint_writer

MAX_SECONDS = 0.35


def train(runs: Path, batches: int, acknowledged) -> None:
    """Start or resume run `a`, and send attempt and size after each checkpoint."""
    checkpoint_writer.train(runs, batches, lambda signed: acknowledged.send(signed[:2]))


def killed_train(runs: Path, draw: random.Random) -> dict[int, int]:
    """Train in a forked process that is killed at a random time. Return attempt -> acknowledged size."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=train, args=(runs, 10_000, sender))
    process.start()
    time.sleep(draw.uniform(0.0, MAX_SECONDS))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    sender.close()
    sizes: dict[int, int] = {}
    try:
        while receiver.poll():
            attempt, size = receiver.recv()
            sizes[attempt] = size
    except (EOFError, OSError):
        pass
    return sizes


def check(runs: Path, acknowledged: dict[int, int]) -> None:
    """Check that the run is sound, and that no acknowledged event is missing."""
    folder = RunFolder(runs, "a")
    if not folder.exists() or not folder.logs():
        assert acknowledged == {}
        return
    report = verify_run(folder)
    assert [finding for finding in report.findings if finding.kind not in NOTE_CLASSES] == []
    signed = {log.attempt: log.signed for log in report.logs}
    lost = {attempt: size for attempt, size in acknowledged.items() if signed.get(attempt, 0) < size}
    assert lost == {}


def disturb(runs: Path, seed: int) -> int:
    """Kill, repair, resume and verify in a random order. Return the number of kills."""
    draw, acknowledged, kills = random.Random(seed), dict[int, int](), 0
    for step in ["kill", *draw.choices(["kill", "repair", "verify", "complete"], k=4)]:
        folder = RunFolder(runs, "a")
        if step == "kill":
            acknowledged |= killed_train(runs, draw)
            kills += 1
        elif step == "repair" and folder.exists() and folder.logs():
            rebuild(folder)
        elif step == "complete":
            receiver, sender = multiprocessing.Pipe(duplex=False)
            train(runs, 4, sender)
            receiver.close()
        check(runs, acknowledged)
    return kills


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_repairs_and_resumes_in_any_order_stay_sound(tmp_path):
    """No acknowledged event is lost, and no honest crash is a finding."""
    load_or_create_signer()
    for seed in range(4):
        disturb(tmp_path / str(seed), seed)


@pytest.mark.fault_injection
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_500_kill_orders_stay_sound(tmp_path):
    """Each order has up to five kills of a writer with checkpoints and prunings."""
    load_or_create_signer()
    kills = sum(disturb(tmp_path / str(seed), seed) for seed in range(1000, 1500))
    assert kills >= 500
