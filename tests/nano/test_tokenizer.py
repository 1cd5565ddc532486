"""Tokenizers and token files: tiktoken's own answers, Hugging Face's files, and nothing from the network."""

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
from tests.helpers.tiny_tokenizer import WORDS, letters, tiny

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")


def files(folder, count=12):
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:02d}.txt").write_text(
            f"file {i}: " + WORDS * (i + 1) + "\n\n  end <|endoftext|>", encoding="utf-8"
        )
    return folder


def quiet(done, whole):
    pass


def write(source, target, tokenizer=None):
    return tokenize(find_text(source), target, tokenizer or tiny(), source.name, quiet)


def read(path):
    return np.fromfile(path, "<u2").tolist()


def hugging_face(folder, vocab, merges, *, new=False):
    folder.mkdir()
    if new:
        told = {
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
            "pre_tokenizer": {"type": "ByteLevel"},
        }
        (folder / "tokenizer.json").write_text(json.dumps(told))
    else:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_files_hold_what_tiktoken_says(tmp_path):
    """Every tenth file is for validation, documents end with the token for that, text that looks like it is text."""
    source = files(tmp_path / "texts")
    told = write(source, tmp_path / "out")
    encoding, end = tiny().encoding(), tiny().end_of_text
    wanted = {"train": [], "val": []}
    for at, path in enumerate(sorted(source.iterdir())):
        split = "val" if at % 10 == 9 else "train"
        wanted[split] += [*encoding.encode_ordinary(path.read_text(encoding="utf-8")), end]
    for split, tokens in wanted.items():
        assert read(tmp_path / "out" / f"{split}.bin") == tokens
        assert told[f"{split}_tokens"] == len(tokens)
    assert wanted["train"].count(end) == 11


def test_training_reads_them(tmp_path):
    """With the vocabulary of meta.json, and the digest of the text where it came from."""
    source = files(tmp_path / "texts")
    told = write(source, tmp_path / "out")
    corpus = load_corpus(tmp_path / "out")
    assert corpus.vocab_size == told["vocab_size"] == tiny().vocab_size
    assert len(corpus.train) == told["train_tokens"]
    assert told["source"]["sha256"] == load_corpus(source).metadata["sha256"]


def test_few_files_give_their_last_tenth(tmp_path):
    """In order, nothing lost."""
    source = files(tmp_path / "texts", 2)
    told = write(source, tmp_path / "out")
    both = read(tmp_path / "out" / "train.bin") + read(tmp_path / "out" / "val.bin")
    assert tiny().encoding().decode(both) == "".join(
        p.read_text(encoding="utf-8") + "<|endoftext|>" for p in sorted(source.iterdir())
    )
    assert told["train_tokens"] == len(both) * 9 // 10


@example(["a  ", " b"])  # two blanks are one token, which a cut between them would lose
@given(st.lists(st.text("ab1é \n\t'.,世", min_size=1, max_size=12), max_size=12))
def test_pieces_change_no_token(chunks):
    """Cut anywhere by the reader, the pieces' tokens are those of the whole text."""
    encoding = tiny().encoding()
    whole = "".join(chunks)
    cut = list(split_at_boundaries(iter(chunks)))
    assert "".join(cut) == whole
    assert [t for piece in cut for t in encoding.encode_ordinary(piece)] == encoding.encode_ordinary(whole)


def test_what_is_no_text_is_named(tmp_path):
    """Zero bytes and bytes that are no UTF-8; a character that is torn at the end of a file too."""
    source = files(tmp_path / "texts", 3)
    (source / "latin.txt").write_bytes("für".encode("latin-1"))
    (source / "torn.txt").write_bytes("für".encode()[:2])
    (source / "zero.bin").write_bytes(b"a\0b")
    (source / "empty.txt").touch()
    found = find_text(source)
    assert found.skipped == ["latin.txt", "torn.txt", "zero.bin"]
    assert len(found.files) == 3
    with pytest.raises(DataError, match="no text in it"):
        find_text(source / "latin.txt")
    with pytest.raises(DataError, match="no text at"):
        find_text(tmp_path / "gone")


def test_the_folder_is_whole_or_not_there(tmp_path):
    """An error in the middle leaves nothing; a folder that holds something is not written into."""
    source = files(tmp_path / "texts")

    def stop(done, whole):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(find_text(source), tmp_path / "out", tiny(), "texts", stop)
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]
    with pytest.raises(DataError, match="not empty"):
        write(source, source)
    (tmp_path / "one.txt").write_text("a")
    with pytest.raises(DataError, match="too little text"):
        write(tmp_path / "one.txt", tmp_path / "out", tiny()._replace(special={"<|other|>": 999}))
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_lies_beside_the_tokens(tmp_path):
    """And gives the same encoding; one that was changed is refused."""
    write(files(tmp_path / "texts"), tmp_path / "out")
    again = read_tokenizer(tmp_path / "out")
    assert (again.ranks, again.special) == (tiny().ranks, tiny().special)
    assert load_tokenizer(str(tmp_path / "out")) == again
    with (tmp_path / "out" / "tokenizer.tiktoken").open("ab") as file:
        file.write(b"YWJj 9999\n")
    with pytest.raises(DataError, match="digest"):
        read_tokenizer(tmp_path / "out")


@pytest.mark.parametrize("new", [False, True], ids=["vocab.json", "tokenizer.json"])
def test_a_hugging_face_folder_gives_its_own_tokens(tmp_path, new):
    """As the `tokenizers` package, which trained it and which we did not write, encodes with it."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    teacher = tokenizers.ByteLevelBPETokenizer()
    teacher.train_from_iterator(
        [WORDS * 3, "für 世界 über\n\n  und so weiter"], vocab_size=320, show_progress=False
    )
    teacher.save_model(str(tmp_path))
    folder = tmp_path
    if new:
        folder = tmp_path / "new"
        folder.mkdir()
        teacher.save(str(folder / "tokenizer.json"))
    encoding = load_tokenizer(str(folder)).encoding()
    for text in (WORDS, "über\n\n  das  Wasser's 12345 世\t\t x", "\n \n"):
        assert encoding.encode_ordinary(text) == teacher.encode(text).ids


@pytest.mark.parametrize("spoil", ["order", "missing", "byte", "type", "letter"])
def test_an_odd_vocabulary_is_refused(tmp_path, spoil):
    """Tiktoken would encode with it, into something else."""
    base = {letter: number for number, letter in enumerate(letters())}
    vocab, merges = {**base, "ab": 256, "abc": 257}, [("a", "b"), ("ab", "c")]
    load_tokenizer(str(hugging_face(tmp_path / "good", vocab, merges)))
    spoilt = {
        "order": {**vocab, "ab": 257, "abc": 256}, "missing": {**base, "ab": 256}, "type": {**vocab, "ab": "256"},
        "byte": {k: v for k, v in vocab.items() if k != "q"}, "letter": {**vocab, "a b": 300},
    }  # fmt: skip
    with pytest.raises(DataError):
        load_tokenizer(str(hugging_face(tmp_path / "odd", spoilt[spoil], merges, new=spoil == "type")))


def test_gpt2_without_its_files(tmp_path, monkeypatch):
    """One line that says what to set; and nobody is asked for them."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DataError, match="TIKTOKEN_CACHE_DIR") as caught:
        load_tokenizer("gpt2")
    assert "\n" not in str(caught.value)
    looked_for = str(caught.value).partition("holds it as ")[2].partition(",")[0]
    (tmp_path / looked_for).write_bytes(b"another file's bytes")
    with pytest.raises(DataError, match="not in tiktoken's cache"):
        load_tokenizer("gpt2")
    assert not (tmp_path / looked_for).exists()  # tiktoken has looked there, and threw away what was none
    with pytest.raises(DataError, match="p50k_base"):
        load_tokenizer("no-such-encoding")


def test_a_name_is_read_from_tiktokens_cache(tmp_path, monkeypatch):
    """With a file of our own in the cache, at the place that tiktoken gives it; one of too many tokens is refused."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    from tiktoken import registry
    from tiktoken_ext import openai_public

    url = "https://example.invalid/tiny.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(tiny().ranks_bytes())

    def made(special):
        ranks = openai_public.load_tiktoken_bpe(url)
        return {"name": "tiny", "pat_str": openai_public.r50k_pat_str, "mergeable_ranks": ranks,
                "special_tokens": special}  # fmt: skip

    registry._find_constructors()
    monkeypatch.setitem(registry.ENCODING_CONSTRUCTORS, "tiny", lambda: made(dict(tiny().special)))
    monkeypatch.setitem(registry.ENCODING_CONSTRUCTORS, "huge", lambda: made({"<|endoftext|>": 1 << 16}))
    assert load_tokenizer("tiny").ranks == tiny().ranks
    with pytest.raises(DataError, match="two bytes"):
        load_tokenizer("huge")
    for name in ("tiny", "huge"):
        registry.ENCODINGS.pop(name, None)


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    """Of a tokenizer whose digest is right."""
    odd = Tokenizer("odd", {**tiny().ranks, b"zz": 70_000}, {})
    (tmp_path / "tokenizer.tiktoken").write_bytes(odd.ranks_bytes())
    digest = hashlib.sha256(odd.ranks_bytes()).hexdigest()
    told = {"name": "odd", "sha256": digest, "special_tokens": {}}
    (tmp_path / "meta.json").write_text(json.dumps({"vocab_size": 5, "tokenizer": told}))
    with pytest.raises(DataError, match="between 0 and 65535"):
        read_tokenizer(tmp_path)
