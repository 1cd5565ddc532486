"""Reference trainer: settings, data, model, optimizer, anchor and the training of several ranks.

Only this package imports torch. The public names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockham._lazy import make_getattr

if TYPE_CHECKING:
    from ockham.nano.adaptation import Adaptation, adaptation_settings, load_base
    from ockham.nano.config import Settings
    from ockham.nano.data import Batches, Corpus, load_corpus
    from ockham.nano.device import peak_tokens_per_second
    from ockham.nano.distributed import DistributedRanks
    from ockham.nano.factory import make_trainer
    from ockham.nano.model import GPT
    from ockham.nano.overrides import build_settings, split_overrides
    from ockham.nano.pretrained import init_from_pretrained
    from ockham.nano.progress import ProgressLine, reading_progress
    from ockham.nano.signals import InterruptFlag
    from ockham.nano.stage_timer import StageTimer
    from ockham.nano.trainer import Trainer

_LAZY_IMPORTS = {
    "GPT": "ockham.nano.model",
    "Adaptation": "ockham.nano.adaptation",
    "Batches": "ockham.nano.data",
    "Corpus": "ockham.nano.data",
    "DistributedRanks": "ockham.nano.distributed",
    "InterruptFlag": "ockham.nano.signals",
    "ProgressLine": "ockham.nano.progress",
    "Settings": "ockham.nano.config",
    "StageTimer": "ockham.nano.stage_timer",
    "Trainer": "ockham.nano.trainer",
    "adaptation_settings": "ockham.nano.adaptation",
    "build_settings": "ockham.nano.overrides",
    "init_from_pretrained": "ockham.nano.pretrained",
    "load_base": "ockham.nano.adaptation",
    "load_corpus": "ockham.nano.data",
    "make_trainer": "ockham.nano.factory",
    "peak_tokens_per_second": "ockham.nano.device",
    "reading_progress": "ockham.nano.progress",
    "split_overrides": "ockham.nano.overrides",
}
__all__ = [
    "GPT",
    "Adaptation",
    "Batches",
    "Corpus",
    "DistributedRanks",
    "InterruptFlag",
    "ProgressLine",
    "Settings",
    "StageTimer",
    "Trainer",
    "adaptation_settings",
    "build_settings",
    "init_from_pretrained",
    "load_base",
    "load_corpus",
    "make_trainer",
    "peak_tokens_per_second",
    "reading_progress",
    "split_overrides",
]
__getattr__ = make_getattr(__name__, _LAZY_IMPORTS)
