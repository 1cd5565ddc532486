"""Tokenizers: text to numbers and back, from local files. Nothing is downloaded.

A tokenizer is tiktoken's byte pair encoding with GPT-2's pattern, whose tokens fit into two bytes. Sources:

* the files that tiktoken stores under $TIKTOKEN_CACHE_DIR, by name: gpt2, r50k_base, p50k_base, p50k_edit
* a Hugging Face folder: vocab.json and merges.txt, or tokenizer.json
* a folder that `ockham tokenize` wrote: meta.json and tokenizer.tiktoken (per line a token in base64, its
  number)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ockham.errors import DataError, MissingExtraError
from ockham.text_safety import is_path_text

if TYPE_CHECKING:
    from tiktoken import Encoding

RANKS = "tokenizer.tiktoken"
META = "meta.json"
END_OF_TEXT = "<|endoftext|>"
# Tokens are stored as uint16.
MAX_TOKENS = 1 << 16


class Tokenizer(NamedTuple):
    """Ranks of a byte pair encoding (token -> number, lower numbers are merged first), and special tokens.

    `name` is for people. `special` is such as {"<|endoftext|>": 50256}.
    """

    name: str
    ranks: Mapping[bytes, int]
    special: Mapping[str, int]

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary. Every token is below it."""
        return max(*self.ranks.values(), *self.special.values()) + 1

    @property
    def end_of_text(self) -> int | None:
        """Token between two documents. None if the tokenizer has none."""
        return self.special.get(END_OF_TEXT)

    @property
    def sha256(self) -> str:
        """Digest of tokenizer.tiktoken."""
        return hashlib.sha256(self.ranks_bytes()).hexdigest()

    def encoding(self) -> Encoding:
        """Return tiktoken's object for this tokenizer."""
        tiktoken = _tiktoken()
        from tiktoken_ext.openai_public import r50k_pat_str

        encoding: Encoding = tiktoken.Encoding(
            self.name,
            pat_str=r50k_pat_str,
            mergeable_ranks=dict(self.ranks),
            special_tokens=dict(self.special),
        )
        return encoding

    def ranks_bytes(self) -> bytes:
        """Return the content of tokenizer.tiktoken."""
        ordered = sorted(self.ranks.items(), key=lambda item: item[1])
        return b"".join(base64.b64encode(token) + b" %d\n" % number for token, number in ordered)


def load_tokenizer(name: str) -> Tokenizer:
    """Load a tokenizer by the name of tiktoken's encoding, or from a folder.

    Args:
        name: Encoding or folder. Text is a folder only if it has a separator or an extension, such as
            `./gpt2`.

    Raises:
        DataError: If it does not exist, or its tokens do not fit into two bytes.
        BadInputError: If tiktoken is not installed.

    """
    if not is_path_text(name):
        return _load_tiktoken(name)
    folder = Path(name)
    if not folder.is_dir():
        raise DataError(
            f"no folder {name!r:.200}; name a folder with a tokenizer, or an encoding of tiktoken"
        )
    if (folder / RANKS).is_file():
        return read_tokenizer(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        text = _read(folder / "merges.txt").decode("utf-8", "replace")
        merges = [line.split(" ") for line in text.splitlines() if line and not line.startswith("#version")]
        return _hugging_face(folder, _json(folder / "vocab.json"), merges)
    if (folder / "tokenizer.json").is_file():
        return _load_tokenizer_json(folder)
    raise DataError(
        f"{folder}: no tokenizer; accepted: {RANKS}, vocab.json and merges.txt, or tokenizer.json"
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of a folder that `ockham tokenize` wrote.

    Raises:
        DataError: If it is missing or differs from the one in meta.json.

    """
    info = _json(folder / META).get("tokenizer")
    if not isinstance(info, dict) or not (folder / RANKS).is_file():
        raise DataError(f"{folder}: {META} names no tokenizer of this folder; `ockham tokenize` writes both")
    data = _read(folder / RANKS)
    if hashlib.sha256(data).hexdigest() != info.get("sha256"):
        raise DataError(f"{folder / RANKS}: the digest differs from the one in {META}")
    try:
        lines = [line.split(b" ") for line in data.splitlines()]
        ranks = {base64.b64decode(token, validate=True): int(number) for token, number in lines}
        special = {str(text): int(number) for text, number in info["special_tokens"].items()}
        name = str(info["name"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: {RANKS} or the tokenizer in {META} cannot be read ({error})") from None
    return _validate(Tokenizer(name, ranks, special), folder)


def tokenizer_info(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the description of a tokenizer for meta.json."""
    return {"name": tokenizer.name, "sha256": tokenizer.sha256, "special_tokens": dict(tokenizer.special)}


def _load_tiktoken(name: str) -> Tokenizer:
    tiktoken = _tiktoken()
    from tiktoken import load
    from tiktoken_ext.openai_public import r50k_pat_str

    names = tiktoken.list_encoding_names()
    if name not in names:
        raise DataError(
            f"{name!r:.80}: not an encoding of tiktoken; write a folder as ./{name:.80}; "
            f"encodings: {', '.join(names)}"
        )

    def refuse_download(blobpath: str) -> bytes:
        # tiktoken.load computes the name of the cached file in the same way.
        cached_name = hashlib.sha1(blobpath.encode(), usedforsecurity=False).hexdigest()
        raise DataError(
            f"encoding {name!r}: {blobpath} is not in tiktoken's cache, and nothing is downloaded; set "
            f"TIKTOKEN_CACHE_DIR to a folder that contains it as {cached_name}, or use a Hugging Face folder "
            "with vocab.json and merges.txt"
        )

    read_file = load.read_file
    # tiktoken calls this function for files that are not cached. It would access the network.
    load.read_file = refuse_download
    try:
        encoding = tiktoken.get_encoding(name)
    finally:
        load.read_file = read_file
    if encoding._pat_str != r50k_pat_str or encoding.n_vocab > MAX_TOKENS:
        raise DataError(
            f"encoding {name!r}: {encoding.n_vocab} tokens do not fit into two bytes each; "
            "use gpt2 or p50k_base"
        )
    return _validate(Tokenizer(name, encoding._mergeable_ranks, encoding._special_tokens), name)


def _load_tokenizer_json(folder: Path) -> Tokenizer:
    """Load the tokenizer.json of a Hugging Face folder."""
    path = folder / "tokenizer.json"
    content = _json(path)
    model = content.get("model")
    pre_tokenizer = content.get("pre_tokenizer") or {}
    is_byte_level = pre_tokenizer.get("type") == "ByteLevel"
    if not isinstance(model, dict) or model.get("type") != "BPE" or not is_byte_level:
        raise DataError(
            f"{path}: not a byte-level BPE as GPT-2's; accepted: model BPE with pre_tokenizer ByteLevel"
        )
    merges = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model.get("merges", ())]
    return _hugging_face(folder, model.get("vocab"), merges)


def _hugging_face(folder: Path, vocabulary: Any, merges: Sequence[Sequence[str]]) -> Tokenizer:
    """Build a tokenizer from a vocabulary and its merges.

    Tiktoken merges by number. The result equals the order of merges.txt if the numbers have the same order.
    """
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise DataError(f"{folder}: the vocabulary is not an object of token to number")
    special = {text: number for text, number in vocabulary.items() if text == END_OF_TEXT}
    bytes_by_letter = {letter: byte for byte, letter in enumerate(_bytes_to_unicode())}
    try:
        ranks = {
            bytes(bytes_by_letter[letter] for letter in text): number
            for text, number in vocabulary.items()
            if text not in special
        }
        order = [vocabulary[first + second] for first, second in merges]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: vocabulary and merges do not match ({error})") from None
    if order != sorted(set(order)) or {n for token, n in ranks.items() if len(token) > 1} != set(order):
        raise DataError(f"{folder}: the token numbers are not in the order of the merges, as GPT-2's are")
    return _validate(Tokenizer(folder.resolve().name, ranks, special), folder)


def _bytes_to_unicode() -> list[str]:
    """Return GPT-2's letter for each byte, as in its encoder.py.

    This is the byte if it is printable, else the next letter from U+0100 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


def _validate(tokenizer: Tokenizer, source: object) -> Tokenizer:
    """Check what tiktoken would only reject later, and that the tokens fit into the files."""
    numbers = [*tokenizer.ranks.values(), *tokenizer.special.values()]
    if not all(bytes([byte]) in tokenizer.ranks for byte in range(256)):
        raise DataError(f"{source}: not every byte is a token; a byte-level encoding is required")
    if len(set(numbers)) != len(numbers) or min(numbers) < 0 or max(numbers) >= MAX_TOKENS:
        raise DataError(f"{source}: token numbers must be different and between 0 and {MAX_TOKENS - 1}")
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
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object")
    return value
