"""A loop of your own writes checkpoints that it can resume from."""

from __future__ import annotations

import pytest

import ockham


def test_a_checkpoint_nobody_could_go_on_from(tmp_path):
    """One of kind resume without the state is refused, and not half written."""
    with ockham.Run("observe", runs=tmp_path, run_id="a", facts={"max_iters": 1}) as run:
        ctx = run.end_batch(run.start_batch(0, 2.0))
        with pytest.raises(ockham.OckhamError, match=r"state\.json"):
            run.save_checkpoint(
                ctx, "resume", lambda metadata, state: ockham.CheckpointFiles({"w": b"w"}, "0" * 64)
            )
    assert not list((tmp_path / "a" / "checkpoints").glob("*"))
