"""Token files: the width of their integers, and files of other formats."""

from __future__ import annotations

import gzip
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import DataError
from ockham.nano import load_corpus

DTYPES = {"uint16": "<u2", "uint32": "<u4", "int32": "<i4", "uint64": "<u8", "int64": "<i8"}
WIDTHS = {"uint16": "uint16", "uint32": "uint32", "int32": "uint32", "uint64": "uint64", "int64": "uint64"}


def write(folder, tokens, dtype="uint16", val=None, **meta):
    folder.mkdir(exist_ok=True)
    tokens.astype(DTYPES[dtype]).tofile(folder / "train.bin")
    (tokens[::-1] if val is None else val).astype(DTYPES[dtype]).tofile(folder / "val.bin")
    if meta:
        (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def draw(vocab, count=2000, seed=0):
    return np.random.default_rng(seed).integers(0, vocab, count)


@given(
    dtype=st.sampled_from(sorted(DTYPES)),
    vocab=st.sampled_from([2, 13, 17, 65, 256, 50257, 65536, 65537, 128256, 151936, 262144]),
    named=st.sampled_from(["setting", "meta.json", "meta.pkl", "no"]),
    count=st.integers(64, 300),
    seed=st.integers(0, 2**32),
)
def test_tokens_of_every_width_are_read_as_written(tmp_path_factory, dtype, vocab, named, count, seed):
    """The tokens equal the written ones, or one error refuses the files."""
    if dtype == "uint16" and vocab > 65536:
        return
    folder = tmp_path_factory.mktemp("bin")
    tokens = draw(vocab, count, seed)
    write(folder, tokens, dtype, **({"vocab_size": vocab} if named == "meta.json" else {}))
    if named == "meta.pkl":
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab}))
    if named == "no" and tokens.max() >= 50304:
        with pytest.raises(DataError, match="outside the vocabulary of 50304"):
            load_corpus(folder)
        return
    corpus = load_corpus(folder, vocab if named == "setting" else 0)
    assert corpus.train.tolist() == tokens.tolist()
    assert corpus.val.tolist() == tokens[::-1].tolist()
    assert corpus.metadata["kind"] == f"{WIDTHS[dtype]} tokens"
    assert corpus.metadata["train_tokens"] == count


@pytest.mark.parametrize("vocab", [65537, 128256])
def test_uint16_file_is_refused_for_a_vocabulary_over_65536(tmp_path, vocab):
    """Such a vocabulary does not fit into two bytes. dtype in meta.json accepts the file."""
    write(tmp_path, draw(65536))
    with pytest.raises(DataError, match=f"a vocabulary of {vocab} needs uint32"):
        load_corpus(tmp_path, vocab)
    write(tmp_path, draw(65536), dtype="uint16")
    (tmp_path / "meta.json").write_text(json.dumps({"dtype": "uint16"}))
    assert load_corpus(tmp_path, vocab).train.tolist() == draw(65536).tolist()


def test_dtype_in_meta_decides_for_short_and_ambiguous_files(tmp_path):
    """Without it, a file of few tokens is read as uint16."""
    write(tmp_path, np.array([7, 0, 9, 0]), val=np.array([8, 0]))
    assert load_corpus(tmp_path).train.tolist() == [7, 0, 9, 0]
    (tmp_path / "meta.json").write_text('{"dtype": "uint32"}')
    assert load_corpus(tmp_path).train.tolist() == [7, 9]
    (tmp_path / "meta.json").write_text('{"dtype": "float32"}')
    with pytest.raises(DataError, match="accepted: uint16, uint32, uint64"):
        load_corpus(tmp_path)
    (tmp_path / "meta.json").write_text('{"dtype": "uint64"}')
    np.arange(4, dtype="<u2").tofile(tmp_path / "train.bin")
    np.arange(3, dtype="<u2").tofile(tmp_path / "val.bin")
    with pytest.raises(DataError, match="6 bytes; tokens of 64 bits"):
        load_corpus(tmp_path)


def test_splits_of_different_width_are_refused(tmp_path):
    """A short split takes the width of the other one."""
    write(tmp_path, draw(50257), "uint32")
    draw(50257).astype("<u2").tofile(tmp_path / "val.bin")
    with pytest.raises(DataError, match=r"train\.bin uint32, val\.bin uint16"):
        load_corpus(tmp_path)
    np.array([1, 2, 3], "<u4").tofile(tmp_path / "val.bin")
    assert load_corpus(tmp_path).val.tolist() == [1, 2, 3]


def save_npy(path):
    with path.open("wb") as file:
        np.save(file, draw(50257))


def save_npz(path):
    with path.open("wb") as file:
        np.savez(file, draw(9))


FOREIGN = {
    "NumPy .npy": save_npy,
    "zip archive": save_npz,
    "gzip": lambda path: path.write_bytes(gzip.compress(draw(50257).astype("<u2").tobytes())),
    "llm.c": lambda path: np.array([20240520, 1, 9] + [0] * 253, "<i4").tofile(path),
    "Git LFS": lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "contains text": lambda path: path.write_text("To be, or not to bé: that is the question.\n" * 50),
    "not empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_formats_are_refused_by_name(tmp_path, name):
    """They would be read as random tokens otherwise."""
    write(tmp_path, draw(50257))
    FOREIGN[name](tmp_path / "train.bin")
    if (tmp_path / "train.bin").stat().st_size % 2:
        with (tmp_path / "train.bin").open("ab") as file:
            file.write(b"\n")
    with pytest.raises(DataError, match=name):
        load_corpus(tmp_path)


def test_negative_tokens_are_refused(tmp_path):
    """A padding of -100 is outside of every vocabulary."""
    tokens = draw(50257)
    tokens[50] = -100
    write(tmp_path, tokens, "int32")
    with pytest.raises(DataError, match="outside the vocabulary"):
        load_corpus(tmp_path, 50257)


def test_progress_counts_all_bytes_of_both_files(tmp_path, monkeypatch):
    """The last call has the total. Chunks do not change the result."""
    monkeypatch.setattr("ockham.nano.token_bin._CHUNK_BYTES", 64)
    write(tmp_path, draw(128256), "uint32")
    calls = []
    corpus = load_corpus(tmp_path, 128256, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (16000, 16000)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert corpus.train.tolist() == draw(128256).tolist()
