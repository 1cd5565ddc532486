"""`ockham tokenize`: token files and errors."""

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


def test_tokenize_writes_token_files_and_reports_skipped_files(tmp_path, monkeypatch):
    """Stderr reports the summary and skipped files; control characters of a name are escaped."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(WORDS * 40)
    (tmp_path / "texts" / "b\x1b[31m").write_bytes(b"\xff")
    (tmp_path / "gpt").mkdir()
    vocab = {**{letter: number for number, letter in enumerate(letters())}, "th": 256, "<|endoftext|>": 257}
    (tmp_path / "gpt" / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "gpt" / "merges.txt").write_text("#version: 0.2\nt h\n")
    done = run(tmp_path / "texts", "-o", tmp_path / "out", "--encoding", tmp_path / "gpt")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "vocabulary 258" in done.stderr
    assert r"b\x1b[31m" in done.stderr
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["vocab_size"] == 258
    refused = run(tmp_path / "texts", "-o", tmp_path / "other")
    # The files of gpt2 are not in the cache.
    assert isinstance(refused.exception, DataError)
    assert not (tmp_path / "other").exists()


def test_tokenize_reports_bad_input_before_a_missing_package(tmp_path, monkeypatch):
    """A wrong path is reported first, so that users do not install tiktoken only to see the next error."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    (tmp_path / "a.txt").write_text(WORDS)
    for words, message in (
        ((tmp_path / "gone", "-o", tmp_path / "out"), "no text at"),
        ((tmp_path / "a.txt", "-o", tmp_path), "exists and is not empty"),
        ((tmp_path / "a.txt", "-o", tmp_path / "out", "--encoding", "gtp2/"), "no folder 'gtp2/'"),
        ((tmp_path / "a.txt", "-o", tmp_path / "out"), 'pip install "ockham-audit[tiktoken]"'),
    ):
        assert message in str(run(*words).exception)
