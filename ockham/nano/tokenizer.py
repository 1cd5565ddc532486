"""Tokenizers: text to numbers and back, from files alone; nothing is fetched.

A tokenizer is tiktoken's byte pair encoding with GPT-2's pattern, whose tokens fit into two bytes. It comes from

* the files that tiktoken keeps under $TIKTOKEN_CACHE_DIR, by name: gpt2, r50k_base, p50k_base, p50k_edit;
* a Hugging Face folder: vocab.json and merges.txt, or tokenizer.json;
* a folder that `ockham tokenize` wrote: meta.json and tokenizer.tiktoken (a token in base64 and its number on each line).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ockham.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from tiktoken import Encoding

RANKS, META = "tokenizer.tiktoken", "meta.json"
END_OF_TEXT = "<|endoftext|>"
MOST_TOKENS = 1 << 16  # what uint16 holds


class Tokenizer(NamedTuple):
    """Ranks of a byte pair encoding (token -> number, a lower one is merged first), and special tokens.

    `name` is for people, `special` such as {"<|endoftext|>": 50256}.
    """

    name: str
    ranks: Mapping[bytes, int]
    special: Mapping[str, int]

    @property
    def vocab_size(self) -> int:
        """Every token is below it."""
        return max(*self.ranks.values(), *self.special.values()) + 1

    @property
    def end_of_text(self) -> int | None:
        """The token that stands between two documents, where there is one."""
        return self.special.get(END_OF_TEXT)

    @property
    def sha256(self) -> str:
        """Digest of tokenizer.tiktoken."""
        return hashlib.sha256(self.ranks_bytes()).hexdigest()

    def encoding(self) -> Encoding:
        """Tiktoken's object of it."""
        tiktoken = _tiktoken()
        from tiktoken_ext.openai_public import r50k_pat_str

        made: Encoding = tiktoken.Encoding(
            self.name, pat_str=r50k_pat_str, mergeable_ranks=dict(self.ranks), special_tokens=dict(self.special)
        )  # fmt: skip
        return made

    def ranks_bytes(self) -> bytes:
        """The content of tokenizer.tiktoken."""
        ordered = sorted(self.ranks.items(), key=lambda item: item[1])
        return b"".join(base64.b64encode(token) + b" %d\n" % number for token, number in ordered)


def load_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by the name of tiktoken's encoding, or by the path of a folder that holds one.

    Raises:
        DataError: if there is none, or one whose tokens do not fit into two bytes.
        BadInputError: if tiktoken is not installed.

    """
    folder = Path(name)
    if not folder.is_dir():
        if "/" in name:
            raise DataError(
                f"no folder {name!r:.200}: give one with a tokenizer in it, or the name of an encoding"
            )
        return _load_tiktoken(name)
    if (folder / RANKS).is_file():
        return read_tokenizer(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        text = _read(folder / "merges.txt").decode("utf-8", "replace")
        merges = [line.split(" ") for line in text.splitlines() if line and not line.startswith("#version")]
        return _hugging_face(folder, _json(folder / "vocab.json"), merges)
    if (folder / "tokenizer.json").is_file():
        told = _json(folder / "tokenizer.json")
        model = told.get("model")
        before = told.get("pre_tokenizer") or {}
        if not isinstance(model, dict) or model.get("type") != "BPE" or before.get("type") != "ByteLevel":
            raise DataError(
                f"{folder / 'tokenizer.json'}: a byte-level BPE as GPT-2 has it was expected (model BPE, pre_tokenizer ByteLevel)"
            )
        merges = [
            pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model.get("merges", ())
        ]
        return _hugging_face(folder, model.get("vocab"), merges)
    raise DataError(f"{folder}: neither {RANKS}, nor vocab.json and merges.txt, nor tokenizer.json is in it")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder that `ockham tokenize` wrote.

    Raises:
        DataError: if it is missing or is not the one that meta.json names.

    """
    told = _json(folder / META).get("tokenizer")
    if not isinstance(told, dict) or not (folder / RANKS).is_file():
        raise DataError(f"{folder}: {META} names no tokenizer that lies here; `ockham tokenize` writes both")
    data = _read(folder / RANKS)
    if hashlib.sha256(data).hexdigest() != told.get("sha256"):
        raise DataError(f"{folder / RANKS} is not the file that {META} names: its digest is another one")
    try:
        rows = [line.split(b" ") for line in data.splitlines()]
        ranks = {base64.b64decode(token, validate=True): int(number) for token, number in rows}
        special = {str(text): int(number) for text, number in told["special_tokens"].items()}
        name = str(told["name"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: {RANKS} or the tokenizer in {META} cannot be read ({error})") from None
    return _validate(Tokenizer(name, ranks, special), folder)


def tokenizer_info(tokenizer: Tokenizer) -> dict[str, Any]:
    """What meta.json says of a tokenizer."""
    return {"name": tokenizer.name, "sha256": tokenizer.sha256, "special_tokens": dict(tokenizer.special)}


def _load_tiktoken(name: str) -> Tokenizer:
    tiktoken = _tiktoken()
    from tiktoken import load
    from tiktoken_ext.openai_public import r50k_pat_str

    names = tiktoken.list_encoding_names()
    if name not in names:
        raise DataError(
            f"{name!r:.80} is neither a folder nor an encoding of tiktoken; there: {', '.join(names)}"
        )

    def refuse_download(blobpath: str) -> bytes:
        kept_as = hashlib.sha1(blobpath.encode(), usedforsecurity=False).hexdigest()  # so does tiktoken.load
        raise DataError(
            f"encoding {name!r}: {blobpath} is not in tiktoken's cache, and nothing is fetched; set TIKTOKEN_CACHE_DIR to "
            f"a folder that holds it as {kept_as}, or give a Hugging Face folder with vocab.json and merges.txt"
        )

    kept = load.read_file
    load.read_file = refuse_download  # called for what is not cached: this would go to the network
    try:
        found = tiktoken.get_encoding(name)
    finally:
        load.read_file = kept
    if found._pat_str != r50k_pat_str or found.n_vocab > MOST_TOKENS:
        raise DataError(
            f"encoding {name!r} has {found.n_vocab} tokens; a token file holds two bytes for each: take gpt2 or p50k_base"
        )
    return _validate(Tokenizer(name, found._mergeable_ranks, found._special_tokens), name)


def _hugging_face(folder: Path, vocabulary: Any, merges: Sequence[Sequence[str]]) -> Tokenizer:
    """Tiktoken merges by number: the same result as by the order of merges.txt, if the numbers are in that order."""
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise DataError(f"{folder}: the vocabulary must be an object of token to number")
    special = {text: number for text, number in vocabulary.items() if text == END_OF_TEXT}
    byte_of = {letter: byte for byte, letter in enumerate(_bytes_to_unicode())}
    try:
        ranks = {
            bytes(byte_of[letter] for letter in text): number
            for text, number in vocabulary.items()
            if text not in special
        }
        order = [vocabulary[first + second] for first, second in merges]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: vocabulary and merges do not belong together ({error})") from None
    if order != sorted(set(order)) or {n for token, n in ranks.items() if len(token) > 1} != set(order):
        raise DataError(
            f"{folder}: the numbers of the tokens are not in the order of the merges, as GPT-2's are"
        )
    return _validate(Tokenizer(folder.resolve().name, ranks, special), folder)


def _bytes_to_unicode() -> list[str]:
    """GPT-2's letter for each byte: itself where it is printable, else the next one from U+0100 on (its encoder.py)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


def _validate(tokenizer: Tokenizer, place: object) -> Tokenizer:
    """Refuse what tiktoken would only fail on later, or what would not fit into the files."""
    numbers = [*tokenizer.ranks.values(), *tokenizer.special.values()]
    if not all(bytes([byte]) in tokenizer.ranks for byte in range(256)):
        raise DataError(f"{place}: not every byte is a token, as a byte-level encoding has it")
    if len(set(numbers)) != len(numbers) or min(numbers) < 0 or max(numbers) >= MOST_TOKENS:
        raise DataError(f"{place}: the tokens' numbers must differ and lie between 0 and {MOST_TOKENS - 1}")
    return tokenizer


def _tiktoken() -> Any:
    try:
        import tiktoken
    except ImportError:
        raise MissingExtraError("tiktoken", "tiktoken") from None
    return tiktoken


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: a JSON object was expected")
    return value
