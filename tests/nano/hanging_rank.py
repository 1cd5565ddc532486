"""Two ranks, of which the second stops answering during a step.

`python -m tests.nano.hanging_rank FOLDER RUN` runs on each rank. In the run `nccl` no wait raises an error.
This is the behaviour of NCCL, which needs a GPU.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import ockham
from ockham import nano
from tests.helpers.tiny_trainer import settings


def main() -> None:
    """Train three steps. Rank 1 hangs in the third."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    new_group = dist.new_group
    if name == "nccl":
        dist.new_group = lambda timeout, **options: new_group(timeout=timedelta(hours=1), **options)
    with nano.DistributedRanks() as ranks:
        ranks.init_groups(settings("rank_timeout=5"))
        run = ockham.Run(
            runs=folder / "runs", run_id=name, rank=ranks.rank, world_size=2, all_gather=ranks.all_gather
        )
        with nano.InterruptFlag() as ranks.interrupt, run, ranks.with_timeout_watchdog(run.finish):
            for iter_num in range(3):
                ctx = run.start_batch(iter_num, ranks.all_reduce_mean(2.0 + ranks.rank))
                if iter_num == 2 and ranks.rank == 1:
                    time.sleep(600)
                ranks.average_gradients([torch.ones(4)])
                run.end_batch(ctx)


if __name__ == "__main__":
    main()
