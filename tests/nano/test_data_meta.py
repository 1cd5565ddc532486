"""Metadata of token files: characters of nanoGPT, and contradictions in them."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError, DataError
from ockham.nano.data_meta import CharCodec, read_characters, read_token_width, read_vocab_size
from ockham.nano.sample import decode_stream, make_codec


def write_meta(folder, characters, **other):
    """Write meta.pkl as nanoGPT's prepare.py does."""
    stoi = {character: number for number, character in enumerate(characters)}
    itos = dict(enumerate(characters))
    meta = {"vocab_size": len(characters), "itos": itos, "stoi": stoi, **other}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), st.data())
def test_characters_of_meta_pkl_encode_and_decode_every_text_of_them(tmp_path_factory, text, data):
    """The numbers equal stoi, and the decoded text equals the encoded one."""
    characters = sorted(set(text))
    folder = write_meta(tmp_path_factory.mktemp("chars"), characters)
    codec = read_characters(folder)
    tokens = codec.tokens(text)
    assert tokens == [characters.index(character) for character in text]
    assert "".join(decode_stream(iter(tokens), codec)) == text
    assert codec.vocab_size == read_vocab_size(folder) == len(characters)


def test_json_with_text_as_keys_has_the_same_characters(tmp_path):
    """JSON has only text as keys. itos may be a list, and one of the two is enough."""
    expected = CharCodec({0: "a", 1: "b"}, "").sha256
    for meta in ({"itos": {"0": "a", "1": "b"}}, {"itos": ["a", "b"]}, {"stoi": {"a": 0, "b": 1}}):
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        assert read_characters(tmp_path).sha256 == expected


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"itos": {0: "a"}, "stoi": {"b": 0}}, "stoi and itos differ"),
        ({"itos": {0: "a", 1: "a"}}, "twice"),
        ({"stoi": {"a": 0, "b": 0}}, "twice"),
        ({"itos": {0: "the", 1: "a"}}, "not one character"),
        ({"itos": {-1: "a"}}, "accepted: a number and a character"),
        ({"itos": {0: 7}}, "accepted: a number and a character"),
        ({"itos": "abc"}, "not a table"),
        ({"itos": {}}, "not a table"),
    ],
)
def test_contradicting_characters_are_refused(tmp_path, meta, message):
    """One clear error names the file."""
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    with pytest.raises(DataError, match=message) as caught:
        read_characters(tmp_path)
    assert "meta.pkl" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"{", b"[1]", b'{"vocab_size": "65"}', b"\xff"])
def test_unreadable_metadata_is_refused(tmp_path, content):
    """Both files, each with one error."""
    for name in ("meta.json", "meta.pkl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_vocab_size(tmp_path)
        (tmp_path / name).unlink()
    assert read_vocab_size(tmp_path) == read_token_width(tmp_path) == 0


def test_character_without_a_token_is_refused_with_the_accepted_ones(tmp_path):
    """The error names the character."""
    codec = read_characters(write_meta(tmp_path, ["\n", "a", "b"]))
    with pytest.raises(BadInputError, match=r"'é': no token in .*accepted: "):
        codec.tokens("abé")


def test_codec_of_a_run_uses_its_characters(tmp_path):
    """Other characters than the recorded ones are refused. --tokenizer accepts the folder."""
    write_meta(tmp_path, ["a", "b"])
    digest = read_characters(tmp_path).sha256
    recorded = {"kind": "uint16 tokens", "tokenizer": {"name": "characters", "sha256": digest}}
    assert make_codec(recorded, str(tmp_path)).tokens("ba") == [1, 0]
    assert make_codec(recorded, None, str(tmp_path)).tokens("ba") == [1, 0]
    write_meta(tmp_path, ["b", "a"])
    with pytest.raises(DataError, match="the run's tokenizer had"):
        make_codec(recorded, str(tmp_path))
