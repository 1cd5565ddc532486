"""Factory of the trainer: single process, DDP or FSDP.

It is a module of its own because `fsdp` imports `ddp`, which imports `trainer`.
"""

from __future__ import annotations

from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.ddp import DDPTrainer
from ockham.nano.distributed import DistributedRanks
from ockham.nano.trainer import Trainer


def make_trainer(settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> Trainer:
    """Create the trainer of a run: for one process, or for this rank under DDP or FSDP."""
    if ranks.world_size == 1:
        return Trainer(settings, corpus)
    if settings.parallel == "ddp":
        return DDPTrainer(settings, corpus, ranks)
    # FSDP2 takes long to import.
    from ockham.nano.fsdp import FSDPTrainer

    return FSDPTrainer(settings, corpus, ranks)
