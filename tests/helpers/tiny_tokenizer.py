"""A small byte pair encoding: all bytes, some English, and the token between documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ockham.nano.token_files import find_text, tokenize
from ockham.nano.tokenizer import Tokenizer, _bytes_to_unicode

WORDS = "the water and the weather, they're there; 12 of them\n"
_MERGES = (
    b"th",
    b"the",
    b" the",
    b"er",
    b" w",
    b"at",
    b"nd",
    b" a",
    b" and",
    b"e ",
    b"ab",
    b"  ",
    b"\n\n",
    "é".encode(),
)


def tiny_tokenizer() -> Tokenizer:
    """Return the tokenizer."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token: 256 + number for number, token in enumerate(_MERGES)}
    return Tokenizer("tiny", ranks, {"<|endoftext|>": 300})


def letters() -> list[str]:
    """Return GPT-2's letter for each byte."""
    return _bytes_to_unicode()


def write_texts(folder: Path, count: int = 12) -> Path:
    """Write text files that contain a special token as text. Return the folder."""
    folder.mkdir()
    for number in range(count):
        content = f"file {number}: " + WORDS * (number + 1) + "\n\n  end <|endoftext|>"
        (folder / f"{number:02d}.txt").write_text(content, encoding="utf-8")
    return folder


def write_token_files(source: Path, target: Path, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """Tokenize the text of a folder. Return the content of meta.json."""
    return tokenize(
        find_text(source), target, tokenizer or tiny_tokenizer(), source.name, lambda done, total: None
    )
