"""Adaptation: an accepted checkpoint, the text stream that it is served on, and the return to its weights.

The trainer is the one of `ockham train`. Its batches come from a stream, and its optimizer can train only an
adapter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, CheckpointError
from ockham.nano.adaptation_stream import AdaptationStream, split_validation
from ockham.nano.anchor import AnchorWeights, Rollback
from ockham.nano.checkpoint_io import MODEL, load_model, read_metadata, weights_digest
from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.data_order import NO_RANGES
from ockham.nano.lora import LoRAAdapter
from ockham.nano.optimizer import make_optimizer
from ockham.nano.overrides import build_settings
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles

# Settings that an adaptation does not take over from the training of its checkpoint.
DEFAULT_OVERRIDES: Mapping[str, Any] = {
    "max_iters": 300,
    "learning_rate": 3e-4,
    "warmup_iters": 0,
    "lr_decay_iters": 0,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "gradient_accumulation_steps": 1,
    "checkpoint_every": 0,
    "state_every": 0,
    "skip_data": NO_RANGES,
    "device": "auto",
    "threads": 0,
    "optimizer": "adamw",
    "init_from": "",
    "init_sha256": "",
}


class Base(NamedTuple):
    """Checkpoint that is adapted: its folder, and the settings and vocabulary of its model."""

    path: Path
    settings: dict[str, Any]
    vocab_size: int


class RevertResult(NamedTuple):
    """Seconds taken to disable the adapter, the digest of the weights without it, and whether it is equal."""

    seconds: float
    weights_sha256: str
    identical: bool


def load_base(path: Path) -> Base:
    """Read the metadata of a checkpoint that is to be adapted.

    Raises:
        CheckpointError: If it cannot be read or lacks settings or vocabulary.

    """
    metadata = read_metadata(path / MODEL)
    try:
        return Base(path, dict(metadata["settings"]), int(metadata["vocab_size"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{path / MODEL}: settings or vocab_size are missing from the metadata; "
            "use a checkpoint of `ockham train`"
        ) from None


def adaptation_settings(
    base: Base, overrides: Sequence[str], recorded: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings of an adaptation.

    They are the model's, with a constant learning rate, no weight decay, and the overrides.

    Args:
        base: Checkpoint that is adapted.
        overrides: Settings as `name=value`.
        recorded: Settings of the run that is resumed. None for a new run.

    Raises:
        BadInputError: If a setting is invalid. The message names it and the accepted values.

    """
    names = {text.partition("=")[0].strip() for text in overrides}
    defaults = {**base.settings, **DEFAULT_OVERRIDES, "vocab_size": base.vocab_size}
    if "optimizer" in names:
        # The moments start at zero, so the optimizer can differ from the checkpoint's.
        del defaults["optimizer"]
    settings = build_settings(overrides=overrides, base=recorded or defaults)
    if settings.state_every:
        raise BadInputError(
            f"state_every={settings.state_every}: `ockham adapt` rolls back to its checkpoint; accepted: 0"
        )
    if recorded or "min_lr" in names:
        return settings
    return dataclasses.replace(settings, min_lr=settings.learning_rate)


class Adaptation:
    """Model that is served and adapted.

    Args:
        base: Checkpoint to start from.
        settings: Settings of the trainer, from `adaptation_settings`.
        familiar: Text that the model knows (`AdaptationStream`).
        new: Text that it does not know.
        share: Fraction of batches that are new text, 0 to 1.
        patterns: Names of the layers that get an adapter. Without any, all weights are trained.
        rank: Rank of the adapter.

    Raises:
        DataError: If a text does not fit the model.
        CheckpointError: If the weights do not fit the settings.
        BadInputError: If a pattern matches no layer.

    """

    def __init__(
        self,
        base: Base,
        settings: Settings,
        familiar: Corpus,
        new: Corpus,
        share: float,
        patterns: Sequence[str] = (),
        rank: int = 4,
    ) -> None:
        familiar = dataclasses.replace(familiar, vocab_size=base.vocab_size)
        self.trainer = Trainer(settings, split_validation(familiar))
        shape = settings.batch_size, settings.block_size, settings.seed
        trainer = self.trainer
        self.stream = AdaptationStream(
            familiar, new, share, *shape, device=trainer.device, order=trainer.batches.order
        )
        self.trainer.batches = self.stream
        load_model(self.trainer.model, base.path / MODEL)
        self.base_sha256 = self._digest()
        self.adapter = LoRAAdapter(self.trainer.model, patterns, rank, settings.seed) if patterns else None
        if self.adapter is not None:
            self.trainer.optimizer = make_optimizer(
                self.trainer.model,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                betas=(settings.beta1, settings.beta2),
                kind=settings.optimizer,
            )

    def evaluate(self) -> tuple[Evaluation, Evaluation]:
        """Return the loss on held-out new and on held-out familiar text. The tokens are always the same."""
        self.trainer.batches = self.stream.new
        new = self.trainer.evaluate()
        self.trainer.batches = self.stream
        return new, self.trainer.evaluate()

    def combine_evaluations(self, new: Evaluation, familiar: Evaluation) -> Evaluation:
        """Return the mean of two evaluations, weighted by the fraction of new text in the stream."""
        share = self.stream.new_fraction
        errors = share * (new.standard_error or 0.0), (1 - share) * (familiar.standard_error or 0.0)
        return Evaluation(
            loss=share * new.loss + (1 - share) * familiar.loss,
            standard_error=math.hypot(*errors),
            tokens=new.tokens + familiar.tokens,
            seconds=new.seconds + familiar.seconds,
        )

    @property
    def anchor(self) -> AnchorWeights | None:
        """Anchor of the trainer."""
        return self.trainer.anchor

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor. Return the drift from the previous one."""
        return self.trainer.move_anchor(iter_num)

    @property
    def batches(self) -> AdaptationStream:
        """The served stream."""
        return self.stream

    def roll_back(self, iter_num: int) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments."""
        return self.trainer.roll_back(iter_num)

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the files of a checkpoint.

        Without a state the adapter is merged into the weights. A checkpoint to resume from keeps them apart.
        """
        if self.adapter is None or state is not None:
            return self.trainer.make_checkpoint_files(metadata, state)
        with self.adapter.merged():
            return self.trainer.make_checkpoint_files(metadata)

    def disable_adapter(self) -> RevertResult:
        """Disable the adapter, measure the time, and compare the weights with the checkpoint's."""
        assert self.adapter is not None
        seconds = self.adapter.disable()
        digest = self._digest()
        return RevertResult(seconds, digest, digest == self.base_sha256)

    def _digest(self) -> str:
        return weights_digest(dict(self.trainer.model.named_parameters()))
