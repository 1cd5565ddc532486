"""Training data: bytes of any text, or nanoGPT's token files, and the batches sampled from it.

A batch is a pure function of (seed, split, rank, position, micro-step). The position is that of the iteration
in the data order: the iteration itself, unless ranges are skipped or a rollback was performed. A resumed run
samples the batches of the uninterrupted one, and a batch that the gate skips changes no other.
"""

from __future__ import annotations

import hashlib
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ockham.data_position import digest_rows
from ockham.errors import DataError
from ockham.nano.data_meta import read_tokenizer_info, read_vocab_size
from ockham.nano.data_order import DataOrder
from ockham.nano.token_bin import Progress, Tokens, map_token_files
from ockham.nano.token_files import MIN_FILES_FOR_FILE_SPLIT, finish_text_digest

# nanoGPT's vocabulary for .bin files without meta: 50,257 padded to a multiple of 64.
GPT2_VOCAB = 50_304
BYTES_VOCAB = 256
# The type of the digested tokens on every machine.
_RECORDED_TYPE = np.dtype("<i4")
_SPLITS = {"train": 0, "val": 1}
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
Split = Literal["train", "val"]


@dataclass(frozen=True)
class Corpus:
    """Tokens in memory or mapped from a file, with their description.

    Attributes:
        train: Tokens for training, one dimension, unsigned integers.
        val: Tokens for validation, likewise.
        vocab_size: All tokens are below this number.
        metadata: Name, digest and sizes, for run.json.

    """

    train: Tokens
    val: Tokens
    vocab_size: int
    metadata: dict[str, Any]

    def require_longer_than(self, block_size: int) -> Corpus:
        """Return the corpus itself if each split is longer than one block.

        Raises:
            DataError: If a split is too short. The message names it.

        """
        for name, tokens in (("train", self.train), ("val", self.val)):
            if len(tokens) <= block_size:
                raise DataError(
                    f"{self.metadata['name']}: {name} has {len(tokens)} tokens, "
                    f"and a block takes {block_size} + 1; use more text, or a smaller --set block_size"
                )
        return self


class Batches:
    """Samples micro-batches of shape (batch_size, block_size), int64, with the targets one token later.

    Args:
        corpus: The data.
        batch_size: Examples in a micro-batch.
        block_size: Tokens in an example.
        seed: Seed of the sampling.
        rank: Rank of this process. Each rank samples different training batches.
        device: Device of the returned tensors.
        order: Position of each iteration. None reads all positions in order.

    Raises:
        DataError: If a split is not longer than one block.

    """

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        block_size: int,
        seed: int,
        *,
        rank: int = 0,
        device: str = "cpu",
        order: DataOrder | None = None,
    ) -> None:
        self.order = order or DataOrder()
        self.corpus = corpus.require_longer_than(block_size)
        self.batch_size = batch_size
        self.block_size = block_size
        self.seed = seed
        self.rank = rank
        self.device = torch.device(device)
        self._offsets = np.arange(block_size + 1, dtype=np.int64)
        # Iteration, micro-step and digest of the training micro-batch that was returned last.
        self._last_rows: tuple[int, int, str] = (-1, -1, "")

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Split = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of one micro-batch. Validation batches are equal on every rank."""
        if split == "val":
            return self.to_device(self.sample_window(iter_num, micro_step, split))
        window = self.sample_window(self.order.position(iter_num), micro_step)
        self._last_rows = iter_num, micro_step, digest_window(window)
        return self.to_device(window)

    def data_position(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """Return position and digest of the rows of a training micro-batch, for `Run.start_batch`.

        Seed, rank, position and micro-step determine the rows.

        Args:
            iter_num: Iteration of the micro-batch that was sampled last.
            micro_step: Its micro-step.

        Raises:
            RuntimeError: If another micro-batch was sampled last.

        """
        *sampled, digest = self._last_rows
        if sampled != [iter_num, micro_step]:
            raise RuntimeError(f"batch ({iter_num}, {micro_step}) was not the last one sampled: {sampled}")
        return {"position": self.order.position(iter_num), "digest": digest}

    def sample_window(
        self, position: int, micro_step: int = 0, split: Split = "train", out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return inputs and the token after the last of them.

        Args:
            position: Position in the data, from 0.
            micro_step: Micro-batch within the step, from 0.
            split: Split to sample from.
            out: Buffer for the result. None allocates one.

        Returns:
            Shape (batch_size, block_size + 1), int64, on the host.

        """
        tokens = self.corpus.train if split == "train" else self.corpus.val
        rank = self.rank if split == "train" else 0
        key = (self.seed & 0xFFFF_FFFF) << 32 | rank << 1 | _SPLITS[split]
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, micro_step, position]))
        starts = random.integers(0, len(tokens) - self.block_size, size=self.batch_size)
        windows = tokens[starts[:, None] + self._offsets]
        if out is None:
            return torch.from_numpy(windows.astype(np.int64))
        np.copyto(out.numpy(), windows)
        return out

    def to_device(self, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets on the device. A copy to CUDA may still be in progress."""
        if self.device.type == "cuda":
            pinned = window if window.is_pinned() else window.pin_memory()
            window = pinned.to(self.device, non_blocking=True)
        elif self.device.type != "cpu":
            window = window.to(self.device)
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()


class PrefetchingBatches(Batches):
    """Samples the same as `Batches`, and prepares the next micro-batch on a thread while the device computes.

    Two buffers are used alternately. They are pinned, so that a copy to a GPU is asynchronous. A buffer is
    filled again only after the loss of its batch has been read, because by then its copy is complete. So
    sample the batches in order, and read each loss before the next call.

    Args:
        corpus: The data, as for `Batches`, like all other arguments.
        micro_steps: Micro-batches of a step. After the last one, the first of the next step is prepared.

    """

    def __init__(self, corpus: Corpus, *arguments: Any, micro_steps: int = 1, **options: Any) -> None:
        super().__init__(corpus, *arguments, **options)
        self.micro_steps = micro_steps
        shape = (self.batch_size, self.block_size + 1)
        pinned = self.device.type == "cuda"
        self._buffers = [torch.empty(shape, dtype=torch.int64, pin_memory=pinned) for _ in range(2)]
        self._executor = ThreadPoolExecutor(1, "ockham-batches")
        self._next: tuple[tuple[int, int], Future[tuple[torch.Tensor, str]]] | None = None

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Split = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of one micro-batch, and start to prepare the next training batch."""
        if split == "val":
            return super().sample_batch(iter_num, micro_step, split)
        prepared, future = self._next or ((-1, -1), None)
        result = None if future is None else future.result()
        wanted = self.order.position(iter_num), micro_step
        # This is the first batch, or one that is sampled again, or the order has changed.
        if result is None or prepared != wanted:
            result = self._prepare(*wanted, self._buffers[0])
        window, digest = result
        self._last_rows = iter_num, micro_step, digest
        self._buffers.reverse()
        next_iter, next_micro = divmod(iter_num * self.micro_steps + micro_step + 1, self.micro_steps)
        following = self.order.position(next_iter), next_micro
        self._next = following, self._executor.submit(self._prepare, *following, self._buffers[0])
        return self.to_device(window)

    def _prepare(self, position: int, micro_step: int, out: torch.Tensor) -> tuple[torch.Tensor, str]:
        window = self.sample_window(position, micro_step, out=out)
        return window, digest_window(window)


def digest_window(window: torch.Tensor) -> str:
    """Return the digest of the tokens of a micro-batch on the host, as the record stores it."""
    # Cast by torch, which takes half the time of numpy for the few tokens of a batch.
    return digest_rows(window.to(torch.int32).numpy().astype(_RECORDED_TYPE, copy=False).tobytes())


def load_corpus(path: str | Path | None, vocab_size: int = 0, progress: Progress | None = None) -> Corpus:
    """Load a text file, a folder of text, or a folder with train.bin and val.bin.

    Args:
        path: None loads the sources of Python's standard library, which exist on every machine.
        vocab_size: Vocabulary of .bin files. 0 uses their metadata, or GPT-2's vocabulary.
        progress: Called with (bytes done, total bytes) while a large file is read.

    Raises:
        DataError: If the path contains no usable data.

    """
    if path is None:
        return _load_standard_library()
    source = Path(path)
    if not source.exists():
        raise DataError(
            f"no data at {str(path)!r}; pass with --data a text file, a folder of text, or one with train.bin"
        )
    try:
        if (source / "train.bin").is_file():
            return _load_token_files(source, vocab_size, progress)
        if source.suffix == ".bin":
            raise DataError(f"{source}: not a folder; name the folder that contains train.bin and val.bin")
        if source.is_dir():
            files = [(str(file.relative_to(source)), file) for file in sorted(source.rglob("*"))]
            return _load_texts(source.name, files)
        return _load_texts(source.name, [(source.name, source)])
    except OSError as error:
        raise DataError(f"{error.filename or source}: {error.strerror}") from None


def _load_standard_library() -> Corpus:
    """Load all .py files of the standard library, without tests and installed packages, sorted, as bytes."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [(path.relative_to(root), path) for path in sorted(root.rglob("*.py"))]
    files = [(str(name), path) for name, path in paths if _SKIPPED_FOLDERS.isdisjoint(name.parts)]
    return _load_texts("python-standard-library", files)


def _load_texts(name: str, files: list[tuple[str, Path]]) -> Corpus:
    """Use every tenth file for validation. With fewer than ten files, use the last tenth of the text."""
    texts = [(label, path.read_bytes()) for label, path in files if path.is_file()]
    binary = [(label, data) for label, data in texts if b"\0" in data[:8192]]
    for label, data in binary:
        if data.startswith(_UTF16_MARKS):
            raise DataError(f"{name}: {label} is UTF-16 text; convert it to UTF-8")
    texts = [(label, data) for label, data in texts if data and b"\0" not in data[:8192]]
    if not texts:
        raise DataError(f"{name}: no text in it; empty files and files with zero bytes are ignored")
    digest = hashlib.sha256()
    for _, data in texts:
        digest.update(data)
    if len(texts) >= MIN_FILES_FOR_FILE_SPLIT:
        train = b"".join(data for i, (_, data) in enumerate(texts) if i % 10 != 9)
        val = b"".join(data for i, (_, data) in enumerate(texts) if i % 10 == 9)
    else:
        joined = b"".join(data for _, data in texts)
        cut = len(joined) * 9 // 10
        train, val = joined[:cut], joined[cut:]
    sha256 = finish_text_digest(digest, [len(data) for _, data in texts])
    arrays = np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8)
    metadata = _make_metadata(name, "bytes", sha256, arrays, BYTES_VOCAB, len(texts))
    return Corpus(*arrays, BYTES_VOCAB, metadata)


def _load_token_files(folder: Path, vocab_size: int, progress: Progress | None) -> Corpus:
    known = vocab_size or read_vocab_size(folder)
    vocab_size = known or GPT2_VOCAB
    files = map_token_files(folder, vocab_size, is_known=known > 0, progress=progress)
    splits = (files.train, files.val)
    kind = f"uint{8 * files.width} tokens"
    metadata = _make_metadata(folder.name, kind, files.sha256, splits, vocab_size, 2)
    return Corpus(*splits, vocab_size, {**metadata, **read_tokenizer_info(folder)})


def _make_metadata(
    name: str, kind: str, digest: str, splits: tuple[Tokens, Tokens], vocab_size: int, files: int
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "sha256": digest,
        "files": files,
        "train_tokens": len(splits[0]),
        "val_tokens": len(splits[1]),
        "vocab_size": vocab_size,
    }
