"""A stream of homogeneous micro-batches: some of new text, the rest of familiar text.

Homogeneous, because in a mixed batch the mean of the losses hides what is new. Which text a batch comes from, and which
windows of it, follow from (seed, iteration, micro-batch) alone, as in `Batches`.

The familiar text is the validation text of the run that is adapted: it has not been trained on. Its first half is
served and calibrates the gate, its second half is held out.
"""

from __future__ import annotations

import hashlib
import statistics
from typing import Any, Literal, NamedTuple

import torch

from ockham.errors import DataError
from ockham.nano.data import Batches, Corpus
from ockham.nano.model import GPT
from ockham.plugin import counter_uniform

CALIBRATION_BATCHES = 40
_CALIBRATION = 1 << 32  # a micro-step that no stream reaches: calibration draws windows of its own


class Calibration(NamedTuple):
    """Loss of familiar text before anything is adapted: mean and standard deviation over batches, nats/token."""

    mean: float
    sd: float
    batches: int


def split_validation(corpus: Corpus) -> Corpus:
    """The validation text of a corpus: its first half to be served, its second half held out."""
    middle = len(corpus.val) // 2
    return Corpus(corpus.val[:middle], corpus.val[middle:], corpus.vocab_size, corpus.metadata)


class AdaptationStream(Batches):
    """Micro-batches of familiar text, and among them those of new text.

    Args:
        familiar: its validation text is served and held out, see `split_validation`.
        new: its training text is served, its validation text is held out.
        share: of batches that are new text, 0..1.
        batch_size: examples in a micro-batch.
        block_size: tokens of an example.
        seed: of the draws.
        device: where the tensors go.

    Raises:
        DataError: if a text is too short for one block, or the two have tokens of other kinds.

    """

    def __init__(
        self, familiar: Corpus, new: Corpus, share: float, batch_size: int, block_size: int, seed: int,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        kinds = [corpus.metadata["kind"] for corpus in (familiar, new)]
        if kinds[0] != kinds[1] or new.vocab_size > familiar.vocab_size:
            raise DataError(
                f"{new.metadata['name']} holds {kinds[1]} of a vocabulary of {new.vocab_size}, and the model was "
                f"trained on {kinds[0]} of one of {familiar.vocab_size}: give text of the same kind"
            )
        super().__init__(split_validation(familiar), batch_size, block_size, seed, device=device)
        self.new = Batches(new, batch_size, block_size, seed, device=device)
        self.new_fraction = share

    def is_new(self, iter_num: int, micro_step: int = 0) -> bool:
        """Whether this micro-batch is new text."""
        return counter_uniform(self.seed, iter_num, micro_step, "stream") < self.new_fraction

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Literal["train", "val"] = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one served micro-batch; of `val`, of held-out familiar text."""
        if split == "train" and self.is_new(iter_num, micro_step):
            return self.new.sample_batch(iter_num, micro_step)
        return super().sample_batch(iter_num, micro_step, split)

    @torch.no_grad()
    def calibrate(self, model: GPT, batches: int = CALIBRATION_BATCHES) -> Calibration:
        """Mean and standard deviation of the model's loss on batches of familiar text."""
        model.eval()
        losses = [
            float(model.loss(*super(AdaptationStream, self).sample_batch(at, _CALIBRATION)))
            for at in range(batches)
        ]
        model.train()
        return Calibration(statistics.fmean(losses), statistics.stdev(losses), batches)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, digest and sizes of what is served, for run.json."""
        new, familiar = self.new.corpus.metadata, self.corpus.metadata
        digest = hashlib.sha256(
            f"{new['sha256']} {familiar['sha256']} {self.new_fraction!r}".encode()
        ).hexdigest()
        told = f"{self.new_fraction:.0%} {new['name']} in {familiar['name']}"
        return {**new, "name": told, "sha256": digest, "new": new, "familiar": familiar}
