"""Stream of homogeneous micro-batches: some of new text, the rest of familiar text.

They are homogeneous because in a mixed batch the mean of the losses hides the new text. The kind of text of a
batch, and its windows, depend only on (seed, position, micro-step), as in `Batches`.

The familiar text is the validation text of the run that is adapted, which was not trained on. Its first half
is served and calibrates the gate. Its second half is held out.
"""

from __future__ import annotations

import hashlib
import statistics
from typing import Any, Literal, NamedTuple

import torch

from ockham.errors import DataError
from ockham.nano.data import Batches, Corpus
from ockham.nano.data_order import DataOrder
from ockham.nano.model import GPT
from ockham.plugin import counter_uniform

CALIBRATION_BATCHES = 40
# A micro-step that no stream reaches, so that calibration uses different windows.
_CALIBRATION_MICRO_STEP = 1 << 32


class Calibration(NamedTuple):
    """Loss of familiar text before the adaptation: mean and standard deviation, nats per token."""

    mean: float
    sd: float
    batches: int


def split_validation(corpus: Corpus) -> Corpus:
    """Return the validation text of a corpus: its first half for serving, its second half held out."""
    middle = len(corpus.val) // 2
    return Corpus(corpus.val[:middle], corpus.val[middle:], corpus.vocab_size, corpus.metadata)


class AdaptationStream(Batches):
    """Micro-batches of familiar and new text.

    Args:
        familiar: Its validation text is served and held out (`split_validation`).
        new: Its training text is served, its validation text is held out.
        share: Fraction of batches that are new text, 0 to 1.
        batch_size: Examples in a micro-batch.
        block_size: Tokens in an example.
        seed: Seed of the sampling.
        device: Device of the returned tensors.
        order: Position of each iteration. None reads all positions in order.

    Raises:
        DataError: If a text is too short for one block, or the two have different kinds of tokens.

    """

    def __init__(
        self,
        familiar: Corpus,
        new: Corpus,
        share: float,
        batch_size: int,
        block_size: int,
        seed: int,
        device: str = "cpu",
        order: DataOrder | None = None,
    ) -> None:
        kinds = [corpus.metadata["kind"] for corpus in (familiar, new)]
        # The width of tokens does not matter.
        if (kinds[0] == "bytes") != (kinds[1] == "bytes") or new.vocab_size > familiar.vocab_size:
            raise DataError(
                f"{new.metadata['name']}: {kinds[1]} with a vocabulary of {new.vocab_size}, "
                f"but the model was trained on {kinds[0]} with {familiar.vocab_size}; "
                "give text of the same kind"
            )
        super().__init__(split_validation(familiar), batch_size, block_size, seed, device=device, order=order)
        self.new = Batches(new, batch_size, block_size, seed, device=device, order=self.order)
        self.new_fraction = share

    def is_new(self, iter_num: int, micro_step: int = 0) -> bool:
        """Return True if this micro-batch is new text."""
        position = self.order.position(iter_num)
        return counter_uniform(self.seed, position, micro_step, "stream") < self.new_fraction

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Literal["train", "val"] = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of one served micro-batch. Split `val` is held-out familiar text."""
        if split == "train" and self.is_new(iter_num, micro_step):
            return self.new.sample_batch(iter_num, micro_step)
        return super().sample_batch(iter_num, micro_step, split)

    def data_position(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """Return position and digest of the rows of the served micro-batch that was sampled last."""
        if self.is_new(iter_num, micro_step):
            return self.new.data_position(iter_num, micro_step)
        return super().data_position(iter_num, micro_step)

    @torch.no_grad()
    def calibrate(self, model: GPT, batches: int = CALIBRATION_BATCHES) -> Calibration:
        """Return mean and standard deviation of the model's loss on batches of familiar text."""
        model.eval()
        losses = [
            float(model.loss(*self.to_device(self.sample_window(number, _CALIBRATION_MICRO_STEP))))
            for number in range(batches)
        ]
        model.train()
        return Calibration(statistics.fmean(losses), statistics.stdev(losses), batches)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, digest and sizes of the served text, for run.json."""
        new, familiar = self.new.corpus.metadata, self.corpus.metadata
        identity = f"{new['sha256']} {familiar['sha256']} {self.new_fraction!r}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        name = f"{self.new_fraction:.0%} {new['name']} in {familiar['name']}"
        return {**new, "name": name, "sha256": digest, "new": new, "familiar": familiar}
