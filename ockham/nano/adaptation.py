"""Adaptation: an accepted checkpoint, a stream that it is served on, and the way back.

The trainer is the one of `ockham train`; its batches come from a stream, its optimizer may train an adapter alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import CheckpointError
from ockham.nano.adaptation_stream import AdaptationStream, split_validation
from ockham.nano.checkpoint_io import MODEL, load_model, read_metadata, weights_digest
from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.lora import LoRAAdapter
from ockham.nano.optimizer import make_optimizer
from ockham.nano.overrides import build_settings
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles

DEFAULT_OVERRIDES: Mapping[str, Any] = {  # what a checkpoint's own training would decide otherwise
    "max_iters": 300, "learning_rate": 3e-4, "warmup_iters": 0, "lr_decay_iters": 0, "weight_decay": 0.0,
    "dropout": 0.0, "gradient_accumulation_steps": 1, "checkpoint_every": 0, "device": "auto", "threads": 0,
    "optimizer": "adamw", "init_from": "", "init_sha256": "",
}  # fmt: skip


class Base(NamedTuple):
    """The checkpoint that is adapted: its folder, the settings and the vocabulary of its model."""

    path: Path
    settings: dict[str, Any]
    vocab_size: int


class RevertResult(NamedTuple):
    """How long it took to take the adapter off, and the digest of the weights without it."""

    seconds: float
    weights_sha256: str
    identical: bool


def load_base(path: Path) -> Base:
    """What the folder of a checkpoint says of its model.

    Raises:
        CheckpointError: if it cannot be read, or does not say it.

    """
    told = read_metadata(path / MODEL)
    try:
        return Base(path, dict(told["settings"]), int(told["vocab_size"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path / MODEL}: does not say which model it is of") from None


def adaptation_settings(
    base: Base, overrides: Sequence[str], recorded: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of an adaptation: the model's, a constant learning rate, no weight decay, and `name=value` on top.

    Raises:
        BadInputError: naming the setting and what it takes.

    """
    asked = {text.partition("=")[0].strip() for text in overrides}
    start = {**base.settings, **DEFAULT_OVERRIDES, "vocab_size": base.vocab_size}
    if "optimizer" in asked:  # its moments begin here: another one may be taken
        del start["optimizer"]
    chosen = build_settings(overrides=overrides, base=recorded or start)
    own = recorded or "min_lr" in asked
    return chosen if own else dataclasses.replace(chosen, min_lr=chosen.learning_rate)


class Adaptation:
    """A model that is served and adapted.

    Args:
        base: what to start from.
        settings: of the trainer, from `adaptation_settings`.
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
        self.trainer = Trainer(settings, split_validation(known))
        shape = settings.batch_size, settings.block_size, settings.seed
        self.stream = AdaptationStream(known, new, share, *shape, device=self.trainer.device)
        self.trainer.batches = self.stream
        load_model(self.trainer.model, base.path / MODEL)
        self.base_sha256 = self._digest()
        self.adapter = LoRAAdapter(self.trainer.model, patterns, rank, settings.seed) if patterns else None
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

    def pack(self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> CheckpointFiles:
        """The files of a checkpoint: a plain model with the adapter in its weights; to resume, the two apart."""
        if self.adapter is None or state is not None:
            return self.trainer.make_checkpoint_files(metadata, state)
        with self.adapter.merged():
            return self.trainer.make_checkpoint_files(metadata)

    def disable_adapter(self) -> RevertResult:
        """Take the adapter off, timed, and look whether the weights are those of the checkpoint."""
        assert self.adapter is not None
        seconds = self.adapter.disable()
        digest = self._digest()
        return RevertResult(seconds, digest, digest == self.base_sha256)

    def _digest(self) -> str:
        return weights_digest(dict(self.trainer.model.named_parameters()))
