"""train.py, which waits to be killed after the checkpoint of iteration 19.

Of several ranks, the last one waits. A test that kills a process while it trains would otherwise have to be
faster than the training.
"""

from __future__ import annotations

import os
import runpy
import time
from typing import Any
from unittest import mock

from ockham import resources
from ockham.context import OccamContext
from ockham.run import Run

PAUSE_ITERATION = 19
_save_checkpoint = Run.save_checkpoint


def save_and_wait(run: Run, ctx: OccamContext, kind: Any, pack: Any, **options: Any) -> str:
    """Save a checkpoint. Wait after that of the iteration."""
    snapshot_id = _save_checkpoint(run, ctx, kind, pack, **options)
    is_last_rank = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
    if kind == "resume" and ctx.iter_num == PAUSE_ITERATION and is_last_rank:
        time.sleep(600)
    return snapshot_id


if __name__ == "__main__":
    with mock.patch.object(Run, "save_checkpoint", save_and_wait):
        runpy.run_path(str(resources.data_root() / "train.py"), run_name="__main__")
