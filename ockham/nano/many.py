"""Which trainer a run takes."""

from __future__ import annotations

from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.parallel import ParallelTrainer
from ockham.nano.ranks import Ranks
from ockham.nano.trainer import Trainer


def trainer_for(settings: Settings, corpus: Corpus, ranks: Ranks) -> Trainer:
    """The trainer of one process, or this rank's: of a whole model, or of a share of it."""
    if ranks.world_size == 1:
        return Trainer(settings, corpus)
    if settings.parallel == "ddp":
        return ParallelTrainer(settings, corpus, ranks)
    from ockham.nano.sharded import ShardedTrainer  # FSDP2 takes a while to import

    return ShardedTrainer(settings, corpus, ranks)
