"""Metadata of token files: vocabulary, width of the tokens, and characters, from meta.json or meta.pkl."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError, DataError
from ockham.nano.plain_pickle import read_plain_pickle

WIDTHS = {"uint16": 2, "uint32": 4, "uint64": 8}
CHARACTERS = "characters"


class CharCodec:
    """Text with one token per character, as in nanoGPT's shakespeare_char.

    Args:
        characters: Character of each token.
        source: File of the characters, for messages.

    """

    def __init__(self, characters: Mapping[int, str], source: str) -> None:
        self.vocab_size = max(characters) + 1
        self._characters = characters
        self._numbers = {character: number for number, character in characters.items()}
        self._source = source

    @property
    def sha256(self) -> str:
        """Digest of the characters and their numbers."""
        return hashlib.sha256(json.dumps(sorted(self._characters.items())).encode()).hexdigest()

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text.

        Raises:
            BadInputError: If a character has no token.

        """
        missing = next((character for character in text if character not in self._numbers), None)
        if missing is not None:
            known = "".join(sorted(self._numbers))
            raise BadInputError(f"{missing!r}: no token in {self._source}; accepted: {known!r:.200}")
        return [self._numbers[character] for character in text]

    def token_bytes(self, token: int) -> bytes:
        """Return the character in UTF-8. Nothing for a number that the vocabulary does not use."""
        return self._characters.get(token, "").encode("utf-8", "replace")


def read_vocab_size(folder: Path) -> int:
    """Return `vocab_size` of meta.json or of nanoGPT's meta.pkl, or 0 if neither contains it.

    Raises:
        DataError: If the file exists and cannot be read.

    """
    meta, source = _read_meta(folder)
    value = meta.get("vocab_size", 0)
    if type(value) is not int or value < 0:
        raise DataError(f"{source}: vocab_size is not a positive number: {value!r:.40}")
    return value


def read_token_width(folder: Path) -> int:
    """Return the bytes of a token that `dtype` in meta.json or meta.pkl names, or 0.

    Raises:
        DataError: If the file cannot be read, or names another type.

    """
    meta, source = _read_meta(folder)
    name = meta.get("dtype")
    if name is None:
        return 0
    if name not in WIDTHS:
        raise DataError(f"{source}: dtype {name!r:.40} is not supported; accepted: {', '.join(WIDTHS)}")
    return WIDTHS[name]


def read_tokenizer_info(folder: Path) -> dict[str, Any]:
    """Return name and digest of the tokenizer or of the characters in the metadata, else nothing."""
    try:
        info = _read_meta(folder)[0].get("tokenizer")
        if info is not None:
            return {"tokenizer": {"name": str(info["name"]), "sha256": str(info["sha256"])}}
        codec = read_characters(folder)
    except (DataError, KeyError, TypeError):
        return {}
    return {} if codec is None else {"tokenizer": {"name": CHARACTERS, "sha256": codec.sha256}}


def read_characters(folder: Path) -> CharCodec | None:
    """Return the codec of `stoi` and `itos` in the metadata. None if there are no characters in it.

    Raises:
        DataError: If the file cannot be read, or its entries contradict each other.

    """
    meta, source = _read_meta(folder)
    if "itos" not in meta and "stoi" not in meta:
        return None
    tables = []
    for name in ("itos", "stoi"):
        table = meta.get(name)
        if table is None:
            continue
        if isinstance(table, list):
            table = dict(enumerate(table))
        if not isinstance(table, dict) or not table:
            raise DataError(f"{source}: {name} is not a table of characters")
        pairs = ((key, value) if name == "itos" else (value, key) for key, value in table.items())
        tables.append(_check_characters(dict(pairs), len(table), f"{source}: {name}"))
    if tables[0] != tables[-1]:
        raise DataError(f"{source}: stoi and itos differ; write both from the same vocabulary")
    return CharCodec(tables[0], source)


def _check_characters(characters: dict[Any, Any], entries: int, label: str) -> dict[int, str]:
    """Return the characters with numbers as keys. JSON writes the keys as text."""
    if all(isinstance(number, str) and number.isdecimal() for number in characters):
        characters = {int(number): text for number, text in characters.items()}
    for number, text in characters.items():
        if type(number) is not int or number < 0 or not isinstance(text, str):
            raise DataError(f"{label} has {number!r:.40}: {text!r:.40}; accepted: a number and a character")
        if len(text) != 1:
            raise DataError(f"{label} has {text!r:.40}, which is not one character; pass --tokenizer")
    if len(characters) != entries or len(set(characters.values())) != entries:
        raise DataError(f"{label} has a number or a character twice")
    return characters


def _read_meta(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the content of meta.json, else of meta.pkl, and the path of the file. Both may be missing."""
    for path in (folder / "meta.json", folder / "meta.pkl"):
        if not path.is_file():
            continue
        try:
            data = path.read_bytes()
            content = json.loads(data) if path.suffix == ".json" else read_plain_pickle(data)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not a table of names and values")
        return content, str(path)
    return {}, str(folder / "meta.json")
