"""Where a run's weights come from, if not from the seed: a folder of pretrained ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ockham.errors import DataError
from ockham.nano.data import BYTES_VOCAB
from ockham.nano.pretrained import load_pretrained
from ockham.nano.trainer import Trainer


def init_from_pretrained(trainer: Trainer) -> None:
    """Begin with the weights of `settings.init_from`; their digest goes into the settings as `init_sha256`.

    Raises:
        CheckpointError: if they do not fit, or are not those of `init_sha256`.
        DataError: if the data is bytes, and the weights know other tokens.

    """
    about, known = trainer.batches.corpus.metadata, trainer.model.vocab_size
    if about["kind"] == "bytes" and known != BYTES_VOCAB:
        raise DataError(
            f"{about['name']}: text is read as bytes, and the weights know {known} tokens; "
            "make tokens of it first, with `ockham tokenize`"
        )
    settings = trainer.settings
    digest = load_pretrained(trainer.model, Path(settings.init_from), settings.init_sha256)
    trainer.settings = replace(settings, init_sha256=digest)
