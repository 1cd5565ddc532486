"""Data: bytes, token files, and batches that are a function of their counter."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import DataError
from ockham.nano import Batches, load_corpus
from ockham.nano.data import PrefetchingBatches


def test_a_text_file_is_its_bytes(tmp_path):
    """The first nine tenths train, the last validates, and targets are inputs one later."""
    path = tmp_path / "t.txt"
    path.write_bytes(bytes(range(200)) * 5)
    with pytest.raises(DataError, match="no text"):  # its first byte is zero: not a text
        load_corpus(path)
    path.write_bytes(bytes(range(1, 201)) * 5)
    corpus = load_corpus(path)
    assert bytes(corpus.train) + bytes(corpus.val) == path.read_bytes()
    assert len(corpus.val) == 100
    x, y = Batches(corpus, 3, 7, seed=1).sample_batch(5)
    assert x.shape == y.shape == (3, 7)
    assert x.dtype == torch.int64
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_every_tenth_file_of_a_folder_validates(tmp_path):
    """Whole files are held out, in order of their names; binary and empty ones are passed over."""
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text(f"<{i:02}>")
    (tmp_path / "00.bin.txt").write_bytes(b"\0\1")
    (tmp_path / "empty.txt").touch()
    corpus = load_corpus(tmp_path)
    assert bytes(corpus.val) == b"<09><19>"
    assert corpus.metadata["files"] == 20


def test_the_digest_tells_texts_apart(tmp_path):
    """One byte, or one name, is another corpus."""
    digests = set()
    for name, text in (("a", "one two"), ("a", "one twO"), ("b", "one two")):
        path = tmp_path / name
        path.write_text(text)
        digests.add(load_corpus(path).metadata["sha256"])
    assert len(digests) == 3


def test_the_default_needs_no_download():
    """The standard library's own sources: real text, every tenth file for validation, no tests in it."""
    corpus = load_corpus(None)
    assert corpus.vocab_size == 256
    assert len(corpus.train) > 5_000_000
    assert corpus.metadata["files"] > 300


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: p / "nowhere", "no data at"),
        (lambda p: _file(p / "empty.txt", b""), "no text in it"),
        (lambda p: _file(p / "x.bin", b"12"), "give the folder that holds"),
        (lambda p: p, "no text in it"),
    ],
)
def test_what_is_no_data_is_named(tmp_path, make, told):
    """Missing, empty and misplaced data: one clear line."""
    with pytest.raises(DataError, match=told):
        load_corpus(make(tmp_path))


def test_too_short_a_text_says_what_a_block_takes(tmp_path):
    """Data shorter than a block names the split and the setting."""
    corpus = load_corpus(_file(tmp_path / "short.txt", b"only a few bytes of text"))
    with pytest.raises(DataError, match="train has 21 tokens, and a block takes 64"):
        Batches(corpus, 2, 64, seed=1)


def _file(path, data):
    path.write_bytes(data)
    return path


def _bins(folder, train, val=(1, 2, 3), meta=None):
    np.array(train, "<u2").tofile(folder / "train.bin")
    np.array(val, "<u2").tofile(folder / "val.bin")
    if meta is not None:
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def test_token_files_of_nanogpt(tmp_path):
    """uint16 tokens, and the vocabulary of meta.pkl, which is never unpickled."""
    corpus = load_corpus(
        _bins(tmp_path, [0, 64, 5], meta={"vocab_size": 65, "itos": {0: "a"}, "stoi": {"a": 0}})
    )
    assert corpus.vocab_size == 65
    assert list(corpus.train) == [0, 64, 5]


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_hostile_meta_is_not_executed(tmp_path):
    """Opcodes are read, not run."""
    corpus = load_corpus(_bins(tmp_path, [0, 3], meta={"bomb": _Bomb(), "vocab_size": 5}))
    assert corpus.vocab_size == 5


def test_a_token_beyond_the_vocabulary_is_named(tmp_path):
    """File, token, place and what to do."""
    with pytest.raises(DataError, match=r"train\.bin: token 70 at place 2 is beyond the vocabulary of 65"):
        load_corpus(_bins(tmp_path, [1, 2, 70, 3], meta={"vocab_size": 65}))
    assert load_corpus(tmp_path, vocab_size=71).vocab_size == 71


def test_broken_token_files(tmp_path):
    """An odd number of bytes, and a missing val.bin."""
    _file(tmp_path / "train.bin", b"123")
    with pytest.raises(DataError, match=r"val\.bin is missing"):
        load_corpus(tmp_path)
    _file(tmp_path / "val.bin", b"12")
    with pytest.raises(DataError, match="3 bytes; a token file holds two bytes"):
        load_corpus(tmp_path)


@given(st.integers(0, 2**40), st.integers(0, 40), st.integers(0, 2**31))
def test_a_batch_is_a_function_of_its_counter(tmp_path_factory, iter_num, micro_step, seed):
    """The same counter draws the same batch; another iteration, micro-batch, split or rank another one."""
    corpus = _corpus(tmp_path_factory)
    batches = Batches(corpus, 4, 8, seed)
    drawn = batches.sample_batch(iter_num, micro_step)[0]
    assert torch.equal(drawn, Batches(corpus, 4, 8, seed).sample_batch(iter_num, micro_step)[0])
    others = [
        batches.sample_batch(iter_num + 1, micro_step)[0],
        batches.sample_batch(iter_num, micro_step + 1)[0],
        Batches(corpus, 4, 8, seed, rank=1).sample_batch(iter_num, micro_step)[0],
    ]
    assert not any(torch.equal(drawn, other) for other in others)


def _corpus(factory):
    path = factory.getbasetemp() / "counter.txt"
    if not path.exists():
        path.write_bytes(np.random.default_rng(0).integers(1, 256, 100_000).astype(np.uint8).tobytes())
    return load_corpus(path)


def test_batches_drawn_ahead_are_the_same(tmp_path_factory):
    """On a thread, from two buffers in turn: in order, after a jump, drawn twice, and for validation."""
    corpus = _corpus(tmp_path_factory)
    plain, ahead = Batches(corpus, 4, 8, 7), PrefetchingBatches(corpus, 4, 8, 7, micro_steps=3)
    places = [(i, m) for i in range(4) for m in range(3)]
    places += [(9, 1), (9, 2), (9, 2), (10, 0), (0, 0)]
    for place in places:
        drawn = ahead.sample_batch(*place)
        assert all(torch.equal(a, b) for a, b in zip(drawn, plain.sample_batch(*place), strict=True)), place
        assert torch.equal(ahead.sample_batch(*place, "val")[0], plain.sample_batch(*place, "val")[0])
    place, future = ahead._next
    assert place == (0, 1)
    assert torch.equal(future.result()[:, :-1], plain.sample_batch(0, 1)[0])


def test_what_is_computed_on_is_not_overwritten(tmp_path_factory):
    """While a batch is in use only the other buffer is filled."""
    ahead = PrefetchingBatches(_corpus(tmp_path_factory), 4, 8, 7)
    ahead.to_device = lambda window: (window, window)  # as a copy that is still under way would read it
    for i in range(6):
        window, _ = ahead.sample_batch(i)
        before = window.clone()
        ahead._next[1].result()
        assert torch.equal(window, before)
