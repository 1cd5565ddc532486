"""Token files from text: train.bin and val.bin as nanoGPT has them, with the tokenizer beside them.

The folder appears whole or not at all. Every tenth file is for validation; of fewer than ten files the last tenth of
their tokens is. Files are read in pieces and cut where GPT-2's pattern cuts in any case, so that a piece changes no token.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ockham.errors import DataError
from ockham.nano.tokenizer import META, RANKS, Tokenizer, tokenizer_info
from ockham.record.run_folder import fsync_dir

if TYPE_CHECKING:
    from tiktoken import Encoding

Progress = Callable[[int, int], None]  # told (bytes done, bytes in all)
PIECE = 1 << 20
PIECES_PER_CHUNK = 8  # pieces that are encoded at once, on all cores
FEW_FILES = 10


class TextSource(NamedTuple):
    """Text that was found: (path below the folder, file), their bytes in all, digest, and the names that are no text."""

    files: list[tuple[str, Path]]
    size: int
    sha256: str
    skipped: list[str]


def require_text(path: Path) -> None:
    """Refuse a path where nothing is.

    Raises:
        DataError: if there is neither a file nor a folder.

    """
    if not path.exists():
        raise DataError(f"no text at {str(path)!r}: give a file or a folder of text")


def require_empty_target(target: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        DataError: if it does, or is a file.

    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is there already and not empty; give --to a new folder")


def find_text(path: Path) -> TextSource:
    """All files of UTF-8 text at a path, in order of their names.

    Empty files are passed over; files with zero bytes, and those that are no UTF-8, are named.

    Raises:
        DataError: if there is none.

    """
    require_text(path)
    found = (
        [(str(p.relative_to(path)), p) for p in sorted(path.rglob("*"))]
        if path.is_dir()
        else [(path.name, path)]
    )
    digest = hashlib.sha256()
    kept, passed_over, whole = [], [], 0
    for label, file in found:
        if not file.is_file() or (size := file.stat().st_size) == 0:
            continue
        here = digest.copy()
        here.update(f"{label}\0{size}\0".encode("utf-8", "surrogateescape"))
        if _is_text(file, here):
            digest = here
            kept.append((label, file))
            whole += size
        else:
            passed_over.append(label)
    if not kept:
        raise DataError(f"{path}: no text in it (empty files and files that are no UTF-8 are passed over)")
    return TextSource(kept, whole, digest.hexdigest(), passed_over)


def tokenize(
    source: TextSource, target: Path, tokenizer: Tokenizer, name: str, progress: Progress
) -> dict[str, Any]:
    """Write train.bin, val.bin, meta.json and the tokenizer into a new folder; returns what meta.json says.

    Raises:
        DataError: if the folder holds something already, or can't be written.

    """
    require_empty_target(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        counts = _write_tokens(source, temporary, tokenizer, progress)
        told = {
            "vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer_info(tokenizer), **counts,
            "source": {"name": name, "files": len(source.files), "bytes": source.size, "sha256": source.sha256},
        }  # fmt: skip
        (temporary / RANKS).write_bytes(tokenizer.ranks_bytes())
        (temporary / META).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        for written in temporary.iterdir():
            with written.open("rb") as file:
                os.fsync(file.fileno())
        fsync_dir(temporary)
        temporary.rename(target)
        fsync_dir(target.parent)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return told


def split_at_boundaries(text: Iterator[str]) -> Iterator[str]:
    """The same text in pieces that GPT-2's pattern would cut in any case: before a blank or newline after a letter or digit."""
    held = ""
    for chunk in text:
        start = len(held)
        held += chunk
        for at in range(len(held) - 1, max(start, 1) - 1, -1):
            if held[at] in " \n" and held[at - 1].isalnum():
                yield held[:at]
                held = held[at:]
                break
    if held:
        yield held


def _write_tokens(
    source: TextSource, folder: Path, tokenizer: Tokenizer, progress: Progress
) -> dict[str, int]:
    few = len(source.files) < FEW_FILES
    encoding = tokenizer.encoding()
    with (folder / "train.bin").open("wb+") as train, (folder / "val.bin").open("wb+") as val:
        done = 0
        for at, (_, path) in enumerate(source.files):
            out = val if not few and at % 10 == 9 else train
            for tokens, size in _encoded(path, encoding):
                out.write(tokens)
                done += size
                progress(done, source.size)
            if tokenizer.end_of_text is not None:
                out.write(np.array([tokenizer.end_of_text], "<u2").tobytes())
        if few:  # the last tenth moves over
            whole = train.tell() // 2
            train.seek(whole * 9 // 10 * 2)
            shutil.copyfileobj(train, val)
            train.truncate(whole * 9 // 10 * 2)
        train.flush()
        val.flush()
        counts = {"train_tokens": train.seek(0, 2) // 2, "val_tokens": val.seek(0, 2) // 2}
    for split, count in counts.items():
        if count == 0:
            raise DataError(f"too little text: {split} is 0")
    return counts


def _encoded(path: Path, encoding: Encoding) -> Iterator[tuple[bytes, int]]:
    """Tokens of a file as uint16, and the bytes of text that they stand for."""
    with path.open(encoding="utf-8", newline="") as file:
        batch: list[str] = []
        for piece in split_at_boundaries(iter(lambda: file.read(PIECE), "")):
            batch.append(piece)
            if len(batch) == PIECES_PER_CHUNK:
                yield _at_once(batch, encoding)
                batch = []
        if batch:
            yield _at_once(batch, encoding)


def _at_once(batch: list[str], encoding: Encoding) -> tuple[bytes, int]:
    found = encoding.encode_ordinary_batch(batch, num_threads=os.cpu_count() or 1)
    return b"".join(np.array(tokens, "<u2").tobytes() for tokens in found), sum(
        len(text.encode()) for text in batch
    )


def _is_text(path: Path, digest: Any) -> bool:
    """Whether a file is UTF-8 without zero bytes; its content goes into the digest."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while data := file.read(PIECE):
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
