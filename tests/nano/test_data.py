"""Data: bytes, token files, and batches that depend only on their counter."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import DataError
from ockham.nano import Batches, load_corpus
from ockham.nano.data import PrefetchingBatches


def test_text_file_becomes_its_bytes_with_the_last_tenth_for_validation(tmp_path):
    """Targets are the inputs one token later."""
    path = tmp_path / "t.txt"
    path.write_bytes(bytes(range(200)) * 5)
    # A file with a zero byte is not text.
    with pytest.raises(DataError, match="no text"):
        load_corpus(path)
    path.write_bytes(bytes(range(1, 201)) * 5)
    corpus = load_corpus(path)
    assert bytes(corpus.train) + bytes(corpus.val) == path.read_bytes()
    assert len(corpus.val) == 100
    x, y = Batches(corpus, 3, 7, seed=1).sample_batch(5)
    assert x.shape == y.shape == (3, 7)
    assert x.dtype == torch.int64
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_every_tenth_file_of_a_folder_is_for_validation(tmp_path):
    """Complete files are held out, in order of their names. Binary and empty files are ignored."""
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text(f"<{i:02}>")
    (tmp_path / "00.bin.txt").write_bytes(b"\0\1")
    (tmp_path / "empty.txt").touch()
    corpus = load_corpus(tmp_path)
    assert bytes(corpus.val) == b"<09><19>"
    assert corpus.metadata["files"] == 20


@given(
    texts=st.lists(
        st.binary(min_size=1, max_size=30).filter(lambda data: b"\0" not in data), min_size=1, max_size=12
    ),
    seed=st.integers(0, 99),
)
def test_corpus_digest_depends_on_the_splits_only(tmp_path_factory, texts, seed):
    """Names do not matter. Other training or validation bytes give another digest."""
    corpora = []
    for names in (lambda i: f"{i:02}.txt", lambda i: f"x{seed}/{i:02} other.md"):
        folder = tmp_path_factory.mktemp("texts")
        for i, data in enumerate(texts):
            path = folder / names(i)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        corpora.append(load_corpus(folder))
    single = tmp_path_factory.mktemp("single") / "all.txt"
    for last in (b"", b"~"):
        single.write_bytes(b"".join(texts) + last)
        corpora.append(load_corpus(single))
    digests = [corpus.metadata["sha256"] for corpus in corpora]
    assert digests[0] == digests[1]
    assert digests[2] != digests[3]
    for one, digest in zip(corpora, digests, strict=True):
        for other, other_digest in zip(corpora, digests, strict=True):
            is_same = bytes(one.train) == bytes(other.train) and bytes(one.val) == bytes(other.val)
            assert is_same or digest != other_digest
            assert not is_same or digest == other_digest or len(texts) >= 10


def test_digest_of_token_files_depends_on_where_the_splits_are_separated(tmp_path):
    """Names of folders do not matter."""
    digests = []
    for name, train, val in (("a", [1, 2, 3], [4]), ("b", [1, 2, 3], [4]), ("c", [1, 2], [3, 4])):
        (tmp_path / name).mkdir()
        digests.append(load_corpus(write_token_files(tmp_path / name, train, val)).metadata["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_default_corpus_is_the_standard_library():
    """The sources of the standard library are large enough and need no download."""
    corpus = load_corpus(None)
    assert corpus.vocab_size == 256
    assert len(corpus.train) > 5_000_000
    assert corpus.metadata["files"] > 300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", "no data at"),
        (lambda p: write_file(p / "empty.txt", b""), "no text in it"),
        (lambda p: write_file(p / "x.bin", b"12"), "name the folder that contains"),
        (lambda p: p, "no text in it"),
        (lambda p: write_file(p / "u.txt", "text".encode("utf-16")), "UTF-16 text; convert it to UTF-8"),
    ],
)
def test_unusable_data_path_is_rejected_with_its_problem(tmp_path, make, message):
    """Missing, empty and misplaced data each give one clear error."""
    with pytest.raises(DataError, match=message):
        load_corpus(make(tmp_path))


def test_text_shorter_than_a_block_is_rejected(tmp_path):
    """The message contains the split, its length and the block size."""
    corpus = load_corpus(write_file(tmp_path / "short.txt", b"only a few bytes of text"))
    with pytest.raises(DataError, match="train has 21 tokens, and a block takes 64"):
        Batches(corpus, 2, 64, seed=1)


def write_file(path, data):
    path.write_bytes(data)
    return path


def write_token_files(folder, train, val=(1, 2, 3), meta=None):
    np.array(train, "<u2").tofile(folder / "train.bin")
    np.array(val, "<u2").tofile(folder / "val.bin")
    if meta is not None:
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def test_token_files_of_nanogpt_are_loaded_with_their_vocabulary(tmp_path):
    """The tokens are uint16. The vocabulary is read from meta.pkl, which is never unpickled."""
    corpus = load_corpus(
        write_token_files(tmp_path, [0, 64, 5], meta={"vocab_size": 65, "itos": {0: "a"}, "stoi": {"a": 0}})
    )
    assert corpus.vocab_size == 65
    assert list(corpus.train) == [0, 64, 5]


class ExecutedPickle:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickle_in_meta_is_not_executed(tmp_path):
    """The opcodes are read but not executed."""
    corpus = load_corpus(
        write_token_files(tmp_path, [0, 3], meta={"executed": ExecutedPickle(), "vocab_size": 5})
    )
    assert corpus.vocab_size == 5


def test_token_outside_the_vocabulary_is_rejected_with_its_position(tmp_path):
    """The message contains file, token and position. The vocabulary can be set explicitly."""
    with pytest.raises(
        DataError, match=r"train\.bin: token 70 at position 2 is outside the vocabulary of 65"
    ):
        load_corpus(write_token_files(tmp_path, [1, 2, 70, 3], meta={"vocab_size": 65}))
    assert load_corpus(tmp_path, vocab_size=71).vocab_size == 71


def test_incomplete_token_files_are_rejected(tmp_path):
    """An odd number of bytes and a missing val.bin give an error."""
    write_file(tmp_path / "train.bin", b"123")
    with pytest.raises(DataError, match=r"val\.bin is missing"):
        load_corpus(tmp_path)
    write_file(tmp_path / "val.bin", b"12")
    with pytest.raises(DataError, match="3 bytes; a token file has two or four"):
        load_corpus(tmp_path)


@given(st.integers(0, 2**40), st.integers(0, 40), st.integers(0, 2**31))
def test_batch_depends_only_on_its_counter(tmp_path_factory, iter_num, micro_step, seed):
    """An equal counter gives an equal batch. Another iteration, micro-step or rank gives another."""
    corpus = make_corpus(tmp_path_factory)
    batches = Batches(corpus, 4, 8, seed)
    batch = batches.sample_batch(iter_num, micro_step)[0]
    assert torch.equal(batch, Batches(corpus, 4, 8, seed).sample_batch(iter_num, micro_step)[0])
    others = [
        batches.sample_batch(iter_num + 1, micro_step)[0],
        batches.sample_batch(iter_num, micro_step + 1)[0],
        Batches(corpus, 4, 8, seed, rank=1).sample_batch(iter_num, micro_step)[0],
    ]
    assert not any(torch.equal(batch, other) for other in others)


def make_corpus(factory):
    path = factory.getbasetemp() / "counter.txt"
    if not path.exists():
        path.write_bytes(np.random.default_rng(0).integers(1, 256, 100_000).astype(np.uint8).tobytes())
    return load_corpus(path)


def test_prefetched_batches_equal_plain_batches(tmp_path_factory):
    """This holds in order, after a jump, for repeated batches and for validation."""
    corpus = make_corpus(tmp_path_factory)
    plain, prefetching = Batches(corpus, 4, 8, 7), PrefetchingBatches(corpus, 4, 8, 7, micro_steps=3)
    positions = [(i, m) for i in range(4) for m in range(3)]
    positions += [(9, 1), (9, 2), (9, 2), (10, 0), (0, 0)]
    for position in positions:
        batch = prefetching.sample_batch(*position)
        assert all(torch.equal(a, b) for a, b in zip(batch, plain.sample_batch(*position), strict=True)), (
            position
        )
        assert torch.equal(
            prefetching.sample_batch(*position, "val")[0], plain.sample_batch(*position, "val")[0]
        )
    position, future = prefetching._next
    assert position == (0, 1)
    assert torch.equal(future.result()[0][:, :-1], plain.sample_batch(0, 1)[0])


@pytest.mark.parametrize("kind", [Batches, PrefetchingBatches])
def test_data_position_is_that_of_the_batch_sampled_last(tmp_path_factory, kind):
    """The digest is that of the tokens, recomputed here. An evaluation in between has no effect."""
    batches = kind(make_corpus(tmp_path_factory), 4, 8, 7)
    for iter_num in (0, 1, 2, 9, 3):
        inputs, targets = batches.sample_batch(iter_num)
        batches.sample_batch(0, 0, "val")
        tokens = np.concatenate([inputs.numpy(), targets.numpy()[:, -1:]], axis=1)
        digest = hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()[:32]
        assert batches.data_position(iter_num) == {"position": iter_num, "digest": digest}
    with pytest.raises(RuntimeError, match="not the last one sampled"):
        batches.data_position(4)


@pytest.mark.parametrize("mode", ["skip_data", "repeat"])
def test_prepared_batch_is_dropped_if_the_order_changes(tmp_path_factory, mode):
    """After a rollback, the batch that was prepared for the next iteration is at another position."""
    corpus = make_corpus(tmp_path_factory)
    plain, prefetching = Batches(corpus, 4, 8, 7), PrefetchingBatches(corpus, 4, 8, 7, micro_steps=2)
    for iter_num in range(6):
        for micro_step in range(2):
            prefetching.sample_batch(iter_num, micro_step)
    next_position = prefetching.order.roll_back(5, 2, mode).next_position
    assert next_position == (6 if mode == "skip_data" else 3)
    batch = prefetching.sample_batch(6, 0)
    assert torch.equal(batch[0], plain.sample_batch(next_position, 0)[0])
    assert prefetching.data_position(6)["position"] == next_position


@given(seed=st.integers(0, 2**32 - 1), first=st.integers(0, 10**6), world_size=st.integers(2, 8))
def test_two_ranks_never_get_the_same_rows(tmp_path_factory, seed, first, world_size):
    """All batches of all ranks differ, whatever the seed and the iteration."""
    corpus = make_corpus(tmp_path_factory)
    digests = set()
    for rank in range(world_size):
        batches = Batches(corpus, 4, 8, seed, rank=rank)
        for iter_num in range(first, first + 5):
            for micro_step in range(2):
                batches.sample_batch(iter_num, micro_step)
                digests.add(batches.data_position(iter_num, micro_step)["digest"])
    assert len(digests) == world_size * 5 * 2


def test_prefetch_does_not_overwrite_the_batch_in_use(tmp_path_factory):
    """While a batch is in use, only the other buffer is filled."""
    prefetching = PrefetchingBatches(make_corpus(tmp_path_factory), 4, 8, 7)
    # A copy to the device that is still in progress would read the buffer.
    prefetching.to_device = lambda window: (window, window)
    for i in range(6):
        window, _ = prefetching.sample_batch(i)
        before = window.clone()
        prefetching._next[1].result()
        assert torch.equal(window, before)
