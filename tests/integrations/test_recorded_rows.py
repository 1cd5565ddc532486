"""Rows of a batch: what the callbacks of Lightning and of the Hugging Face Trainer record about them."""

from __future__ import annotations

import hashlib

import pytest
import transformers

from ockham.integrations.lightning import OckhamCallback as LightningCallback
from tests.helpers import tiny_model
from tests.integrations.test_huggingface import build, own_run
from tests.integrations.test_lightning import fit, make_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:::lightning", "ignore:::torch.jit", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)


def digest(tokens):
    """Return the first 32 digits of the SHA-256 of tokens as little-endian 32-bit numbers."""
    return hashlib.sha256(tokens.numpy().astype("<i4").tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("record_rows", [True, False])
def test_huggingface_records_the_digest_of_the_tokens_of_each_micro_batch(tmp_path, record_rows):
    """The digests are those of the tokens that the Trainer passed to the model. They can be left out."""
    seen = []

    class Watched(transformers.Trainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            if model.training:
                seen.append(digest(inputs["input_ids"].cpu()))
            return super().compute_loss(model, inputs, *args, **kwargs)

    callback = own_run(tmp_path, record_rows=record_rows)
    build(tmp_path, callback, trainer=Watched, max_steps=4, gradient_accumulation_steps=2).train()
    recorded = [batch.get("rows") for batch in tiny_model.read_batches(tmp_path)]
    assert len(recorded) == len(set(seen)) == 8
    assert recorded == ([{"digest": each} for each in seen] if record_rows else [None] * 8)
    tiny_model.assert_sound_run(tmp_path, batches=8)


def test_lightning_records_what_the_function_returns_for_a_batch(tmp_path):
    """Here it returns the digest of the inputs."""
    with make_run(tmp_path) as run:
        callback = LightningCallback(run, data_position=lambda batch: {"digest": digest(batch[0])})
        fit(tmp_path, callback, steps=12, batches=12)
    expected = [{"digest": digest(inputs)} for inputs, _ in tiny_model.make_batches(12)]
    assert [batch["rows"] for batch in tiny_model.read_batches(tmp_path)] == expected
    tiny_model.assert_sound_run(tmp_path, batches=12)
