"""Text from a checkpoint: the next token drawn from what the model predicts, again and again."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ockham.errors import BadInputError, CheckpointError, DataError
from ockham.nano.checkpoint_io import MODEL, load_model, read_metadata
from ockham.nano.config import Settings
from ockham.nano.device import choose_device
from ockham.nano.model import GPT, build_model
from ockham.nano.overrides import build_settings
from ockham.nano.tokenizer import Tokenizer, load_tokenizer, read_tokenizer


class Codec(Protocol):
    """Text to tokens, and a token to its bytes; `vocab_size`: every token that stands for text is below it."""

    vocab_size: int

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""
        ...

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; empty for a special one."""
        ...


class ByteCodec:
    """Text as UTF-8, a token for each byte."""

    vocab_size = 256

    def tokens(self, text: str) -> list[int]:
        """The text's bytes."""
        return list(text.encode())

    def bytes_of(self, token: int) -> bytes:
        """The byte itself."""
        return bytes([token])


class BPECodec:
    """Text by a byte pair encoding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._encoding = tokenizer.encoding()
        self._bytes = {number: token for token, number in tokenizer.ranks.items()}

    def tokens(self, text: str) -> list[int]:
        """Special tokens in the text are text."""
        return self._encoding.encode_ordinary(text)

    def bytes_of(self, token: int) -> bytes:
        """Nothing for a special token, and for a number that the vocabulary leaves out."""
        return self._bytes.get(token, b"")


def make_codec(data: dict[str, Any], trained_on: str | None, asked: str = "") -> Codec:
    """How a run's tokens are read: as asked, as bytes where it was trained on text, else by the tokenizer beside its tokens.

    Args:
        data: `data` of run.json.
        trained_on: the path that was given to --data.
        asked: name or folder of a tokenizer; empty: what the data says.

    Raises:
        DataError: if the tokenizer is not there, or is not the one that the run's tokens were made with.

    """
    if asked:
        return BPECodec(load_tokenizer(asked))
    if data.get("kind") == "bytes":
        return ByteCodec()
    if not trained_on:
        raise BadInputError("run.json does not say what data this was; say how tokens are read: --tokenizer")
    try:
        tokenizer = read_tokenizer(Path(trained_on))
    except DataError as error:
        raise DataError(f"{error}; or say how tokens are read: --tokenizer") from None
    wanted = (data.get("tokenizer") or {}).get("sha256")
    if wanted and tokenizer.sha256 != wanted:
        raise DataError(
            f"{trained_on}: the tokenizer there has digest {tokenizer.sha256}, the run's had {wanted}"
        )
    return BPECodec(tokenizer)


def load_checkpoint(folder: Path, device: str = "auto") -> tuple[GPT, Settings]:
    """The model of a checkpoint's folder, for evaluation, and the settings that it was trained with.

    Raises:
        CheckpointError: if it is not one that `ockham train` wrote.

    """
    if not (folder / MODEL).is_file():
        raise CheckpointError(f"{folder}: no {MODEL}; checkpoints that `ockham train` wrote can be read")
    told = read_metadata(folder / MODEL)
    if not isinstance(told.get("settings"), dict) or type(told.get("vocab_size")) is not int:
        raise CheckpointError(f"{folder / MODEL}: its metadata names no settings of `ockham train`")
    try:
        settings = build_settings(base=told["settings"])
    except TypeError as error:
        raise CheckpointError(f"{folder / MODEL}: settings of another kind ({error})") from None
    model = build_model(settings, told["vocab_size"])
    load_model(model, folder / MODEL)
    return model.to(choose_device(device)).eval(), settings


@torch.no_grad()
def generate_tokens(
    model: GPT, prompt: Sequence[int], count: int, *, vocab_limit: int, temperature: float = 0.8, top_k: int = 200, seed: int = 1337
) -> Iterator[int]:  # fmt: skip
    """Draw `count` tokens after a prompt.

    Args:
        model: predicts from the last `block_size` tokens.
        prompt: at least one token.
        count: how many.
        below: tokens are below it: a padded vocabulary has numbers without a meaning.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: only among so many of the likeliest; 0: all.
        seed: of the draws; the same seed gives the same text on one machine.

    Raises:
        CheckpointError: if the model predicts what is not finite.

    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(seed)
    window = torch.tensor([list(prompt)[-model.block_size :]], device=device)
    for _ in range(count):
        logits = model(window)[0, -1, :vocab_limit].double().cpu()
        if not bool(torch.isfinite(logits).all()):
            raise CheckpointError("the model predicts values that are not finite: its weights are spoilt")
        if temperature == 0:
            token = int(logits.argmax())
        else:
            logits /= temperature
            if 0 < top_k < len(logits):
                logits[logits < logits.topk(top_k).values[-1]] = -math.inf
            token = int(torch.multinomial(logits.softmax(dim=0), 1, generator=random))
        yield token
        window = torch.cat([window, window.new_tensor([[token]])], dim=1)[:, -model.block_size :]


def decode_stream(tokens: Iterator[int], codec: Codec) -> Iterator[str]:
    """Tokens as pieces of text: a character whose bytes are not all there waits, bytes that are no UTF-8 become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if text := decoder.decode(codec.bytes_of(token)):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
