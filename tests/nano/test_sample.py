"""Sampling: the predicted distribution, repeatable draws, and complete characters."""

from __future__ import annotations

import collections

import pytest
import torch
from safetensors.torch import save_file

from ockham.errors import BadInputError, CheckpointError, DataError
from ockham.nano import GPT, load_corpus
from ockham.nano.sample import ByteCodec, decode_stream, generate_tokens, load_checkpoint, make_codec
from tests.helpers.tiny_tokenizer import tiny_tokenizer, write_texts, write_token_files
from tests.helpers.tiny_trainer import trainer

LOGITS = torch.tensor([0.0, 1.0, 2.0, 3.0])


class FixedModel(GPT):
    """Predicts the same four tokens, and one outside the vocabulary, for every input."""

    def forward(self, idx):
        assert idx.shape[1] <= self.block_size
        logits = torch.cat([LOGITS, torch.tensor([99.0])])
        return logits.expand(1, idx.shape[1], 5).clone()


@pytest.fixture
def model():
    return FixedModel(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4)


def draw(model, count, **kwargs):
    return list(generate_tokens(model, [1, 2, 3, 1, 2], count, vocab_limit=4, **kwargs))


def test_drawn_tokens_follow_the_predicted_distribution(model):
    """At temperature 1 the frequencies equal the softmax. A token outside the vocabulary is never drawn."""
    counts = collections.Counter(draw(model, 3_000, temperature=1.0, top_k=0))
    for token, share in enumerate(LOGITS.softmax(0).tolist()):
        assert abs(counts[token] / 3_000 - share) < 0.03


def test_temperature_and_top_k_limit_the_draws(model):
    """Temperature 0 takes the most probable token. Only the k most probable tokens are drawn."""
    assert set(draw(model, 20, temperature=0)) == {3}
    assert set(draw(model, 300, temperature=1.0, top_k=2)) == {2, 3}
    cold = collections.Counter(draw(model, 500, temperature=0.2))
    assert cold[3] > 480


def test_equal_seed_gives_equal_tokens(model):
    """Another seed gives other tokens."""
    assert draw(model, 40, seed=1) == draw(model, 40, seed=1) != draw(model, 40, seed=2)


def test_nonfinite_predictions_are_rejected(tmp_path):
    """No token is drawn from weights that are not finite."""
    model = trainer(tmp_path).model
    with torch.no_grad():
        model.wte.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        list(generate_tokens(model, [1], 1, vocab_limit=256))


def test_decoded_text_contains_only_complete_characters():
    """A character waits for all of its bytes. Bytes that are not UTF-8 are marked."""
    tokens = "aé世".encode() + b"\xff" + b"z" + "é".encode()[:1]
    assert list(decode_stream(iter(tokens), ByteCodec())) == ["a", "é", "世", "\ufffd", "z", "\ufffd"]


def test_codec_uses_the_tokenizer_of_the_data(tmp_path):
    """Special and unused numbers give no text. A tokenizer that is missing or different is rejected."""
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    write_token_files(write_texts(tmp_path / "texts"), tmp_path / "out")
    codec = make_codec({"kind": "uint16 tokens"}, str(tmp_path / "out"))
    tokens = codec.tokens("the water <|endoftext|>")
    # A special token in the text is encoded as text.
    assert max(tokens) < 300
    assert "".join(decode_stream(iter([*tokens, 300, 290]), codec)) == "the water <|endoftext|>"
    assert codec.vocab_size == tiny_tokenizer().vocab_size
    recorded = load_corpus(tmp_path / "out").metadata
    assert recorded["tokenizer"] == {"name": "tiny", "sha256": tiny_tokenizer().sha256}
    assert make_codec(recorded, str(tmp_path / "out")).tokens("the") == codec.tokens("the")
    with pytest.raises(DataError, match="the run's tokenizer had ab"):
        make_codec({**recorded, "tokenizer": {"sha256": "ab"}}, str(tmp_path / "out"))
    with pytest.raises(DataError, match="--tokenizer"):
        make_codec(recorded, str(tmp_path / "moved"))
    with pytest.raises(DataError, match="names no tokenizer"):
        (tmp_path / "out" / "tokenizer.tiktoken").unlink()
        make_codec({"kind": "uint16 tokens"}, str(tmp_path / "out"))
    with pytest.raises(BadInputError, match="--tokenizer"):
        make_codec({}, None)


def test_load_checkpoint_returns_model_and_settings(tmp_path):
    """Both are read from the file. A file without settings is rejected."""
    tiny_trainer = trainer(tmp_path, "bias=true", "gelu=tanh")
    (tmp_path / "c").mkdir()
    for name, data in tiny_trainer.make_checkpoint_files({"run_id": "a"}).files.items():
        (tmp_path / "c" / name).write_bytes(data)
    model, settings = load_checkpoint(tmp_path / "c", "cpu")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens), tiny_trainer.model(tokens))
    assert settings == tiny_trainer.settings
    assert not model.training
    save_file({"w": torch.zeros(1)}, tmp_path / "c" / "model.safetensors")
    with pytest.raises(CheckpointError, match="metadata"):
        load_checkpoint(tmp_path / "c", "cpu")
    with pytest.raises(CheckpointError, match="no model"):
        load_checkpoint(tmp_path, "cpu")
