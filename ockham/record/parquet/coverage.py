"""Which Parquet files stand for which segments of a log, and what stands beside each of them.

A file stands for its segments only where they still have the sizes that it was made from; the lines of all others are read.
A compacted file goes before the single ones that it was made from, and counts once all three kinds are there, the `.json`
of the last kind last: whenever a crash comes, each event is read exactly once. A file with the columns of another version of
Ockham stands for nothing either: `ockham repair` makes it anew, and so does the next attempt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.record.parquet.tables import SCHEMAS
from ockham.record.run_folder import PARQUET_TABLES, RunFolder, read_regular_file

_NAME = re.compile(r"([0-9]+-[0-9]+)-([0-9]{12})(-[0-9]{12})?\.parquet")
# Of all kinds together: what stands beside one speaks for the others.
COLUMNS = hashlib.sha256("\n".join(str(schema) for schema in SCHEMAS.values()).encode()).hexdigest()[:16]
SourceSegments = tuple[tuple[str, int], ...]  # names and sizes of the segments that a file was made from


class Coverage(NamedTuple):
    """What a reader of one log reads: names of Parquet files, in order, and segments whose lines it must read."""

    names: list[str]
    segments: list[str]


def select_coverage(
    names: Iterable[str], log: Mapping[str, int], made_from: Callable[[str], SourceSegments | None]
) -> Coverage:
    """Which files stand for which segments: a compacted one before the single ones.

    Args:
        names: of files of this log that are there in every kind.
        log: its segments with their sizes, in order.
        made_from: what stands beside the file of the last kind.

    """
    left, chosen = dict(log), []
    for name in sorted(names, key=lambda n: (not is_compacted(n), n)):
        made = made_from(name)
        if made and all(left.get(segment) == size for segment, size in made):
            chosen.append(name)
            for segment, _ in made:
                del left[segment]
    return Coverage(sorted(chosen), list(left))


def is_compacted(name: str) -> bool:
    """Whether a file's name says that it may stand for more than one segment."""
    return name.count("-") == 3


def log_of_file(name: str) -> str:
    """`attempt-rank` of a Parquet file's name, '' where it is none of ours."""
    found = _NAME.fullmatch(name)
    return found[1] if found else ""


def read_sidecar(parquet: Path) -> dict[str, Any] | None:
    """What stands beside a Parquet file, None where it is missing or unreadable."""
    try:
        sidecar = orjson.loads(read_regular_file(parquet.with_suffix(".json")))
    except (OSError, orjson.JSONDecodeError):
        return None
    return sidecar if isinstance(sidecar, dict) else None


def source_segments(sidecar: Mapping[str, Any] | None) -> SourceSegments | None:
    """The segments that a file was made from; None where that is not said, or it has columns of another version."""
    if (sidecar or {}).get("columns") != COLUMNS:
        return None
    try:
        return tuple((str(s["name"]), int(s["bytes"])) for s in (sidecar or {})["segments"])
    except (KeyError, TypeError, ValueError):
        return None


def sidecar_bytes(parquet: bytes, rows: Mapping[str, Any], segments: list[dict[str, Any]]) -> bytes:
    """What is written beside a Parquet file.

    Args:
        parquet: the file.
        rows: its `rows`, `first_sequence` and `last_sequence`.
        segments: `name`, `bytes` and `sha256` of each that it was made from.

    """
    sidecar = {
        "sha256": hashlib.sha256(parquet).hexdigest(),
        "columns": COLUMNS,
        **rows,
        "segments": segments,
    }
    return orjson.dumps(sidecar, option=orjson.OPT_INDENT_2)


def segment_entry(name: str, lines: list[bytes]) -> dict[str, Any]:
    """How a segment with these lines is named beside what is made from it."""
    whole = b"".join(line + b"\n" for line in lines)
    return {"name": name, "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}


def read_coverage(folder: RunFolder, attempt: int, rank: int) -> Coverage:
    """What a reader of this log reads, asked of every file anew."""
    paths = parquet_files(folder, attempt, rank)
    whole = set.intersection(*(set(paths[kind]) for kind in PARQUET_TABLES))
    log = {segment.name: segment.stat().st_size for segment in folder.segments(attempt, rank)}
    return select_coverage(
        whole, log, lambda name: source_segments(read_sidecar(paths[PARQUET_TABLES[-1]][name]))
    )


def parquet_files(folder: RunFolder, attempt: int, rank: int) -> dict[str, dict[str, Path]]:
    """By kind and name, the Parquet files of a log."""
    return {
        kind: {
            path.name: path
            for path in (folder.path / kind).glob(f"day=*/{attempt}-{rank}-*.parquet")
            if path.is_file()  # to open a pipe would be to wait for ever
        }
        for kind in PARQUET_TABLES
    }
