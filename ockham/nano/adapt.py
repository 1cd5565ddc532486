"""Adaptation: an accepted checkpoint, a stream that it is served on, and the way back.

The trainer is the one of `ockham train`; its batches come from a stream, its optimizer may train an adapter alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import CheckpointError
from ockham.nano.adapter import Adapter
from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.optimizer import make_optimizer
from ockham.nano.overrides import settings_from
from ockham.nano.stream import Stream, halves
from ockham.nano.trainer import Evaluation, Trainer
from ockham.nano.weights import MODEL, load_model, metadata_of, weights_digest
from ockham.record.checkpoints import Packed

STARTS: Mapping[str, Any] = {  # what a checkpoint's own training would decide otherwise
    "max_iters": 300, "learning_rate": 3e-4, "warmup_iters": 0, "lr_decay_iters": 0, "weight_decay": 0.0,
    "dropout": 0.0, "gradient_accumulation_steps": 1, "checkpoint_every": 0, "device": "auto", "threads": 0,
    "optimizer": "adamw", "init_from": "", "init_sha256": "",
}  # fmt: skip


class Base(NamedTuple):
    """The checkpoint that is adapted: its folder, the settings and the vocabulary of its model."""

    path: Path
    settings: dict[str, Any]
    vocab_size: int


class Reverted(NamedTuple):
    """How long it took to take the adapter off, and the digest of the weights without it."""

    seconds: float
    weights_sha256: str
    identical: bool


def base_of(path: Path) -> Base:
    """What the folder of a checkpoint says of its model.

    Raises:
        CheckpointError: if it cannot be read, or does not say it.

    """
    told = metadata_of(path / MODEL)
    try:
        return Base(path, dict(told["settings"]), int(told["vocab_size"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path / MODEL}: does not say which model it is of") from None


def settings_for(base: Base, overrides: Sequence[str], recorded: Mapping[str, Any] | None = None) -> Settings:
    """Settings of an adaptation: the model's, a constant learning rate, no weight decay, and `name=value` on top.

    Raises:
        BadInputError: naming the setting and what it takes.

    """
    asked = {text.partition("=")[0].strip() for text in overrides}
    start = {**base.settings, **STARTS, "vocab_size": base.vocab_size}
    if "optimizer" in asked:  # its moments begin here: another one may be taken
        del start["optimizer"]
    chosen = settings_from(overrides=overrides, base=recorded or start)
    own = recorded or "min_lr" in asked
    return chosen if own else dataclasses.replace(chosen, min_lr=chosen.learning_rate)


class Adaptation:
    """A model that is served and adapted.

    Args:
        base: what to start from.
        settings: of the trainer, from `settings_for`.
        familiar: what the model knows, see `Stream`.
        new: what it does not.
        share: of batches that are new text, 0..1.
        patterns: names of the layers that get an adapter; none: all weights are trained.
        rank: of the adapter.

    Raises:
        DataError, CheckpointError, BadInputError: if text, weights or layer names do not fit.

    """

    def __init__(
        self, base: Base, settings: Settings, familiar: Corpus, new: Corpus, share: float,
        patterns: Sequence[str] = (), rank: int = 4,
    ) -> None:  # fmt: skip
        known = dataclasses.replace(familiar, vocab_size=base.vocab_size)
        self.trainer = Trainer(settings, halves(known))
        shape = settings.batch_size, settings.block_size, settings.seed
        self.stream = Stream(known, new, share, *shape, device=self.trainer.device)
        self.trainer.batches = self.stream
        load_model(self.trainer.model, base.path / MODEL)
        self.base_sha256 = self._digest()
        self.adapter = Adapter(self.trainer.model, patterns, rank, settings.seed) if patterns else None
        if self.adapter is not None:
            self.trainer.optimizer = make_optimizer(
                self.trainer.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
                betas=(settings.beta1, settings.beta2), kind=settings.optimizer,
            )  # fmt: skip

    def evaluate(self) -> tuple[Evaluation, Evaluation]:
        """Loss on held-out new and on held-out familiar text: always the same tokens."""
        self.trainer.batches = self.stream.new
        new = self.trainer.evaluate()
        self.trainer.batches = self.stream
        return new, self.trainer.evaluate()

    def pack(self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> Packed:
        """The files of a checkpoint: a plain model with the adapter in its weights; to resume, the two apart."""
        if self.adapter is None or state is not None:
            return self.trainer.pack(metadata, state)
        with self.adapter.merged():
            return self.trainer.pack(metadata)

    def take_off(self) -> Reverted:
        """Take the adapter off, timed, and look whether the weights are those of the checkpoint."""
        assert self.adapter is not None
        seconds = self.adapter.take_off()
        digest = self._digest()
        return Reverted(seconds, digest, digest == self.base_sha256)

    def _digest(self) -> str:
        return weights_digest(dict(self.trainer.model.named_parameters()))
