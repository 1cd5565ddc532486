"""Tails: lines of segments that have no Parquet files, as Arrow tables with the column `signed`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from ockham.catalog.file_index import FileListing, TailFile
from ockham.errors import UnverifiableError
from ockham.event import event_kind
from ockham.record.parquet.file_check import LogKey, leading_rows
from ockham.record.parquet.tables import SCHEMAS, tables_from_readable_lines
from ockham.record.run_folder import open_regular_file

# Larger than every sequence number: all lines of a log are evidence.
ALL_LINES = 1 << 62
TAIL_SCHEMAS: Mapping[str, pa.Schema] = {
    kind: schema.append(pa.field("signed", pa.bool_())) for kind, schema in SCHEMAS.items()
}
_KINDS_OF_TABLES = {"contexts": "context.recorded", "decisions": "decision.made"}


class SegmentTail(NamedTuple):
    """Lines of one segment that have been read.

    Attributes:
        size: Number of bytes.
        tables: Tables of the lines, by kind.
        lines: Number of complete lines, also of lines that are not events.
        consistent: Number of leading lines with the identity and the sequence numbers of this segment.
        last_line: Bytes of the last line. If they have changed, the segment is read again from its start.
        unreadable: Position of the first line that is not an event, and the error. The tables do not contain
            these lines. None if all lines are events.

    """

    size: int
    tables: Mapping[str, pa.Table]
    lines: int
    consistent: int
    last_line: bytes
    unreadable: tuple[int, str] | None = None


_EMPTY = SegmentTail(0, {kind: schema.empty_table() for kind, schema in SCHEMAS.items()}, 0, 0, b"")


class LogSize(NamedTuple):
    """Number of complete lines of a log, and how many of them are signed."""

    lines: int
    signed: int


def read_tail(segment: TailFile, before: SegmentTail | None) -> SegmentTail:
    """Return the tables of the complete lines of a segment. Reads only bytes after *before*.

    A resume can cut unsigned lines off and append others. The segment is then read from its start. Lines that
    are not events are left out, see `require_readable`.
    """
    known = before or _EMPTY
    start = known.size - len(known.last_line)
    with open_regular_file(segment.path) as file:
        file.seek(start)
        data = file.read()
        if not data.startswith(known.last_line):
            known = _EMPTY
            file.seek(0)
            data = file.read()
    data = data[len(known.last_line) :]
    end = data.rfind(b"\n") + 1
    if end == 0:
        return known
    lines = data[:end].split(b"\n")[:-1]
    tables, dropped, error = tables_from_readable_lines(lines)
    return append_lines(segment, known, lines, tables, (dropped[0], error) if dropped else None)


def require_readable(tails: Mapping[TailFile, SegmentTail], signed: Mapping[LogKey, int]) -> None:
    """Check that every line below the size of the newest tree head is an event.

    A line after it was never acknowledged, so it cannot make a query fail.

    Raises:
        UnverifiableError: If one is not an event. The message contains the location.

    """
    for segment, tail in tails.items():
        if tail.unreadable is None:
            continue
        position, error = tail.unreadable
        if segment.first + position < signed.get(segment.log, 0):
            raise UnverifiableError(
                f"{segment.path}: line {position + 1} is not an event of Ockham ({error}); "
                "run `ockham verify`"
            )


def append_lines(
    segment: TailFile,
    before: SegmentTail | None,
    lines: Sequence[bytes],
    tables: Mapping[str, pa.Table],
    unreadable: tuple[int, str] | None = None,
) -> SegmentTail:
    """Return *before* with further lines and their tables.

    Args:
        segment: The segment.
        before: Its lines that are known. None if none is.
        lines: Further lines.
        tables: Tables of these lines.
        unreadable: Position in `lines` of the first one that is not an event, and the error.

    """
    known = before or _EMPTY
    consistent = known.consistent
    if consistent == known.lines:
        events = tables["events"].slice(0, len(lines) if unreadable is None else unreadable[0])
        consistent += leading_rows(events, segment.log, segment.first + known.lines)
    if unreadable is not None:
        unreadable = (known.lines + unreadable[0], unreadable[1])
    if consistent < known.lines + len(lines):
        # Otherwise the rows would be listed under the log that the line names.
        tables = {kind: _set_identity(table, segment.log) for kind, table in tables.items()}
    if known.lines:
        tables = {kind: pa.concat_tables([known.tables[kind], table]) for kind, table in tables.items()}
    size = known.size + sum(len(line) + 1 for line in lines)
    last_line = lines[-1] + b"\n"
    return SegmentTail(
        size, tables, known.lines + len(lines), consistent, last_line, known.unreadable or unreadable
    )


def measure_logs(
    listing: FileListing, tails: Mapping[TailFile, SegmentTail], signed: Mapping[LogKey, int]
) -> dict[LogKey, LogSize]:
    """Return the size of each log.

    A line counts as signed only if its position in the log is below the size of the newest tree head. If a
    segment does not end where the next one begins, the positions after that are unknown and not signed.

    Args:
        listing: Files of the logs.
        tails: Lines of the segments without Parquet files.
        signed: Size of the newest tree head of each log.

    """
    lines = dict.fromkeys(listing.logs, 0)
    limits = {log: signed.get(log, 0) for log in listing.logs}
    first = dict.fromkeys(listing.logs, ALL_LINES)
    for file in listing.parquet["events"]:
        lines[file.log] += file.end - file.first
        first[file.log] = min(first[file.log], file.first)
    for segment, tail in tails.items():
        lines[segment.log] += tail.lines
        first[segment.log] = min(first[segment.log], segment.first)
        end = segment.first + tail.lines
        if tail.consistent < tail.lines:
            limits[segment.log] = min(limits[segment.log], segment.first + tail.consistent)
        if segment.following not in (None, end):
            limits[segment.log] = min(limits[segment.log], end, segment.following or 0)
    return {
        log: LogSize(count, min(count, limits[log] if first[log] == 0 else 0)) for log, count in lines.items()
    }


def join_tails(tails: Mapping[TailFile, SegmentTail], sizes: Mapping[LogKey, LogSize]) -> dict[str, pa.Table]:
    """Return the tables of all tails with the column `signed`, by kind."""
    parts: dict[str, list[pa.Table]] = {kind: [schema.empty_table()] for kind, schema in TAIL_SCHEMAS.items()}
    for segment, tail in tails.items():
        signed = min(max(sizes[segment.log].signed - segment.first, 0), tail.consistent)
        for kind, table in tail.tables.items():
            count = _count_rows(kind, tail.tables["events"].slice(0, signed))
            column = pa.array([True] * count + [False] * (table.num_rows - count), pa.bool_())
            parts[kind].append(table.append_column("signed", column))
    return {kind: pa.concat_tables(tables) for kind, tables in parts.items()}


def unsigned_events(sizes: Mapping[LogKey, LogSize], run_ids: Iterable[str]) -> dict[str, int]:
    """Return the number of events of each run that no tree head covers."""
    counts = dict.fromkeys(run_ids, 0)
    for (run_id, _, _), size in sizes.items():
        counts[run_id] = counts.get(run_id, 0) + size.lines - size.signed
    return counts


def _count_rows(kind: str, events: pa.Table) -> int:
    """Return how many rows of a kind the given events have."""
    if kind == "events":
        return events.num_rows
    types = events.column("type").to_pylist()
    return sum(event_kind(str(name)) == _KINDS_OF_TABLES[kind] for name in types)


def _set_identity(table: pa.Table, log: LogKey) -> pa.Table:
    for name, value in zip(("run_id", "attempt", "rank"), log, strict=True):
        index = table.schema.get_field_index(name)
        column = pa.array([value] * table.num_rows, table.schema.field(name).type)
        table = table.set_column(index, table.schema.field(name), column)
    return table
