"""The workshop: configuration, data, model, optimizer, anchor. Torch lives here alone, and is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ockham.nano.adaptation import Adaptation, adaptation_settings, load_base
    from ockham.nano.config import Settings
    from ockham.nano.data import Batches, Corpus, load_corpus
    from ockham.nano.distributed import DistributedRanks
    from ockham.nano.factory import make_trainer
    from ockham.nano.model import GPT
    from ockham.nano.overrides import build_settings, split_overrides
    from ockham.nano.peak import peak_tokens_per_second
    from ockham.nano.signals import InterruptFlag
    from ockham.nano.stage_timer import ProgressLine, StageTimer, reading_progress
    from ockham.nano.start import init_from_pretrained
    from ockham.nano.trainer import Trainer

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
]  # fmt: skip
_LAZY_IMPORTS = {
    "Adaptation": "adaptation",
    "Batches": "data",
    "Corpus": "data",
    "DistributedRanks": "distributed",
    "GPT": "model",
    "InterruptFlag": "signals",
    "ProgressLine": "stage_timer",
    "Settings": "config",
    "StageTimer": "stage_timer",
    "Trainer": "trainer",
    "adaptation_settings": "adaptation",
    "build_settings": "overrides",
    "init_from_pretrained": "start",
    "load_base": "adaptation",
    "load_corpus": "data",
    "make_trainer": "factory",
    "peak_tokens_per_second": "peak",
    "reading_progress": "stage_timer",
    "split_overrides": "overrides",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'ockham.nano' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ockham.nano.{_LAZY_IMPORTS[name]}"), name)
