"""Token files from text: train.bin and val.bin as in nanoGPT, with the tokenizer next to them.

The folder is written atomically. Every tenth file is for validation, or the last tenth of the tokens if there
are fewer than ten files. Files are read in pieces. They are cut only where GPT-2's pattern always cuts, so
that the pieces change no token.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ockham.errors import DataError
from ockham.nano.tokenizer import META, RANKS, Tokenizer, tokenizer_info
from ockham.record.durable_io import atomic_path, fsync_dir

if TYPE_CHECKING:
    from tiktoken import Encoding

# Called with (bytes done, total bytes).
Progress = Callable[[int, int], None]
PIECE_CHARACTERS = 1 << 20
# Pieces that are encoded at the same time, on all cores.
PIECES_PER_CHUNK = 8
# With fewer files, the last tenth of the tokens is for validation.
MIN_FILES_FOR_FILE_SPLIT = 10


class TextSource(NamedTuple):
    """Text files as (path below the folder, file), total bytes, digest, and names of skipped files."""

    files: list[tuple[str, Path]]
    size: int
    sha256: str
    skipped: list[str]


def require_text(path: Path) -> None:
    """Check that a path exists.

    Raises:
        DataError: If it is neither a file nor a folder.

    """
    if not path.exists():
        raise DataError(f"no text at {str(path)!r}; use a file or a folder of text")


def require_empty_target(target: Path) -> None:
    """Check that the target folder is new or empty.

    Raises:
        DataError: If it contains files, or is a file.

    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists and is not empty; name a new folder with -o")


def find_text(path: Path) -> TextSource:
    """Find all files of UTF-8 text at a path, in order of their names.

    Empty files are ignored. Files with zero bytes, and files that are not UTF-8, are listed as skipped.

    Raises:
        DataError: If there is no text.

    """
    require_text(path)
    candidates = [(path.name, path)]
    if path.is_dir():
        candidates = [(str(file.relative_to(path)), file) for file in sorted(path.rglob("*"))]
    digest = hashlib.sha256()
    files, skipped, total_bytes = [], [], 0
    for label, file in candidates:
        if not file.is_file() or (size := file.stat().st_size) == 0:
            continue
        next_digest = digest.copy()
        if _is_text(file, next_digest):
            digest = next_digest
            files.append((label, file))
            total_bytes += size
        else:
            skipped.append(label)
    if not files:
        raise DataError(f"{path}: no text in it; empty files and files that are not UTF-8 are ignored")
    sizes = [file.stat().st_size for _, file in files]
    return TextSource(files, total_bytes, finish_text_digest(digest, sizes), skipped)


def finish_text_digest(digest: Any, sizes: Sequence[int]) -> str:
    """Return the digest of text files from that of their joined content.

    The same text has the same digest under all names. Where files end matters only if files are held out.

    Args:
        digest: SHA-256 of the content of all files in order.
        sizes: Size of each file in bytes.

    """
    ends = list(sizes) if len(sizes) >= MIN_FILES_FOR_FILE_SPLIT else [sum(sizes)]
    return hashlib.sha256(f"{digest.hexdigest()} {ends}".encode()).hexdigest()


def tokenize(
    source: TextSource, target: Path, tokenizer: Tokenizer, name: str, progress: Progress
) -> dict[str, Any]:
    """Write train.bin, val.bin, meta.json and the tokenizer into a new folder.

    Return the content of meta.json.

    Raises:
        DataError: If the folder contains files, or cannot be written.

    """
    require_empty_target(target)
    try:
        with atomic_path(target) as temporary:
            temporary.mkdir(parents=True)
            counts = _write_tokens(source, temporary, tokenizer, progress)
            meta = {
                "vocab_size": tokenizer.vocab_size,
                "dtype": "uint16",
                "tokenizer": tokenizer_info(tokenizer),
                **counts,
                "source": {
                    "name": name,
                    "files": len(source.files),
                    "bytes": source.size,
                    "sha256": source.sha256,
                },
            }
            (temporary / RANKS).write_bytes(tokenizer.ranks_bytes())
            (temporary / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            for path in temporary.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            fsync_dir(temporary)
        fsync_dir(target.parent)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror})") from None
    return meta


def split_at_boundaries(text: Iterator[str]) -> Iterator[str]:
    """Yield the same text in pieces that GPT-2's pattern always separates.

    They end before a blank or newline that follows a letter or digit.
    """
    buffer = ""
    for chunk in text:
        start = len(buffer)
        buffer += chunk
        for i in range(len(buffer) - 1, max(start, 1) - 1, -1):
            if buffer[i] in " \n" and buffer[i - 1].isalnum():
                yield buffer[:i]
                buffer = buffer[i:]
                break
    if buffer:
        yield buffer


def _write_tokens(
    source: TextSource, folder: Path, tokenizer: Tokenizer, progress: Progress
) -> dict[str, int]:
    split_tokens = len(source.files) < MIN_FILES_FOR_FILE_SPLIT
    encoding = tokenizer.encoding()
    with (folder / "train.bin").open("wb+") as train, (folder / "val.bin").open("wb+") as val:
        done = 0
        for number, (_, path) in enumerate(source.files):
            out = val if not split_tokens and number % 10 == 9 else train
            for tokens, size in _encode_file(path, encoding):
                out.write(tokens)
                done += size
                progress(done, source.size)
            if tokenizer.end_of_text is not None:
                out.write(np.array([tokenizer.end_of_text], "<u2").tobytes())
        if split_tokens:
            # Move the last tenth. A token has two bytes.
            train_bytes = train.tell() // 2 * 9 // 10 * 2
            train.seek(train_bytes)
            shutil.copyfileobj(train, val)
            train.truncate(train_bytes)
        train.flush()
        val.flush()
        counts = {"train_tokens": train.seek(0, 2) // 2, "val_tokens": val.seek(0, 2) // 2}
    for split, count in counts.items():
        if count == 0:
            raise DataError(f"too little text: {split} is 0; use more text")
    return counts


def _encode_file(path: Path, encoding: Encoding) -> Iterator[tuple[bytes, int]]:
    """Yield tokens of a file as uint16, and the number of bytes of their text."""
    with path.open(encoding="utf-8", newline="") as file:
        batch: list[str] = []
        for piece in split_at_boundaries(iter(lambda: file.read(PIECE_CHARACTERS), "")):
            batch.append(piece)
            if len(batch) == PIECES_PER_CHUNK:
                yield _encode_batch(batch, encoding)
                batch = []
        if batch:
            yield _encode_batch(batch, encoding)


def _encode_batch(batch: list[str], encoding: Encoding) -> tuple[bytes, int]:
    encoded = encoding.encode_ordinary_batch(batch, num_threads=os.cpu_count() or 1)
    size = sum(len(text.encode()) for text in batch)
    return b"".join(np.array(tokens, "<u2").tobytes() for tokens in encoded), size


def _is_text(path: Path, digest: Any) -> bool:
    """Return True if a file is UTF-8 without zero bytes. Its content is added to the digest."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while data := file.read(PIECE_CHARACTERS):
                digest.update(data)
                decoder.decode(data)
                if b"\0" in data:
                    return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    return True
