"""Size of a micro-batch: equal tokens per step on every device, limited by the memory of the device."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import BadInputError
from ockham.nano import Trainer, build_settings, load_corpus
from ockham.nano.batch_size import BYTES_PER_PARAMETER, resolve_batch_size
from ockham.nano.model import build_model, pad_vocab_size
from tests.helpers.tiny_trainer import TINY, text

GB = 10**9


def make_model(size):
    """Return a model without memory for its weights."""
    with torch.device("meta"):
        return build_model(build_settings(size), 50_304)


@pytest.mark.parametrize("size", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
@pytest.mark.parametrize("memory", [None, 24 * GB, 40 * GB, 80 * GB, 141 * GB])
def test_tokens_per_step_are_equal_on_every_device(size, memory):
    """A step has 491,520 tokens, as in nanoGPT, for each size and memory."""
    settings = resolve_batch_size(build_settings(size), make_model(size), memory)
    assert settings.batch_size * settings.gradient_accumulation_steps * settings.block_size == 491_520


def test_batch_size_grows_with_device_memory():
    """GPT-2 124M has 12 without a GPU and 60 from 80 GB on. The largest size fits at least one example."""
    small = make_model("gpt2")
    sizes = [
        resolve_batch_size(build_settings("gpt2"), small, m).batch_size
        for m in (None, 24 * GB, 40 * GB, 80 * GB, 141 * GB)
    ]
    assert sizes == [12, 20, 40, 60, 60]
    large = make_model("gpt2-xl")
    assert large.num_params() * BYTES_PER_PARAMETER > 24 * GB
    assert resolve_batch_size(build_settings("gpt2-xl"), large, 24 * GB).batch_size == 1
    assert resolve_batch_size(build_settings("gpt2-xl"), large, 141 * GB).batch_size > 12


def test_given_batch_size_and_accumulation_are_not_changed():
    """A given micro-batch or number of micro-batches determines the other one."""
    small = make_model("gpt2")
    settings = resolve_batch_size(build_settings("gpt2", ["batch_size=12"]), small, 80 * GB)
    assert settings.batch_size == 12
    assert settings.gradient_accumulation_steps == 40
    settings = resolve_batch_size(build_settings("gpt2", ["gradient_accumulation_steps=16"]), small, 80 * GB)
    assert settings.batch_size == 30
    assert settings.gradient_accumulation_steps == 16
    both = build_settings("gpt2", ["batch_size=7", "gradient_accumulation_steps=3"])
    assert resolve_batch_size(both, small, 80 * GB) == both
    nano = build_settings("nano")
    assert resolve_batch_size(nano, small, 80 * GB) == nano


@pytest.mark.parametrize("override", ["batch_size=7", "gradient_accumulation_steps=7"])
def test_batch_size_that_does_not_divide_the_step_is_rejected(override):
    """The message lists accepted values."""
    with pytest.raises(
        BadInputError,
        match=r"examples_per_step=480: not a multiple of .*; accepted are its divisors, such as 1, 2, 3",
    ):
        resolve_batch_size(build_settings("gpt2", [override]), make_model("gpt2"), None)


def test_padded_vocabulary_counts_for_cost_but_not_for_vocab_size(tmp_path):
    """Parameters, FLOPs and memory include the padding. The vocabulary size of the facts does not."""
    corpus = load_corpus(text(tmp_path))
    overrides = [*TINY, "device=cpu", "vocab_size=250"]
    plain = Trainer(build_settings("nano", overrides), corpus)
    wide = Trainer(build_settings("nano", [*overrides, "vocab_multiple=64"]), corpus)
    assert pad_vocab_size(250, 64) == pad_vocab_size(256, 64) == wide.model.vocab_size == 256
    assert wide.facts()["vocab_size"] == plain.facts()["vocab_size"] == 250
    assert wide.facts()["model_params"] == plain.facts()["model_params"] + 6 * 16
    assert wide.facts()["inference_flops"] > plain.facts()["inference_flops"]
    assert build_settings("gpt2").vocab_multiple == 64
