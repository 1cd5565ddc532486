"""Token files of nanoGPT: train.bin and val.bin with little-endian integers and no header.

The files do not contain the width of their integers. It is that of `dtype` in the metadata, or the one that
the content shows: in a file of wider integers, the upper half of each one is almost zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ockham.errors import DataError
from ockham.nano.data_meta import read_token_width

Progress = Callable[[int, int], None]
Tokens = npt.NDArray[np.unsignedinteger[Any]]
MAX_UINT16_VOCAB = 1 << 16
_WIDTHS = (2, 4, 8)
_CHUNK_BYTES = 1 << 25
_HEAD_BYTES = 4096
# A shorter file shows no width.
_MIN_TOKENS_FOR_WIDTH = 64
# Upper halves of 32-bit tokens are below the first number (up to a million tokens), and lower halves are not.
_UPPER_HALF_LIMIT = 16
_MIN_HIGHEST_LOWER_HALF = 4096
_FORMATS = {
    b"\x93NUMPY": "a NumPy .npy file; write the tokens with tofile",
    b"PK\x03\x04": "a zip archive, such as torch.save and numpy.savez write; write the tokens with tofile",
    b"PAR1": "a Parquet file; write the tokens with tofile",
    b"\x1f\x8b\x08\x00": "compressed with gzip; decompress it",
    b"\x1f\x8b\x08\x08": "compressed with gzip; decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it",
    b"\x88\xd8\x34\x01": "a file with the header of llm.c; remove its first 1024 bytes",
    b"\xa1\xd9\x34\x01": "a file with the header of llm.c; remove its first 1024 bytes",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file with `git lfs pull`",
}


class _Scan(NamedTuple):
    """A file, and its highest token for each width that divides its size."""

    path: Path
    size: int
    highest: dict[int, int]


class _Done:
    """Counts the bytes that were read."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def add(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


class TokenFiles(NamedTuple):
    """Mapped tokens of both splits, digest of the bytes of both, and bytes per token."""

    train: Tokens
    val: Tokens
    sha256: str
    width: int


def map_token_files(
    folder: Path, vocab_size: int, *, is_known: bool, progress: Progress | None = None
) -> TokenFiles:
    """Map train.bin and val.bin. They are read once for digest, width and range.

    Args:
        folder: Folder with both files.
        vocab_size: All tokens are below this number.
        is_known: Whether the settings or the metadata name the vocabulary.
        progress: Called with (bytes done, total bytes).

    Raises:
        DataError: If a file is missing, is of another format, or has tokens outside the vocabulary.

    """
    paths = [folder / "train.bin", folder / "val.bin"]
    if not paths[1].is_file():
        raise DataError(f"{folder}: val.bin is missing; train.bin exists")
    sizes = [path.stat().st_size for path in paths]
    # The digest does not depend on names, but on where the two splits are separated.
    digest = hashlib.sha256(f"tokens {sizes[0]} {sizes[1]}\n".encode())
    done = _Done(sum(sizes), progress)
    scans = [_scan_file(path, size, digest, done) for path, size in zip(paths, sizes, strict=True)]
    width = _choose_width(scans, read_token_width(folder), vocab_size if is_known else 0)
    for scan in scans:
        _check_range(scan, width, vocab_size)
    train, val = (np.memmap(path, dtype=f"<u{width}", mode="r") for path in paths)
    return TokenFiles(train, val, digest.hexdigest(), width)


def _scan_file(path: Path, size: int, digest: Any, done: _Done) -> _Scan:
    if size == 0 or size % 2:
        raise DataError(
            f"{path}: {size} bytes; a token file has two or four bytes per token, and is not empty"
        )
    data = np.memmap(path, dtype=np.uint8, mode="r")
    _reject_format(path, data[:_HEAD_BYTES].tobytes())
    highest = {width: 0 for width in _WIDTHS if size % width == 0}
    for start in range(0, size, _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES]
        digest.update(chunk)
        highest = {width: max(old, int(chunk.view(f"<u{width}").max())) for width, old in highest.items()}
        done.add(len(chunk))
    return _Scan(path, size, highest)


def _reject_format(path: Path, head: bytes) -> None:
    """Raise if the file begins like one of another format, or is text."""
    for magic, name in _FORMATS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: not a token file but {name}")
    if len(head) >= 2 * _MIN_TOKENS_FOR_WIDTH:
        text = head.decode("utf-8", "ignore")
        is_complete = len(text.encode()) >= len(head) - 3
        if is_complete and all(character.isprintable() or character in "\t\n\r\f" for character in text):
            raise DataError(f"{path}: contains text, not tokens; pass the text file itself with another name")


def _choose_width(scans: list[_Scan], declared: int, known_vocab: int) -> int:
    """Return the bytes per token of both files: declared, shown by the content, or by the vocabulary."""
    for scan in scans:
        if declared and declared not in scan.highest:
            raise DataError(
                f"{scan.path}: {scan.size} bytes; tokens of {8 * declared} bits do not fit into it"
            )
    if declared:
        return declared
    shown = {scan.path.name: width for scan in scans if (width := _shown_width(scan))}
    if len(set(shown.values())) > 1:
        listed = ", ".join(f"{name} uint{8 * width}" for name, width in shown.items())
        raise DataError(f"{scans[0].path.parent}: the files differ: {listed}; write both with one dtype")
    needs_four = known_vocab > MAX_UINT16_VOCAB
    width = next(iter(shown.values()), 4 if needs_four else 2)
    for scan in scans:
        if width not in scan.highest or (needs_four and width == 2):
            raise DataError(
                f"{scan.path}: contains uint16 tokens, and a vocabulary of {known_vocab} needs uint32; write "
                'the file with dtype uint32, or "dtype": "uint16" into meta.json if tokens are below 65536'
            )
    return width


def _shown_width(scan: _Scan) -> int:
    """Return the width that the content shows: the widest one whose upper halves are almost zero.

    0 if the file is too short or has zeros only.
    """
    highest = scan.highest
    if scan.size < 4 * _MIN_TOKENS_FOR_WIDTH or highest[2] == 0:
        return 0
    if 8 in highest and highest[8] >> 32 == 0:
        return 8
    upper = highest.get(4, highest[2] << 16) >> 16
    is_wide = upper == 0 or (upper < _UPPER_HALF_LIMIT and highest[2] >= _MIN_HIGHEST_LOWER_HALF)
    return 4 if is_wide else 2


def _check_range(scan: _Scan, width: int, vocab_size: int) -> None:
    highest = scan.highest[width]
    if highest < vocab_size:
        return
    position = int(np.memmap(scan.path, dtype=f"<u{width}", mode="r").argmax())
    raise DataError(
        f"{scan.path}: token {highest} at position {position} is outside the vocabulary of "
        f"{vocab_size}; the tokens are read as uint{8 * width}; "
        "if the vocabulary is wrong, set it with --set vocab_size=N"
    )
