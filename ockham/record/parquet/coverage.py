"""Which Parquet files cover which log segments, and the sidecar file of each.

A file covers its segments only while they have the sizes that it was made from. The lines of all other
segments are read. A compacted file takes precedence over its single files. It counts once all three kinds
exist, and the sidecar of the last kind is written last: whenever a crash happens, each event is read exactly
once. A file with the columns of another version covers nothing; `ockham repair` and the next attempt write it
again.

A sidecar is untrusted. If a value has another type, a segment is named twice, or the segments do not fit the
name of the file, the file covers nothing and the lines are read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.record.parquet.tables import SCHEMAS
from ockham.record.run_folder import PARQUET_TABLES, SIDECARS, RunFolder, open_regular_file

_NAME = re.compile(r"([0-9]+-[0-9]+)-([0-9]{12})(-[0-9]{12})?\.parquet")
_SEGMENT = re.compile(r"[0-9]{12}\.jsonl")
# The sidecar of a compacted file has about 8,000 bytes.
MAX_SIDECAR_BYTES = 1 << 20
# Digest of the schemas of all kinds: the sidecar of one kind covers the others.
COLUMNS = hashlib.sha256("\n".join(str(schema) for schema in SCHEMAS.values()).encode()).hexdigest()[:16]
# Names and sizes of the segments that a file was made from.
SourceSegments = tuple[tuple[str, int], ...]


class Coverage(NamedTuple):
    """Names of Parquet files in order, and segments whose lines a reader must read."""

    names: list[str]
    segments: list[str]


def select_coverage(
    names: Iterable[str], log: Mapping[str, int], made_from: Callable[[str], SourceSegments | None]
) -> Coverage:
    """Select the files that cover segments. A compacted file takes precedence over single ones.

    Args:
        names: Files of this log that exist in every kind.
        log: Segments of the log with their sizes, in order.
        made_from: Returns the source segments of a file from its sidecar.

    """
    left, chosen = dict(log), []
    for name in sorted(names, key=lambda n: (not is_compacted(n), n)):
        made = dict(made_from(name) or ())
        if made and all(left.get(segment) == size for segment, size in made.items()):
            chosen.append(name)
            for segment in made:
                del left[segment]
    return Coverage(sorted(chosen), list(left))


def is_compacted(name: str) -> bool:
    """Return True if a file name is that of a compacted file."""
    return name.count("-") == 3


def log_of_file(name: str) -> str:
    """Return `attempt-rank` of a Parquet file name, or '' if the name is not valid."""
    found = _NAME.fullmatch(name)
    return found[1] if found else ""


def sidecar_name(parquet: str) -> str:
    """Return the path of the sidecar of a Parquet file: `sidecars/KIND/DAY/NAME.json` in the run folder."""
    run, kind, day, name = parquet.rsplit(os.sep, 3)
    return f"{run}{os.sep}{SIDECARS}{os.sep}{kind}{os.sep}{day}{os.sep}{name.removesuffix('.parquet')}.json"


def sidecar_path(parquet: Path) -> Path:
    """Return the path of the sidecar of a Parquet file; see `sidecar_name`."""
    return Path(sidecar_name(str(parquet)))


def read_sidecar(parquet: Path) -> dict[str, Any] | None:
    """Return the sidecar of a Parquet file, or None if it is missing, too large or not a JSON object."""
    try:
        with open_regular_file(sidecar_path(parquet)) as file:
            data = file.read(MAX_SIDECAR_BYTES + 1)
        sidecar = orjson.loads(data) if len(data) <= MAX_SIDECAR_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        return None
    return sidecar if isinstance(sidecar, dict) else None


def source_segments(sidecar: Mapping[str, Any] | None) -> SourceSegments | None:
    """Return the source segments of a file.

    None if the columns are of another version, or the segments are not a list of different names with sizes.
    """
    if sidecar is None or sidecar.get("columns") != COLUMNS:
        return None
    entries = sidecar.get("segments")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    pairs = [(entry.get("name"), entry.get("bytes")) for entry in entries]
    # `type` and not `isinstance`, because True is an int.
    if any(type(name) is not str or type(size) is not int or size < 0 for name, size in pairs):
        return None
    if len({name for name, _ in pairs}) < len(pairs):
        return None
    return tuple(pairs)


def read_source_segments(parquet: Path) -> SourceSegments | None:
    """Return the source segments of a file, or None if they do not fit its name; see `source_segments`.

    The first segment has the number in the file name. A file that is not compacted has one segment.
    """
    segments = source_segments(read_sidecar(parquet))
    match = _NAME.fullmatch(parquet.name)
    if not segments or match is None or not all(_SEGMENT.fullmatch(name) for name, _ in segments):
        return None
    if segments[0][0] != f"{match[2]}.jsonl" or (len(segments) > 1 and not is_compacted(parquet.name)):
        return None
    return segments


def sidecar_bytes(parquet: bytes, rows: Mapping[str, Any], segments: list[dict[str, Any]]) -> bytes:
    """Return the content of a sidecar file.

    Args:
        parquet: Bytes of the Parquet file.
        rows: Its `rows`, `first_sequence` and `last_sequence`.
        segments: `name`, `bytes` and `sha256` of each source segment.

    """
    sidecar = {
        "sha256": hashlib.sha256(parquet).hexdigest(),
        "columns": COLUMNS,
        **rows,
        "segments": segments,
    }
    return orjson.dumps(sidecar, option=orjson.OPT_INDENT_2)


def segment_entry(name: str, lines: list[bytes]) -> dict[str, Any]:
    """Return the entry of a segment with these lines in a sidecar."""
    whole = b"".join(line + b"\n" for line in lines)
    return {"name": name, "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}


def read_coverage(folder: RunFolder, attempt: int, rank: int) -> Coverage:
    """Return the coverage of a log, read from its files."""
    paths = parquet_files(folder, attempt, rank)
    whole = set.intersection(*(set(paths[kind]) for kind in PARQUET_TABLES))
    log = {segment.name: segment.stat().st_size for segment in folder.segments(attempt, rank)}
    return select_coverage(whole, log, lambda name: read_source_segments(paths[PARQUET_TABLES[-1]][name]))


def parquet_files(folder: RunFolder, attempt: int, rank: int) -> dict[str, dict[str, Path]]:
    """Return the Parquet files of a log by kind and name."""
    return {
        kind: {
            path.name: path
            for path in (folder.path / kind).glob(f"day=*/{attempt}-{rank}-*.parquet")
            # To open a pipe would be to wait for ever.
            if path.is_file()
        }
        for kind in PARQUET_TABLES
    }
