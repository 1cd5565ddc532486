"""Reader of runs: one consistent view of all files from which a catalog is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ockham.catalog.file_index import FileIndex, FileListing, TailFile
from ockham.catalog.ledger_people import LedgerPeople
from ockham.catalog.run_stamps import Stamps, are_old, read_stamps
from ockham.catalog.run_tables import RunRows, load_run_tables, read_run_rows
from ockham.catalog.scan_cache import RunScan, ScanCache, group_scans, join_scans
from ockham.catalog.signed_sizes import SignedSizes
from ockham.catalog.tails import (
    ALL_LINES,
    LogSize,
    SegmentTail,
    join_tails,
    measure_logs,
    read_tail,
    require_readable,
)
from ockham.catalog.verified_logs import VerifiedLogs, keep_signed_tables, loaded_policies
from ockham.errors import RunError
from ockham.record.parquet.file_check import LogKey
from ockham.record.run_folder import PARQUET_TABLES, RunFolder, list_runs
from ockham.record.run_identity import describe_renamed
from ockham.record.tlog.note import VerifierKey


class RunFiles(NamedTuple):
    """What one scan has read.

    Attributes:
        folders: The runs.
        rows: Rows of each run in the tables of runs and policies.
        listing: Parquet files, segments without Parquet files, logs.
        tails: Lines of these segments.
        sizes: Size of each log.
        renamed: Message for each folder whose name is not the ID of its run. Such folders are not read.
        state: Changes when one of the files has changed.

    """

    folders: list[RunFolder]
    rows: list[RunRows]
    listing: FileListing
    tails: dict[TailFile, SegmentTail]
    sizes: dict[LogKey, LogSize]
    renamed: dict[str, str]
    state: object


class RunReader:
    """Reads runs repeatedly. Unchanged files are not read again.

    Args:
        runs: Folder of runs.
        run_ids: IDs of the runs to read. None reads all.
        verified: Check signatures and roots, and read only signed lines and no Parquet file.
        keys: Trusted verifier keys. Without one, the key that a run names is used.
        pinned: All lines are evidence, because the caller has compared them with a root.

    """

    def __init__(
        self,
        runs: Path,
        run_ids: Sequence[str] | None,
        *,
        verified: bool = False,
        keys: Sequence[VerifierKey] = (),
        pinned: bool = False,
    ) -> None:
        self._runs = runs
        self.run_ids = run_ids
        self._pinned = pinned
        self._index = FileIndex(use_parquet=not verified)
        self._signed = SignedSizes(keys)
        self._verified = VerifiedLogs(self._signed) if verified else None
        self._tails: dict[Path, SegmentTail] = {}
        self._names: dict[str, tuple[object, str | None]] = {}
        self._rows: dict[str, tuple[object, RunRows]] = {}
        self._scans = ScanCache(runs, persistent=not (verified or keys or pinned))
        self._ledger = LedgerPeople(runs, keys, signed_only=verified)

    def read(self) -> RunFiles:
        """Return the present content of the runs.

        Raises:
            OSError: If a file was removed while it was read. Call it again.
            RunError: If the only selected runs are in folders with other names.
            UnverifiableError: If a line is not an event, or a verified run is tampered with.

        """
        names = list_runs(self._runs)
        if self.run_ids is not None:
            names = [name for name in names if name in set(self.run_ids)]
        scans = self._unchanged_scans(names)
        # Before the files: a change while they are read then changes a stamp.
        stamps = {name: read_stamps(f"{self._runs}/{name}") for name in names if name not in scans}
        old = {name for name, found in stamps.items() if are_old(found)}
        renamed = self._find_renamed(stamps)
        if self.run_ids is not None and renamed and len(renamed) == len(names):
            raise RunError(next(iter(renamed.values())))
        folders = [RunFolder(self._runs, name) for name in names if name not in renamed]
        changed = [folder for folder in folders if folder.run_id not in scans]
        if self._verified is not None:
            listing, tails, sizes = self._read_verified(changed, self._verified)
        else:
            listing, tails, sizes = self._read_plain(changed)
        rows = {folder.run_id: self._read_rows(folder, stamps[folder.run_id]) for folder in changed}
        if self._verified is None:
            found = group_scans(listing, sizes, rows, stamps)
            self._scans.add({name: scan for name, scan in found.items() if name in old})
            listing, sizes, rows = join_scans(listing, sizes, rows, scans)
        lines = {segment.path: (tail.size, tail.last_line) for segment, tail in tails.items()}
        state = (renamed, rows, listing, lines, sizes, self._ledger.state())
        return RunFiles(folders, list(rows.values()), listing, tails, sizes, renamed, state)

    def load_tables(self, files: RunFiles) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
        """Return the tables of runs and policies by name, and the rows of the tails by kind."""
        tables = load_run_tables(files.rows, files.sizes)
        tables["raw_ledger_people"] = self._ledger.table()
        if self._verified is not None:
            keep_signed_tables(tables, files.folders, loaded_policies(files.tails.values()))
        return tables, join_tails(files.tails, files.sizes)

    def _find_renamed(self, stamps: Mapping[str, Stamps]) -> dict[str, str]:
        for name, found in stamps.items():
            stamp = found["run.json"]
            known = self._names.get(name)
            if known is None or known[0] != stamp:
                self._names[name] = (stamp, describe_renamed(RunFolder(self._runs, name)))
        return {name: problem for name in stamps if (problem := self._names[name][1]) is not None}

    def _read_rows(self, folder: RunFolder, stamps: Stamps) -> RunRows:
        """Return the rows of run.json and of the policies. Unchanged files are not read again."""
        state = [(name, stamp) for name, stamp in stamps.items() if name.startswith(("run.json", "policies"))]
        known = self._rows.get(folder.run_id)
        if known is not None and known[0] == state:
            return known[1]
        rows = read_run_rows(folder)
        if are_old(dict(state)):
            self._rows[folder.run_id] = (state, rows)
        return rows

    def _read_plain(
        self, folders: list[RunFolder]
    ) -> tuple[FileListing, dict[TailFile, SegmentTail], dict[LogKey, LogSize]]:
        listing = self._index.scan(folders)
        tails = {segment: read_tail(segment, self._tails.get(segment.path)) for segment in listing.segments}
        self._tails = {segment.path: tail for segment, tail in tails.items()}
        by_id = {folder.run_id: folder for folder in folders}
        # The heads are read after the lines: a head that covers more lines than were read covers all of them.
        signed = {
            log: ALL_LINES if self._pinned else self._signed.read(by_id[log[0]], *log[1:])
            for log in listing.logs
        }
        require_readable(tails, signed)
        return listing, tails, measure_logs(listing, tails, signed)

    def _unchanged_scans(self, names: list[str]) -> dict[str, RunScan]:
        """Return the scans of the runs of which no file has changed since."""
        if self._verified is not None:
            return {}
        self._scans.load(names)
        scans = {name: self._scans.get(name) for name in names}
        return {name: scan for name, scan in scans.items() if scan is not None}

    def _read_verified(
        self, folders: list[RunFolder], verified: VerifiedLogs
    ) -> tuple[FileListing, dict[TailFile, SegmentTail], dict[LogKey, LogSize]]:
        tails: dict[TailFile, SegmentTail] = {}
        sizes: dict[LogKey, LogSize] = {}
        for folder in folders:
            for source, (tail, size) in verified.read(folder).items():
                tails[source], sizes[source.log] = tail, size
        return FileListing({kind: [] for kind in PARQUET_TABLES}, list(tails), list(sizes)), tails, sizes
