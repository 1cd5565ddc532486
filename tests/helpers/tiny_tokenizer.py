"""A byte pair encoding small enough to read: all bytes, some English, and the token between documents."""

from __future__ import annotations

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


def tiny() -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)} | {
        token: 256 + at for at, token in enumerate(_MERGES)
    }
    return Tokenizer("tiny", ranks, {"<|endoftext|>": 300})


def letters() -> list[str]:
    return _bytes_to_unicode()
