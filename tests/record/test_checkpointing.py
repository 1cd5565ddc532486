"""Saving checkpoints: when their events are signed."""

from __future__ import annotations

import time

from ockham.record import log_writer
from ockham.record.checkpoints import find_resume_point
from ockham.run import Run
from tests.fault_injection.checkpoint_writer import FACTS, pack


def test_saved_checkpoint_is_signed_at_once(tmp_path, monkeypatch):
    """A kill shortly afterwards resumes from it. The writer does not wait for its interval."""
    monkeypatch.setattr(log_writer, "SYNC_INTERVAL_SECONDS", 600.0)
    with Run("balanced", runs=tmp_path, run_id="a", facts=FACTS) as run:
        ctx = run.end_batch(run.start_batch(0, 3.0, learning_rate=1e-3), grad_norm=0.5)
        run.save_checkpoint(ctx, "resume", pack)
        deadline = time.monotonic() + 60
        while find_resume_point(tmp_path, "a").iter_num == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert find_resume_point(tmp_path, "a").snapshot_id == "resume-00000000"
