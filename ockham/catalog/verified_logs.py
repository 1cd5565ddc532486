"""Verified logs: the signed lines of each run, after signatures and roots were checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ockham.catalog.file_index import TailFile
from ockham.catalog.signed_sizes import SignedSizes
from ockham.catalog.tails import LogSize, SegmentTail, append_lines
from ockham.errors import RunError, UnverifiableError
from ockham.event import event_type
from ockham.record.evidence import Evidence, read_evidence
from ockham.record.parquet.file_check import read_stamp
from ockham.record.parquet.tables import SCHEMAS, tables_from_lines
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, TreeHead


class VerifiedLogs:
    """Reads the signed lines of runs. A run is read again only after one of its log files has changed.

    Args:
        signed: Keys of the runs.

    """

    def __init__(self, signed: SignedSizes) -> None:
        self._signed = signed
        self._runs: dict[str, tuple[object, dict[TailFile, SignedTail]]] = {}

    def read(self, folder: RunFolder) -> dict[TailFile, tuple[SegmentTail, LogSize]]:
        """Return the signed lines of each log of a run as one tail, and the size of the log.

        Raises:
            UnverifiableError: If the lines differ from a signed tree head, no tree head exists, or a later
                attempt or another rank names another root of a log.
            OSError: If a file was removed while it was read. Call it again.

        """
        keys = self._signed.keys(folder)
        state = (keys, [(path, read_stamp(path)) for path in _log_files(folder)])
        known = self._runs.get(folder.run_id)
        if known is None or known[0] != state:
            known = (state, self._read(folder, {} if known is None else known[1]))
            self._runs[folder.run_id] = known
        return {source: (tail.tail, tail.size) for source, tail in known[1].items()}

    def _read(self, folder: RunFolder, known: Mapping[TailFile, SignedTail]) -> dict[TailFile, SignedTail]:
        run = f"run {folder.run_id}"
        keys = self._signed.keys(folder)
        if not keys:
            raise UnverifiableError(
                f"{run} cannot be verified: run.json names no verifier key; pass --key KEY"
            )
        evidence = _read_evidence(folder, keys)
        for log in evidence.logs.values():
            if log.is_unsigned:
                raise UnverifiableError(
                    f"{run}: log {log.name} has {log.events} events and no tree head of the trusted keys; "
                    f"run `ockham verify {folder.run_id}`"
                )
        if evidence.problems:
            raise UnverifiableError(
                f"{run} is tampered with: {evidence.problems[0]}; run `ockham verify {folder.run_id}`"
            )
        tails = {}
        for (attempt, rank), log in evidence.logs.items():
            source = TailFile((folder.run_id, attempt, rank), folder.log_dir(attempt, rank), 0, None)
            unchanged = known.get(source)
            if unchanged is not None and unchanged.head == log.head:
                tail = unchanged.tail
            else:
                tail = _build_tail(source, f"{run}: log {log.name}", [line for _, line in log.lines])
            tails[source] = SignedTail(log.head, tail, LogSize(log.events, log.signed))
        return tails


class SignedTail(NamedTuple):
    """Signed lines of one log up to a tree head."""

    head: TreeHead
    tail: SegmentTail
    size: LogSize


def _read_evidence(folder: RunFolder, keys: Sequence[VerifierKey]) -> Evidence:
    try:
        return read_evidence(folder, keys, select=lambda _: True)
    except UnverifiableError as error:
        if isinstance(error.__cause__, OSError):
            # Only a removed file is possibly there at the next attempt.
            raise error.__cause__ from None
        raise


def _log_files(folder: RunFolder) -> Iterator[Path]:
    """Yield the files that prove the lines of a run."""
    for attempt, rank in folder.logs():
        path = folder.log_dir(attempt, rank)
        yield from (*folder.segments(attempt, rank), path / CHECKPOINT, path / HISTORY)


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
        folder.read_policy(revision)
    except RunError:
        return False
    return True
