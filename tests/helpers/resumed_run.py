"""A resumed run: attempt 1 ends at iteration 19, attempt 2 covers iterations 10 to 24."""

from __future__ import annotations

from pathlib import Path

import orjson

from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.run import Run


def resumed_run(runs: Path, run_id: str = "a", **kwargs) -> None:
    kwargs = kwargs or {"plugins": []}

    def keep(metadata, state):
        return CheckpointFiles({"state.json": orjson.dumps(state)}, "0" * 64)

    with Run(runs=runs, run_id=run_id, **kwargs) as run:
        for i in range(20):
            ctx = run.end_batch(run.start_batch(i, 2.0 + i % 3), grad_norm=0.5)
            if i == 9:
                run.save_checkpoint(ctx, "resume", keep)
    start = find_resume_point(runs, run_id)
    with Run(runs=runs, run_id=run_id, resumed=start) as run:
        run.load_state_dict(start.state["run"])
        for i in range(start.iter_num, 25):
            run.end_batch(run.start_batch(i, 2.0 + i % 3), grad_norm=0.5)
