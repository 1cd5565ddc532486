"""How large a micro-batch is: the same examples a step on every device, as many at once as its memory takes."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import BadInputError
from ockham.nano import Trainer, build_settings, load_corpus
from ockham.nano.batch_size import BYTES_PER_PARAMETER, resolve_batch_size
from ockham.nano.model import build_model, pad_vocab_size
from tests.helpers.tiny_trainer import TINY, text

GB = 10**9


def model(size):
    with torch.device("meta"):
        return build_model(build_settings(size), 50_304)


@pytest.mark.parametrize("size", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
@pytest.mark.parametrize("memory", [None, 24 * GB, 40 * GB, 80 * GB, 141 * GB])
def test_every_device_takes_the_same_tokens_a_step(size, memory):
    """491,520, as nanoGPT has it, whatever fits; and what fits is a divisor."""
    chosen = resolve_batch_size(build_settings(size), model(size), memory)
    assert chosen.batch_size * chosen.gradient_accumulation_steps * chosen.block_size == 491_520


def test_more_memory_takes_larger_micro_batches():
    """GPT-2 124M: nanoGPT's 12 without a GPU, 60 from 80 GB on; the largest size still fits at least one."""
    small = model("gpt2")
    sizes = [
        resolve_batch_size(build_settings("gpt2"), small, m).batch_size
        for m in (None, 24 * GB, 40 * GB, 80 * GB, 141 * GB)
    ]
    assert sizes == [12, 20, 40, 60, 60]
    large = model("gpt2-xl")
    assert large.num_params() * BYTES_PER_PARAMETER > 24 * GB
    assert resolve_batch_size(build_settings("gpt2-xl"), large, 24 * GB).batch_size == 1
    assert resolve_batch_size(build_settings("gpt2-xl"), large, 141 * GB).batch_size > 12


def test_what_is_said_is_kept():
    """A micro-batch or a number of them that a person gives; both leave nothing to choose."""
    small = model("gpt2")
    chosen = resolve_batch_size(build_settings("gpt2", ["batch_size=12"]), small, 80 * GB)
    assert (chosen.batch_size, chosen.gradient_accumulation_steps) == (12, 40)
    chosen = resolve_batch_size(build_settings("gpt2", ["gradient_accumulation_steps=16"]), small, 80 * GB)
    assert (chosen.batch_size, chosen.gradient_accumulation_steps) == (30, 16)
    both = build_settings("gpt2", ["batch_size=7", "gradient_accumulation_steps=3"])
    assert resolve_batch_size(both, small, 80 * GB) == both
    nano = build_settings("nano")
    assert resolve_batch_size(nano, small, 80 * GB) == nano


@pytest.mark.parametrize("override", ["batch_size=7", "gradient_accumulation_steps=7"])
def test_a_step_is_whole_micro_batches(override):
    """What does not divide the step is refused, with what would be accepted."""
    with pytest.raises(
        BadInputError,
        match=r"examples_per_step=480 is no multiple of .*: accepted are its divisors, such as 1, 2, 3",
    ):
        resolve_batch_size(build_settings("gpt2", [override]), model("gpt2"), None)


def test_a_padded_vocabulary_is_counted_and_judged_as_it_is(tmp_path):
    """Parameters, FLOPs and memory are those of the padded model; ln V is of the tokens that there are."""
    corpus = load_corpus(text(tmp_path))
    overrides = [*TINY, "device=cpu", "vocab_size=250"]
    plain = Trainer(build_settings("nano", overrides), corpus)
    wide = Trainer(build_settings("nano", [*overrides, "vocab_multiple=64"]), corpus)
    assert pad_vocab_size(250, 64) == pad_vocab_size(256, 64) == wide.model.vocab_size == 256
    assert wide.facts()["vocab_size"] == plain.facts()["vocab_size"] == 250
    assert wide.facts()["model_params"] == plain.facts()["model_params"] + 6 * 16
    assert wide.facts()["inference_flops"] > plain.facts()["inference_flops"]
    assert build_settings("gpt2").vocab_multiple == 64
