"""Verified logs: the signed lines of each log, after signature and root were checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ockham.catalog.file_index import TailFile
from ockham.catalog.signed_sizes import SignedSizes
from ockham.catalog.tails import LogSize, SegmentTail, append_lines
from ockham.errors import UnverifiableError
from ockham.event import event_type
from ockham.record.evidence import signed_heads
from ockham.record.parquet.file_check import LogKey, read_stamp
from ockham.record.parquet.tables import SCHEMAS, tables_from_lines
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY


class VerifiedLogs:
    """Reads the signed lines of logs. A log is read again only after one of its files has changed.

    Args:
        signed: Keys of the runs.

    """

    def __init__(self, signed: SignedSizes) -> None:
        self._signed = signed
        self._logs: dict[LogKey, tuple[object, SegmentTail, LogSize]] = {}

    def read(self, folder: RunFolder, attempt: int, rank: int) -> tuple[TailFile, SegmentTail, LogSize]:
        """Return the signed lines of a log as one tail, and the size of the log.

        Raises:
            UnverifiableError: If the lines differ from a signed tree head, or no tree head exists.

        """
        key = (folder.run_id, attempt, rank)
        path = folder.log_dir(attempt, rank)
        segments = folder.segments(attempt, rank)
        files = (*segments, path / CHECKPOINT, path / HISTORY)
        state = (self._signed.keys(folder), [(file, read_stamp(file)) for file in files])
        source = TailFile(key, path, 0, None)
        known = self._logs.get(key)
        if known is None or known[0] != state:
            known = (state, *self._read(folder, source, segments))
            self._logs[key] = known
        return source, known[1], known[2]

    def _read(self, folder: RunFolder, source: TailFile, segments: list[Path]) -> tuple[SegmentTail, LogSize]:
        run_id, attempt, rank = source.log
        name = f"run {run_id}: log {attempt}-{rank}"
        keys = self._signed.keys(folder)
        if not keys:
            raise UnverifiableError(
                f"{name} cannot be verified: run.json names no verifier key; pass --key KEY"
            )
        # Heads before lines: a log that is being written then has at least the signed lines.
        heads = signed_heads(folder, attempt, rank, keys)
        lines = [line for segment in segments for line in read_complete_lines(segment)[0]]
        size = max(heads, default=0)
        if lines and not heads:
            raise UnverifiableError(
                f"{name} has {len(lines)} events and no tree head of the trusted keys; "
                f"run `ockham verify {run_id}`"
            )
        if size > len(lines):
            raise UnverifiableError(
                f"{name} is tampered with: {size} events were signed, and {len(lines)} exist; "
                f"run `ockham verify {run_id}`"
            )
        tree = CompactRange()
        for line in lines[:size]:
            tree.append(leaf_hash(line))
            if tree.size in heads and heads[tree.size] != tree.root():
                raise UnverifiableError(
                    f"{name} is tampered with: the first {tree.size} events differ from the signed ones; "
                    f"run `ockham verify {run_id}`"
                )
        return _build_tail(source, name, lines[:size]), LogSize(len(lines), size)


def _build_tail(source: TailFile, name: str, lines: list[bytes]) -> SegmentTail:
    """Return the rows of signed lines.

    Raises:
        UnverifiableError: If a line is not an event of this log.

    """
    if not lines:
        return SegmentTail(0, {kind: schema.empty_table() for kind, schema in SCHEMAS.items()}, 0, 0, b"")
    try:
        tail = append_lines(source, None, lines, tables_from_lines(lines))
    except ValueError as error:
        raise UnverifiableError(f"{name}: a signed line is not an event of Ockham ({error})") from None
    if tail.consistent < tail.lines:
        raise UnverifiableError(
            f"{name}: signed event {tail.consistent} names another log or sequence number"
        )
    return tail


def loaded_policies(tails: Iterable[SegmentTail]) -> set[tuple[str, str]]:
    """Return run ID and revision of every policy that the lines name."""
    loaded = set()
    for tail in tails:
        table = tail.tables["events"]
        rows = table.filter(pc.equal(table.column("type"), pa.scalar(event_type("policy.loaded"))))
        for run_id, data in zip(*(rows.column(name).to_pylist() for name in ("run_id", "data")), strict=True):
            loaded.add((run_id, str(orjson.loads(data).get("policy_revision"))))
    return loaded


def keep_signed_tables(
    tables: dict[str, pa.Table], folders: Iterable[RunFolder], loaded: set[tuple[str, str]]
) -> None:
    """Remove from the run tables everything that no signed event names.

    run.json is not signed, so only the run ID and the verifier key remain. A policy remains if a signed event
    names its digest and its bytes have this digest.
    """
    intact = {
        (folder.run_id, revision)
        for folder in folders
        for run_id, revision in loaded
        if run_id == folder.run_id and _has_digest(folder, revision)
    }
    runs = tables["raw_runs"]
    kept = ("run_id", "verifier_key")
    columns = [
        runs.column(field.name) if field.name in kept else pa.nulls(runs.num_rows, field.type)
        for field in runs.schema
    ]
    tables["raw_runs"] = pa.table(columns, schema=runs.schema)
    for name in ("raw_policies", "plugin_uses", "plugin_clashes"):
        rows = [row for row in tables[name].to_pylist() if (row["run_id"], row["policy_revision"]) in intact]
        tables[name] = pa.Table.from_pylist(rows, schema=tables[name].schema)


def _has_digest(folder: RunFolder, revision: str) -> bool:
    try:
        data = folder.policy(revision).read_bytes()
    except (OSError, ValueError):
        return False
    return f"sha256:{hashlib.sha256(data).hexdigest()}" == revision
