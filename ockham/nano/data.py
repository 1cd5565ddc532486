"""Training data: bytes of any text, or nanoGPT's token files; batches drawn from a counter.

A batch is a pure function of (seed, split, rank, iteration, micro-batch): there is no cursor to lose, a resumed run
draws what the uninterrupted one would have drawn, and a skipped batch moves nothing.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ockham.errors import DataError
from ockham.nano.meta import read_tokenizer_info, read_vocab_size

GPT2_VOCAB = 50_304  # what nanoGPT takes where a .bin comes without meta: 50,257 padded to a multiple of 64
BYTES_VOCAB = 256
_CHUNK = 1 << 24
_SPLITS = {"train": 0, "val": 1}
Tokens = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Corpus:
    """Tokens in memory or mapped from a file, and what they are.

    Attributes:
        train: one dimension, uint8 or uint16.
        val: likewise.
        vocab_size: tokens are below it.
        about: name, digest and sizes, for run.json.

    """

    train: Tokens
    val: Tokens
    vocab_size: int
    metadata: dict[str, Any]

    def require_longer_than(self, block_size: int) -> Corpus:
        """The corpus itself, if every split holds more than one block.

        Raises:
            DataError: naming the split that is too short.

        """
        for name, tokens in (("train", self.train), ("val", self.val)):
            if len(tokens) <= block_size:
                raise DataError(
                    f"{self.metadata['name']}: {name} has {len(tokens)} tokens, and a block takes {block_size} + 1; "
                    "give more text, or a smaller --set block_size"
                )
        return self


class Batches:
    """Draws micro-batches of shape (batch_size, block_size), int64, with targets one token later."""

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        block_size: int,
        seed: int,
        *,
        rank: int = 0,
        device: str = "cpu",
    ) -> None:
        self.corpus = corpus.require_longer_than(block_size)
        self.batch_size, self.block_size, self.seed, self.rank = batch_size, block_size, seed, rank
        self.device = torch.device(device)
        self._steps = np.arange(block_size + 1, dtype=np.int64)

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Literal["train", "val"] = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one micro-batch; those for validation are the same on every rank."""
        return self.to_device(self.sample_window(iter_num, micro_step, split))

    def sample_window(
        self, iter_num: int, micro_step: int = 0, split: Literal["train", "val"] = "train", out: torch.Tensor | None = None
    ) -> torch.Tensor:  # fmt: skip
        """Inputs and the token after the last of them, (batch_size, block_size + 1) int64 on the host, into `out` if given."""
        tokens = self.corpus.train if split == "train" else self.corpus.val
        rank = self.rank if split == "train" else 0
        key = (self.seed & 0xFFFF_FFFF) << 32 | rank << 1 | _SPLITS[split]
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, micro_step, iter_num]))
        starts = random.integers(0, len(tokens) - self.block_size, size=self.batch_size)
        found = tokens[starts[:, None] + self._steps]
        if out is None:
            return torch.from_numpy(found.astype(np.int64))
        np.copyto(out.numpy(), found)
        return out

    def to_device(self, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets on the device; a copy to CUDA is under way when this returns."""
        if self.device.type == "cuda":
            pinned = window if window.is_pinned() else window.pin_memory()
            window = pinned.to(self.device, non_blocking=True)
        elif self.device.type != "cpu":
            window = window.to(self.device)
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()


def load_corpus(path: str | Path | None, vocab_size: int = 0, progress: Progress | None = None) -> Corpus:
    """A text file, a folder of text, a folder with train.bin and val.bin, or the standard library's own sources.

    Args:
        path: None takes the sources of this Python, which are on every machine.
        vocab_size: of a .bin; 0: what its meta says, or GPT-2's.
        progress: told (bytes done, bytes in all) while a big file is read.

    Raises:
        DataError: if there is nothing to train on.

    """
    if path is None:
        return _standard_library()
    found = Path(path)
    if not found.exists():
        raise DataError(
            f"no data at {str(path)!r}: give a text file, a folder of text, or one with train.bin"
        )
    try:
        if (found / "train.bin").is_file():
            return _bins(found, vocab_size, progress)
        if found.suffix == ".bin":
            raise DataError(f"{found}: give the folder that holds train.bin and val.bin")
        if found.is_dir():
            return _texts(found.name, [(str(p.relative_to(found)), p) for p in sorted(found.rglob("*"))])
        return _texts(found.name, [(found.name, found)])
    except OSError as error:
        raise DataError(f"{error.filename or found}: {error.strerror}") from None


def _standard_library() -> Corpus:
    """All .py files of the standard library but tests and installed packages, sorted, as bytes."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
    files = [
        (str(path.relative_to(root)), path)
        for path in sorted(root.rglob("*.py"))
        if skipped.isdisjoint(path.relative_to(root).parts)
    ]
    return _texts("python-standard-library", files)


def _texts(name: str, files: list[tuple[str, Path]]) -> Corpus:
    """Every tenth file for validation; fewer than ten files are joined, and their last tenth is taken."""
    texts = [(label, path.read_bytes()) for label, path in files if path.is_file()]
    texts = [(label, data) for label, data in texts if data and b"\0" not in data[:8192]]
    if not texts:
        raise DataError(f"{name}: no text in it (empty files and files with zero bytes are passed over)")
    digest = hashlib.sha256()
    for label, data in texts:
        digest.update(f"{label}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
    if len(texts) >= 10:
        train = b"".join(data for at, (_, data) in enumerate(texts) if at % 10 != 9)
        val = b"".join(data for at, (_, data) in enumerate(texts) if at % 10 == 9)
    else:
        total_bytes = b"".join(data for _, data in texts)
        cut = len(total_bytes) * 9 // 10
        train, val = total_bytes[:cut], total_bytes[cut:]
    arrays = np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8)
    return Corpus(
        *arrays, BYTES_VOCAB, _about(name, "bytes", digest.hexdigest(), arrays, BYTES_VOCAB, len(texts))
    )


def _bins(folder: Path, vocab_size: int, progress: Progress | None) -> Corpus:
    """NanoGPT's token files: little-endian uint16, mapped, read once for digest and range."""
    if not (folder / "val.bin").is_file():
        raise DataError(f"{folder}: train.bin is there, val.bin is missing")
    vocab_size = vocab_size or read_vocab_size(folder) or GPT2_VOCAB
    arrays = []
    digest = hashlib.sha256()
    total_bytes = sum((folder / f"{split}.bin").stat().st_size for split in _SPLITS)
    done = 0
    for split in _SPLITS:
        path = folder / f"{split}.bin"
        size = path.stat().st_size
        if size == 0 or size % 2:
            raise DataError(
                f"{path}: {size} bytes; a token file holds two bytes for each token, and at least one"
            )
        tokens = np.memmap(path, dtype="<u2", mode="r")
        for start, chunk in _chunks(tokens):
            if (highest := int(chunk.max())) >= vocab_size:
                at = start + int(chunk.argmax())
                raise DataError(
                    f"{path}: token {highest} at place {at} is beyond the vocabulary of {vocab_size}; "
                    "say --set vocab_size=N if that is wrong"
                )
            digest.update(chunk.tobytes())
            done += 2 * len(chunk)
            if progress is not None:
                progress(done, total_bytes)
        arrays.append(tokens)
    pair = (arrays[0], arrays[1])
    told = _about(folder.name, "uint16 tokens", digest.hexdigest(), pair, vocab_size, 2)
    return Corpus(*pair, vocab_size, {**told, **read_tokenizer_info(folder)})


def _chunks(tokens: Tokens) -> Iterator[tuple[int, Tokens]]:
    for start in range(0, len(tokens), _CHUNK):
        yield start, tokens[start : start + _CHUNK]


def _about(
    name: str, kind: str, digest: str, arrays: tuple[Tokens, Tokens], vocab_size: int, files: int
) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "sha256": digest, "files": files, "train_tokens": len(arrays[0]),
        "val_tokens": len(arrays[1]), "vocab_size": vocab_size,
    }  # fmt: skip
