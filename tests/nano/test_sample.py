"""Drawing from a model: the distribution that it predicts, repeatable, and text that is whole."""

from __future__ import annotations

import collections

import pytest
import torch

from ockham.errors import BadInputError, CheckpointError, DataError
from ockham.nano import GPT, load_corpus
from ockham.nano.sample import ByteCodec, decode_stream, generate_tokens, load_checkpoint, make_codec
from tests.helpers.tiny_tokenizer import tiny
from tests.helpers.tiny_trainer import trainer

LOGITS = torch.tensor([0.0, 1.0, 2.0, 3.0])


class Fixed(GPT):
    """Predicts the same four tokens and one beyond the vocabulary, whatever comes before."""

    def forward(self, idx):
        assert idx.shape[1] <= self.block_size
        logits = torch.cat([LOGITS, torch.tensor([99.0])])
        return logits.expand(1, idx.shape[1], 5).clone()


@pytest.fixture
def model():
    return Fixed(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4)


def drawn(model, count, **kwargs):
    return list(generate_tokens(model, [1, 2, 3, 1, 2], count, vocab_limit=4, **kwargs))


def test_draws_follow_the_prediction(model):
    """At temperature 1 the shares are the softmax; a number beyond the vocabulary never comes."""
    seen = collections.Counter(drawn(model, 3_000, temperature=1.0, top_k=0))
    for token, share in enumerate(LOGITS.softmax(0).tolist()):
        assert abs(seen[token] / 3_000 - share) < 0.03


def test_temperature_and_top_k(model):
    """0 takes the likeliest; only the k likeliest are drawn."""
    assert set(drawn(model, 20, temperature=0)) == {3}
    assert set(drawn(model, 300, temperature=1.0, top_k=2)) == {2, 3}
    cold = collections.Counter(drawn(model, 500, temperature=0.2))
    assert cold[3] > 480


def test_the_same_seed_gives_the_same_text(model):
    """And another one another."""
    assert drawn(model, 40, seed=1) == drawn(model, 40, seed=1) != drawn(model, 40, seed=2)


def test_spoilt_weights_are_told(tmp_path):
    """Not drawn from."""
    spoilt = trainer(tmp_path).model
    with torch.no_grad():
        spoilt.wte.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        list(generate_tokens(spoilt, [1], 1, vocab_limit=256))


def test_text_is_whole():
    """A character waits for all its bytes; what is no UTF-8 is marked."""
    tokens = "aé世".encode() + b"\xff" + b"z" + "é".encode()[:1]
    assert list(decode_stream(iter(tokens), ByteCodec())) == ["a", "é", "世", "\ufffd", "z", "\ufffd"]


def test_tokens_of_an_encoding(tmp_path):
    """By the tokenizer beside the data; special and unused numbers are no text."""
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    from tests.nano.test_tokenizer import files, write

    write(files(tmp_path / "texts"), tmp_path / "out")
    codec = make_codec({"kind": "uint16 tokens"}, str(tmp_path / "out"))
    tokens = codec.tokens("the water <|endoftext|>")
    assert max(tokens) < 300  # what looks like a special token is text
    assert "".join(decode_stream(iter([*tokens, 300, 290]), codec)) == "the water <|endoftext|>"
    assert codec.vocab_size == tiny().vocab_size
    recorded = load_corpus(tmp_path / "out").metadata
    assert recorded["tokenizer"] == {"name": "tiny", "sha256": tiny().sha256}
    assert make_codec(recorded, str(tmp_path / "out")).tokens("the") == codec.tokens("the")
    with pytest.raises(DataError, match="the run's had ab"):
        make_codec({**recorded, "tokenizer": {"sha256": "ab"}}, str(tmp_path / "out"))
    with pytest.raises(DataError, match="--tokenizer"):
        make_codec(recorded, str(tmp_path / "moved"))
    with pytest.raises(DataError, match="names no tokenizer"):
        (tmp_path / "out" / "tokenizer.tiktoken").unlink()
        make_codec({"kind": "uint16 tokens"}, str(tmp_path / "out"))
    with pytest.raises(BadInputError, match="--tokenizer"):
        make_codec({}, None)


def test_a_checkpoint_gives_its_model(tmp_path):
    """Weights and settings from the file alone; a file of somebody else is refused."""
    made = trainer(tmp_path, "bias=true", "gelu=tanh")
    (tmp_path / "c").mkdir()
    for name, data in made.make_checkpoint_files({"run_id": "a"}).files.items():
        (tmp_path / "c" / name).write_bytes(data)
    model, settings = load_checkpoint(tmp_path / "c", "cpu")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens), made.model(tokens))
    assert settings == made.settings
    assert not model.training
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "c" / "model.safetensors")
    with pytest.raises(CheckpointError, match="metadata"):
        load_checkpoint(tmp_path / "c", "cpu")
    with pytest.raises(CheckpointError, match="no model"):
        load_checkpoint(tmp_path, "cpu")
