"""`ockham tokenize`, as it is typed."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import DataError
from tests.helpers.tiny_tokenizer import WORDS, letters

pytest.importorskip("tiktoken", reason="tiktoken is not installed")


def run(*words):
    return CliRunner().invoke(build_app(), ["tokenize", *map(str, words)])


def test_the_verb(tmp_path, monkeypatch):
    """Says on stderr what it made and what it passed over; a terminal's bytes in a name are shown, not sent."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(WORDS * 40)
    (tmp_path / "texts" / "b\x1b[31m").write_bytes(b"\xff")
    (tmp_path / "gpt").mkdir()
    vocab = {**{letter: number for number, letter in enumerate(letters())}, "th": 256, "<|endoftext|>": 257}
    (tmp_path / "gpt" / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "gpt" / "merges.txt").write_text("#version: 0.2\nt h\n")
    done = run(tmp_path / "texts", "--to", tmp_path / "out", "--encoding", tmp_path / "gpt")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "vocabulary 258" in done.stderr
    assert r"b\x1b[31m" in done.stderr
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["vocab_size"] == 258
    refused = run(tmp_path / "texts", "--to", tmp_path / "other")
    assert isinstance(refused.exception, DataError)  # exit status 2, and gpt2's files are in no cache
    assert not (tmp_path / "other").exists()


def test_mistakes_are_told_before_a_missing_package(tmp_path, monkeypatch):
    """Whoever installs tiktoken at last should not learn then that the folder was misspelt."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    (tmp_path / "a.txt").write_text(WORDS)
    for words, told in (
        ((tmp_path / "gone", "--to", tmp_path / "out"), "no text at"),
        ((tmp_path / "a.txt", "--to", tmp_path), "is there already"),
        ((tmp_path / "a.txt", "--to", tmp_path / "out", "--encoding", "gtp2/"), "no folder 'gtp2/'"),
        ((tmp_path / "a.txt", "--to", tmp_path / "out"), "pip install 'ockham[tiktoken]'"),
    ):
        assert told in str(run(*words).exception)
