"""Builder of the Parquet files of a run. They are derived: the lines are the record.

A sealed segment gets one file of each kind, written at low priority in a separate process. Fifty such files
of one day are compacted into one file of each kind, and so is the rest when the day or the log is over. Each
file has a sidecar file below `sidecars/` with its digest, its rows and its source segments; see
`ockham.record.parquet.coverage`.

    python -P -m ockham.record.parquet.builder RUNS RUN_ID     writes what is missing for all sealed segments
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ockham.record.durable_io import write_complete
from ockham.record.parquet.coverage import (
    is_compacted,
    parquet_files,
    read_coverage,
    read_sidecar,
    read_source_segments,
    segment_entry,
    sidecar_bytes,
    sidecar_path,
    source_segments,
)
from ockham.record.parquet.tables import (
    SCHEMAS,
    ParquetBuffer,
    parquet_bytes,
    row_range,
    tables_from_lines,
)
from ockham.record.run_folder import PARQUET_TABLES, SIDECARS, RunFolder, first_sequence, read_regular_file
from ockham.record.segment_reader import read_complete_lines

COMPACTED_SEGMENTS = 50  # a million events
# Names of files have 12 digits.
_MAX_SEQUENCE = 10**12
_LOCK_SECONDS = 30.0


def update_parquet(folder: RunFolder, attempt: int, rank: int, *, last: bool = False) -> int:
    """Write the missing Parquet files of a log and compact them. Return the number of segments written.

    Args:
        folder: The run.
        attempt: Attempt of the log.
        rank: Rank of the log.
        last: True if the log has no writer. Then the last segment is written too, and the rest is compacted.

    """
    lock = folder.path / SIDECARS / f".{attempt}-{rank}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(str(lock), timeout=_LOCK_SECONDS):
            done = _derive(folder, attempt, rank, last=last)
            _compact(folder, attempt, rank, last=last)
            return done
    except filelock.Timeout:
        # Another process does it; until then the lines are read.
        return 0


def _derive(folder: RunFolder, attempt: int, rank: int, *, last: bool) -> int:
    missing = set(read_coverage(folder, attempt, rank).segments)
    todo = folder.segments(attempt, rank)
    done = 0
    for segment in todo if last else todo[:-1]:
        if segment.name in missing:
            done += _derive_segment(folder, segment, attempt, rank)
    return done


def _derive_segment(folder: RunFolder, segment: Path, attempt: int, rank: int) -> bool:
    lines, size = read_complete_lines(segment)
    if not lines or size != segment.stat().st_size:
        # A torn tail: recovery decides about it, the lines are read meanwhile.
        return False
    try:
        day = str(orjson.loads(lines[0])["time"])[:10]
        tables = tables_from_lines(lines)
    except (ValueError, KeyError, TypeError):
        # A line is not an event. It is unsigned, or `verify` reports it.
        return False
    made = [segment_entry(segment.name, lines)]
    for kind, table in tables.items():
        data = parquet_bytes(table)
        _write(
            folder.parquet_path(kind, day, attempt, rank, first_sequence(segment)),
            data,
            row_range(table),
            made,
        )
    return True


def _write(path: Path, data: bytes, rows: Mapping[str, Any], segments: list[dict[str, Any]]) -> None:
    """Write a Parquet file, then its sidecar. After a power loss both can be missing: the lines are read."""
    sidecar = sidecar_path(path)
    for file, content in ((path, data), (sidecar, sidecar_bytes(data, rows, segments))):
        file.parent.mkdir(parents=True, exist_ok=True)
        # Complete bytes, so that `verify` reports no file that a power loss has damaged.
        write_complete(file, content)


def _compact(folder: RunFolder, attempt: int, rank: int, *, last: bool) -> None:
    """Join consecutive single files of one day, then remove the files that a compacted file replaces."""
    log = [segment.name for segment in folder.segments(attempt, rank)]
    sealed = set(log if last else log[:-1])
    paths = parquet_files(folder, attempt, rank)
    single = [name for name in read_coverage(folder, attempt, rank).names if not is_compacted(name)]
    days = {name: path.parent.name for name, path in paths[PARQUET_TABLES[-1]].items()}
    for batch in _batches(single, days, log):
        names = [name for name in batch if _segment_name(name) in sealed]
        more_may_come = not last and days[batch[0]] == days[single[-1]]
        if len(names) >= (COMPACTED_SEGMENTS if more_may_come else 2):
            _merge_files(
                folder,
                attempt,
                rank,
                [{kind: paths[kind][name] for kind in PARQUET_TABLES} for name in names],
            )
    _remove_superseded_files(folder, attempt, rank)


def _batches(names: list[str], days: Mapping[str, str], log: list[str]) -> Iterator[list[str]]:
    """Yield names of consecutive single files of the same day, at most as many as one file may join."""
    places = {segment: place for place, segment in enumerate(log)}

    def consecutive_key(numbered: tuple[int, str]) -> tuple[str, int]:
        number, name = numbered
        return days[name], places[_segment_name(name)] - number

    for _, group in itertools.groupby(enumerate(names), consecutive_key):
        found = [name for _, name in group]
        for start in range(0, len(found), COMPACTED_SEGMENTS):
            yield found[start : start + COMPACTED_SEGMENTS]


def _merge_files(folder: RunFolder, attempt: int, rank: int, parts: list[dict[str, Path]]) -> None:
    """Write one file of each kind from single ones. Write none if a file does not match its sidecar."""
    sidecars = [{kind: read_sidecar(path) or {} for kind, path in part.items()} for part in parts]
    segments = [_single_segment(each[PARQUET_TABLES[-1]]) for each in sidecars]
    final = sidecars[-1][PARQUET_TABLES[-1]].get("last_sequence")
    first = first_sequence(Path(_segment_name(parts[0][PARQUET_TABLES[0]].name)))
    if None in segments or type(final) is not int or not first <= final < _MAX_SEQUENCE:
        return
    made: dict[str, tuple[bytes, dict[str, Any]]] = {}
    for kind in PARQUET_TABLES:
        pairs = [(part[kind], each[kind]) for part, each in zip(parts, sidecars, strict=True)]
        merged = _merge_kind(kind, pairs)
        if merged is None:
            # `verify` reports it, `repair` writes it again.
            return
        made[kind] = merged
    day = parts[0][PARQUET_TABLES[0]].parent.name.removeprefix("day=")
    entries = [segment for segment in segments if segment is not None]
    for kind, (data, rows) in made.items():
        _write(folder.parquet_path(kind, day, attempt, rank, first, final), data, rows, entries)


def _single_segment(sidecar: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the entry of the only segment in a sidecar, or None if the untrusted sidecar is not valid."""
    if len(source_segments(sidecar) or ()) != 1:
        return None
    entry: dict[str, Any] = sidecar["segments"][0]
    return entry if set(entry) == {"name", "bytes", "sha256"} and type(entry["sha256"]) is str else None


def _merge_kind(
    kind: str, parts: Sequence[tuple[Path, Mapping[str, Any]]]
) -> tuple[bytes, dict[str, Any]] | None:
    """Return one Parquet file and its row range, or None if a file does not match its sidecar."""
    writer = ParquetBuffer(SCHEMAS[kind])
    try:
        for path, sidecar in parts:
            data = read_regular_file(path)
            if hashlib.sha256(data).hexdigest() != sidecar.get("sha256"):
                return None
            writer.add(pq.read_table(pa.BufferReader(data)))
    except (OSError, ValueError, pa.ArrowException):
        return None
    return writer.close()


def _remove_superseded_files(folder: RunFolder, attempt: int, rank: int) -> None:
    """Remove single files that a compacted one replaces, and temporary files of a crash."""
    paths = parquet_files(folder, attempt, rank)
    covered_segments: set[str] = set()
    for name in read_coverage(folder, attempt, rank).names:
        if is_compacted(name):
            covered_segments |= {
                segment for segment, _ in read_source_segments(paths[PARQUET_TABLES[-1]][name]) or ()
            }
    for kind in PARQUET_TABLES:
        for name, path in paths[kind].items():
            if not is_compacted(name) and _segment_name(name) in covered_segments:
                path.unlink(missing_ok=True)
                sidecar_path(path).unlink(missing_ok=True)
        for left in (folder.path / kind).glob(f"day=*/.{attempt}-{rank}-*.tmp"):
            left.unlink(missing_ok=True)


def remove_parquet(folder: RunFolder, attempt: int, rank: int) -> None:
    """Remove the Parquet files of a log. The lines are read until they are written again."""
    for files in parquet_files(folder, attempt, rank).values():
        for path in files.values():
            # The file first: a sidecar without a file covers nothing.
            path.unlink(missing_ok=True)
            sidecar_path(path).unlink(missing_ok=True)


def _segment_name(name: str) -> str:
    """Return the segment from which a single file was made."""
    return name.removesuffix(".parquet").rsplit("-", 1)[1] + ".jsonl"


def main(arguments: list[str]) -> int:
    """Write what is missing for all logs of a run, at low priority. Return the exit status."""
    os.nice(10)
    pa.set_cpu_count(1)
    folder = RunFolder(arguments[0], arguments[1])
    for attempt, rank in folder.logs():
        update_parquet(folder, attempt, rank)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
