"""Text from a checkpoint: tokens are drawn one after the other from the model's predictions."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from ockham.errors import BadInputError, CheckpointError, DataError
from ockham.nano.checkpoint_io import MODEL, load_model, read_metadata
from ockham.nano.config import Settings
from ockham.nano.data_meta import read_characters
from ockham.nano.device import choose_device
from ockham.nano.model import GPT, build_model
from ockham.nano.overrides import build_settings
from ockham.nano.pretrained import export_hf_files
from ockham.nano.tokenizer import META, Tokenizer, load_tokenizer, read_tokenizer
from ockham.text_safety import is_path_text

# Metadata of a checkpoint that an export keeps, so that `ockham lineage` finds its run.
ORIGIN = ("run_id", "attempt", "rank", "iter_num", "kind", "policy_revision", "log_size", "log_root")


def export_checkpoint(folder: Path) -> dict[str, bytes]:
    """Return the Hugging Face files of a checkpoint folder.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        BadInputError: If the model was trained under a recipe that GPT-2 does not support.

    """
    model, settings = load_checkpoint(folder, "cpu")
    metadata = read_metadata(folder / MODEL)
    origin = {name: metadata[name] for name in ORIGIN if name in metadata}
    weights = dict(model.named_parameters())
    return export_hf_files(
        weights, asdict(settings), model.vocab_size, {**origin, "exported_from": folder.name}
    )


def is_export(folder: Path, file: Path) -> bool:
    """Return True if a safetensors file has exactly the tensors of an export of a checkpoint folder.

    The order of the metadata in the file is not defined, so bytes are not compared.
    """
    expected = load_tensors(export_checkpoint(folder)[MODEL])
    try:
        actual = load_tensors(file.read_bytes())
    except SafetensorError:
        return False
    if actual.keys() != expected.keys():
        return False
    return all(
        tensor.dtype == expected[name].dtype
        and tensor.shape == expected[name].shape
        and torch.equal(tensor.view(torch.uint8), expected[name].view(torch.uint8))
        for name, tensor in actual.items()
    )


class Codec(Protocol):
    """Converts text to tokens, and a token to its bytes. Tokens of text are below `vocab_size`."""

    vocab_size: int

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token, or nothing for a special one."""
        ...


class ByteCodec:
    """Text as UTF-8, with one token per byte."""

    vocab_size = 256

    def tokens(self, text: str) -> list[int]:
        """Return the text's bytes."""
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes:
        """Return the byte."""
        return bytes([token])


class BPECodec:
    """Text with a byte pair encoding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._encoding = tokenizer.encoding()
        self._bytes = {number: token for token, number in tokenizer.ranks.items()}

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text. Special tokens in it are treated as text."""
        return self._encoding.encode_ordinary(text)

    def token_bytes(self, token: int) -> bytes:
        """Return nothing for a special token, and for a number that the vocabulary does not use."""
        return self._bytes.get(token, b"")


def make_codec(data: dict[str, Any], trained_on: str | None, tokenizer_name: str = "") -> Codec:
    """Return the codec of a run's tokens.

    It is the given tokenizer, or bytes if the run was trained on text. Otherwise, it is the tokenizer or the
    characters next to the tokens.

    Args:
        data: `data` of run.json.
        trained_on: Path that was given to --data.
        tokenizer_name: Name of a tokenizer, or a folder that contains one or meta.pkl with characters. Empty
            uses the one of the data.

    Raises:
        DataError: If the tokenizer is missing, or is not the one that the run's tokens were made with.

    """
    if tokenizer_name:
        characters = read_characters(Path(tokenizer_name)) if is_path_text(tokenizer_name) else None
        return characters or BPECodec(load_tokenizer(tokenizer_name))
    if data.get("kind") == "bytes":
        return ByteCodec()
    if not trained_on:
        raise BadInputError("run.json does not name the data; name the tokenizer with --tokenizer")
    recorded = (data.get("tokenizer") or {}).get("sha256")
    codec, digest = _read_codec(Path(trained_on))
    if recorded and digest != recorded:
        raise DataError(
            f"{trained_on}: the tokenizer has digest {digest}; the run's tokenizer had {recorded}"
        )
    return codec


def _read_codec(folder: Path) -> tuple[Codec, str]:
    """Return the codec of a folder of token files, and the digest of its tokenizer."""
    if characters := read_characters(folder):
        return characters, characters.sha256
    if not (folder / META).is_file():
        raise DataError(
            f"{folder}: contains neither the tokenizer of `ockham tokenize` nor meta.pkl with stoi and itos; "
            "name the tokenizer with --tokenizer"
        )
    try:
        tokenizer = read_tokenizer(folder)
    except DataError as error:
        raise DataError(f"{error}; or name the tokenizer with --tokenizer") from None
    return BPECodec(tokenizer), tokenizer.sha256


def load_checkpoint(folder: Path, device: str = "auto") -> tuple[GPT, Settings]:
    """Return the model of a checkpoint folder, in evaluation mode, and the settings of its training.

    Raises:
        CheckpointError: If the checkpoint was not written by `ockham train`.

    """
    if not (folder / MODEL).is_file():
        raise CheckpointError(f"{folder}: no {MODEL}; use a checkpoint of `ockham train`")
    path = folder / MODEL
    metadata = read_metadata(path)
    if not isinstance(metadata.get("settings"), dict) or type(metadata.get("vocab_size")) is not int:
        raise CheckpointError(f"{path}: the metadata has no settings; use a checkpoint of `ockham train`")
    try:
        settings = build_settings(base=metadata["settings"])
    except TypeError as error:
        raise CheckpointError(f"{path}: the settings are not those of a trainer ({error})") from None
    model = build_model(settings, metadata["vocab_size"])
    load_model(model, path)
    return model.to(choose_device(device)).eval(), settings


@torch.no_grad()
def generate_tokens(
    model: GPT,
    prompt: Sequence[int],
    count: int,
    *,
    vocab_limit: int,
    temperature: float = 0.8,
    top_k: int = 200,
    seed: int = 1337,
) -> Iterator[int]:
    """Draw *count* tokens after a prompt.

    Args:
        model: Predicts from the last `block_size` tokens.
        prompt: At least one token.
        count: Number of tokens.
        vocab_limit: Only tokens below this number. A padded vocabulary has numbers without a meaning.
        temperature: Logits are divided by it. 0 takes the most probable token.
        top_k: Draw only from the *top_k* most probable tokens. 0 draws from all.
        seed: Seed of the draws. The same seed gives the same text on one machine.

    Raises:
        CheckpointError: If the model's predictions are not finite.

    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(seed)
    window = torch.tensor([list(prompt)[-model.block_size :]], device=device)
    for _ in range(count):
        logits = model(window)[0, -1, :vocab_limit].double().cpu()
        if not bool(torch.isfinite(logits).all()):
            raise CheckpointError("the model predicts values that are not finite; its weights are unusable")
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
    """Yield the text of tokens in pieces.

    An incomplete character waits for its remaining bytes. Bytes that are not UTF-8 become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if text := decoder.decode(codec.token_bytes(token)):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
