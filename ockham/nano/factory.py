"""Which trainer a run takes."""

from __future__ import annotations

from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.ddp import DDPTrainer
from ockham.nano.distributed import DistributedRanks
from ockham.nano.trainer import Trainer


def make_trainer(settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> Trainer:
    """The trainer of one process, or this rank's: of a whole model, or of a share of it."""
    if ranks.world_size == 1:
        return Trainer(settings, corpus)
    if settings.parallel == "ddp":
        return DDPTrainer(settings, corpus, ranks)
    from ockham.nano.fsdp import FSDPTrainer  # FSDP2 takes a while to import

    return FSDPTrainer(settings, corpus, ranks)
