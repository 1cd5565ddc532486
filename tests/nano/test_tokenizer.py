"""Tokenizers and token files: encodings of tiktoken, files of Hugging Face, and no network access."""

from __future__ import annotations

import hashlib
import json
import socket

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ockham.errors import DataError
from ockham.nano import load_corpus
from ockham.nano.token_files import find_text, split_at_boundaries, tokenize
from ockham.nano.tokenizer import Tokenizer, load_tokenizer, read_tokenizer
from tests.helpers.tiny_tokenizer import WORDS, letters, tiny_tokenizer, write_texts, write_token_files

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")


def read_tokens(path):
    return np.fromfile(path, "<u2").tolist()


def write_hf_tokenizer(folder, vocab, merges, *, as_tokenizer_json=False):
    folder.mkdir()
    if as_tokenizer_json:
        content = {
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
            "pre_tokenizer": {"type": "ByteLevel"},
        }
        (folder / "tokenizer.json").write_text(json.dumps(content))
    else:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_token_files_equal_the_encoding_of_tiktoken(tmp_path):
    """Every tenth file is for validation. Documents end with the special token."""
    source = write_texts(tmp_path / "texts")
    meta = write_token_files(source, tmp_path / "out")
    encoding, end = tiny_tokenizer().encoding(), tiny_tokenizer().end_of_text
    expected = {"train": [], "val": []}
    for number, path in enumerate(sorted(source.iterdir())):
        split = "val" if number % 10 == 9 else "train"
        expected[split] += [*encoding.encode_ordinary(path.read_text(encoding="utf-8")), end]
    for split, tokens in expected.items():
        assert read_tokens(tmp_path / "out" / f"{split}.bin") == tokens
        assert meta[f"{split}_tokens"] == len(tokens)
    assert expected["train"].count(end) == 11


def test_corpus_loads_written_token_files(tmp_path):
    """The vocabulary is read from meta.json, which also contains the digest of the source text."""
    source = write_texts(tmp_path / "texts")
    meta = write_token_files(source, tmp_path / "out")
    corpus = load_corpus(tmp_path / "out")
    assert corpus.vocab_size == meta["vocab_size"] == tiny_tokenizer().vocab_size
    assert len(corpus.train) == meta["train_tokens"]
    assert meta["source"]["sha256"] == load_corpus(source).metadata["sha256"]


def test_few_files_use_the_last_tenth_for_validation(tmp_path):
    """The tokens are in order, and none is lost."""
    source = write_texts(tmp_path / "texts", 2)
    meta = write_token_files(source, tmp_path / "out")
    both = read_tokens(tmp_path / "out" / "train.bin") + read_tokens(tmp_path / "out" / "val.bin")
    assert tiny_tokenizer().encoding().decode(both) == "".join(
        p.read_text(encoding="utf-8") + "<|endoftext|>" for p in sorted(source.iterdir())
    )
    assert meta["train_tokens"] == len(both) * 9 // 10


# Two blanks are one token. A pieces between them would change it.
@example(["a  ", " b"])
@given(st.lists(st.text("ab1é \n\t'.,世", min_size=1, max_size=12), max_size=12))
def test_splitting_text_into_pieces_changes_no_token(chunks):
    """The tokens of the pieces equal those of the complete text, however the reader cuts it."""
    encoding = tiny_tokenizer().encoding()
    text = "".join(chunks)
    pieces = list(split_at_boundaries(iter(chunks)))
    assert "".join(pieces) == text
    assert [t for piece in pieces for t in encoding.encode_ordinary(piece)] == encoding.encode_ordinary(text)


def test_files_that_are_not_text_are_listed_as_skipped(tmp_path):
    """This covers zero bytes, bytes that are not UTF-8, and an incomplete character at the end."""
    source = write_texts(tmp_path / "texts", 3)
    (source / "latin.txt").write_bytes("für".encode("latin-1"))
    (source / "torn.txt").write_bytes("für".encode()[:2])
    (source / "zero.bin").write_bytes(b"a\0b")
    (source / "empty.txt").touch()
    text_source = find_text(source)
    assert text_source.skipped == ["latin.txt", "torn.txt", "zero.bin"]
    assert len(text_source.files) == 3
    with pytest.raises(DataError, match="no text in it"):
        find_text(source / "latin.txt")
    with pytest.raises(DataError, match="no text at"):
        find_text(tmp_path / "gone")


def test_token_folder_is_written_completely_or_not_at_all(tmp_path):
    """After an error no folder exists. A folder that contains files is not used."""
    source = write_texts(tmp_path / "texts")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(find_text(source), tmp_path / "out", tiny_tokenizer(), "texts", stop)
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]
    with pytest.raises(DataError, match="not empty"):
        write_token_files(source, source)
    (tmp_path / "one.txt").write_text("a")
    with pytest.raises(DataError, match="too little text"):
        write_token_files(
            tmp_path / "one.txt", tmp_path / "out", tiny_tokenizer()._replace(special={"<|other|>": 999})
        )
    assert not (tmp_path / "out").exists()


def test_token_folder_contains_the_tokenizer_and_checks_its_digest(tmp_path):
    """The stored tokenizer gives equal tokens. A changed one is rejected."""
    write_token_files(write_texts(tmp_path / "texts"), tmp_path / "out")
    again = read_tokenizer(tmp_path / "out")
    assert (again.ranks, again.special) == (tiny_tokenizer().ranks, tiny_tokenizer().special)
    assert load_tokenizer(str(tmp_path / "out")) == again
    with (tmp_path / "out" / "tokenizer.tiktoken").open("ab") as file:
        file.write(b"YWJj 9999\n")
    with pytest.raises(DataError, match="digest"):
        read_tokenizer(tmp_path / "out")


@pytest.mark.parametrize("new", [False, True], ids=["vocab.json", "tokenizer.json"])
def test_hugging_face_tokenizer_gives_the_tokens_of_tokenizers(tmp_path, new):
    """The reference is the `tokenizers` package, which also trained it."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator(
        [WORDS * 3, "für 世界 über\n\n  und so weiter"], vocab_size=320, show_progress=False
    )
    reference.save_model(str(tmp_path))
    folder = tmp_path
    if new:
        folder = tmp_path / "new"
        folder.mkdir()
        reference.save(str(folder / "tokenizer.json"))
    encoding = load_tokenizer(str(folder)).encoding()
    for text in (WORDS, "über\n\n  das  Wasser's 12345 世\t\t x", "\n \n"):
        assert encoding.encode_ordinary(text) == reference.encode(text).ids


@pytest.mark.parametrize("fault", ["order", "missing", "byte", "type", "letter"])
def test_invalid_hugging_face_vocabulary_is_rejected(tmp_path, fault):
    """Otherwise tiktoken would give wrong tokens."""
    base = {letter: number for number, letter in enumerate(letters())}
    vocab, merges = {**base, "ab": 256, "abc": 257}, [("a", "b"), ("ab", "c")]
    load_tokenizer(str(write_hf_tokenizer(tmp_path / "good", vocab, merges)))
    invalid = {
        "order": {**vocab, "ab": 257, "abc": 256},
        "missing": {**base, "ab": 256},
        "type": {**vocab, "ab": "256"},
        "byte": {k: v for k, v in vocab.items() if k != "q"},
        "letter": {**vocab, "a b": 300},
    }
    with pytest.raises(DataError):
        load_tokenizer(
            str(
                write_hf_tokenizer(
                    tmp_path / "invalid", invalid[fault], merges, as_tokenizer_json=fault == "type"
                )
            )
        )


def test_uncached_encoding_is_rejected_without_network_access(tmp_path, monkeypatch):
    """The message contains the variable to set. A wrong file in the cache is rejected too."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DataError, match="TIKTOKEN_CACHE_DIR") as caught:
        load_tokenizer("gpt2")
    assert "\n" not in str(caught.value)
    cached_name = str(caught.value).partition("contains it as ")[2].partition(",")[0]
    (tmp_path / cached_name).write_bytes(b"another file's bytes")
    with pytest.raises(DataError, match="not in tiktoken's cache"):
        load_tokenizer("gpt2")
    # tiktoken has read this file and deleted it, because its digest is wrong.
    assert not (tmp_path / cached_name).exists()
    with pytest.raises(DataError, match="p50k_base"):
        load_tokenizer("no-such-encoding")


def test_encoding_is_loaded_from_the_cache_of_tiktoken(tmp_path, monkeypatch):
    """A file in the cache is used. An encoding with too many tokens is rejected."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    from tiktoken import registry
    from tiktoken_ext import openai_public

    url = "https://example.invalid/tiny.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(tiny_tokenizer().ranks_bytes())

    def make_encoding(special):
        ranks = openai_public.load_tiktoken_bpe(url)
        return {
            "name": "tiny",
            "pat_str": openai_public.r50k_pat_str,
            "mergeable_ranks": ranks,
            "special_tokens": special,
        }

    registry._find_constructors()
    monkeypatch.setitem(
        registry.ENCODING_CONSTRUCTORS, "tiny", lambda: make_encoding(dict(tiny_tokenizer().special))
    )
    monkeypatch.setitem(
        registry.ENCODING_CONSTRUCTORS, "huge", lambda: make_encoding({"<|endoftext|>": 1 << 16})
    )
    assert load_tokenizer("tiny").ranks == tiny_tokenizer().ranks
    with pytest.raises(DataError, match="two bytes"):
        load_tokenizer("huge")
    for name in ("tiny", "huge"):
        registry.ENCODINGS.pop(name, None)


def test_token_numbers_above_two_bytes_are_rejected(tmp_path):
    """This holds even if the digest of the tokenizer is right."""
    tokenizer = Tokenizer("invalid", {**tiny_tokenizer().ranks, b"zz": 70_000}, {})
    (tmp_path / "tokenizer.tiktoken").write_bytes(tokenizer.ranks_bytes())
    digest = hashlib.sha256(tokenizer.ranks_bytes()).hexdigest()
    meta = {"name": "invalid", "sha256": digest, "special_tokens": {}}
    (tmp_path / "meta.json").write_text(json.dumps({"vocab_size": 5, "tokenizer": meta}))
    with pytest.raises(DataError, match="between 0 and 65535"):
        read_tokenizer(tmp_path)
