"""A loop of your own writes checkpoints that it can resume from."""

from __future__ import annotations

import pytest

import ockham


def test_resume_checkpoint_without_state_is_rejected(tmp_path):
    """No incomplete checkpoint is left."""
    with ockham.Run("observe", runs=tmp_path, run_id="a", facts={"max_iters": 1}) as run:
        ctx = run.end_batch(run.start_batch(0, 2.0))
        with pytest.raises(ockham.OckhamError, match=r"state\.json"):
            run.save_checkpoint(
                ctx, "resume", lambda metadata, state: ockham.CheckpointFiles({"w": b"w"}, "0" * 64)
            )
    assert not list((tmp_path / "a" / "checkpoints").glob("*"))
