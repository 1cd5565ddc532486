"""Create the input files of documentation pages: `python -m tests.helpers.page_inputs KIND FOLDER`."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from ockham.nano.tokenizer import _bytes_to_unicode
from tests.helpers.tiny_tokenizer import WORDS


def write_texts(folder: Path) -> None:
    """Write a folder of eleven text files."""
    folder.mkdir()
    for number in range(11):
        (folder / f"{number:02}.txt").write_text(f"chapter {number}\n" + WORDS * 40, encoding="utf-8")


def write_corpus(folder: Path) -> None:
    """Write a folder of forty files of source code, the same on every machine.

    It is easy to predict, so that a memory accepts weights after few iterations.
    """
    folder.mkdir(parents=True)
    draw = random.Random(1)
    names = ("name", "path", "text", "line", "value", "count")
    for number in range(40):
        lines = []
        for _ in range(60):
            first, second = (names[int(draw.random() * len(names))] for _ in range(2))
            lines.append(f"def {first}(self, {second}):\n    return self.{second}\n\n")
        (folder / f"{number:02}.py").write_text("".join(lines), encoding="utf-8")


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer files of a Hugging Face folder, with a vocabulary of 258 tokens."""
    folder.mkdir()
    vocabulary = {letter: number for number, letter in enumerate(_bytes_to_unicode())}
    vocabulary |= {"th": 256, "<|endoftext|>": 257}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n", encoding="utf-8")


if __name__ == "__main__":
    {"texts": write_texts, "tokenizer": write_tokenizer}[sys.argv[1]](Path(sys.argv[2]))
