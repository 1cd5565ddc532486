"""The workshop: configuration, data, model, optimizer, anchor. Torch lives here alone, and is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ockham.nano.adapt import Adaptation, base_of, settings_for
    from ockham.nano.config import Settings
    from ockham.nano.data import Batches, Corpus, load_corpus
    from ockham.nano.interrupt import Interrupt
    from ockham.nano.many import trainer_for
    from ockham.nano.meter import Meter, ProgressLine, loading
    from ockham.nano.model import GPT
    from ockham.nano.overrides import settings_from, split_overrides
    from ockham.nano.peak import peak_tokens
    from ockham.nano.ranks import Ranks
    from ockham.nano.start import start_from_pretrained
    from ockham.nano.trainer import Trainer

__all__ = ["GPT", "Adaptation", "Batches", "Corpus", "Interrupt", "Meter", "ProgressLine", "Ranks", "Settings", "Trainer", "base_of", "load_corpus",
           "loading", "peak_tokens", "settings_for", "settings_from", "split_overrides", "start_from_pretrained", "trainer_for"]  # fmt: skip
_HOMES = {
    "Adaptation": "adapt", "base_of": "adapt", "settings_for": "adapt",
    "Settings": "config", "settings_from": "overrides", "split_overrides": "overrides",
    "Batches": "data", "Corpus": "data", "load_corpus": "data",
    "Interrupt": "interrupt", "Meter": "meter", "ProgressLine": "meter", "loading": "meter", "GPT": "model", "peak_tokens": "peak",
    "trainer_for": "many", "Ranks": "ranks", "Trainer": "trainer", "start_from_pretrained": "start",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ockham.nano' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ockham.nano.{_HOMES[name]}"), name)
