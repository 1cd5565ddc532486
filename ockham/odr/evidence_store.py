"""Evidence of many records: each log is unpacked, hashed and read once, and equal evidence shares a process.

A constraint is queried on a runs folder that contains only the pinned logs of its record, so it cannot read a
run outside of the evidence.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ockham.odr.evaluation_points import EvaluationSeries, read_evaluations
from ockham.odr.evidence_pack import unpack_log
from ockham.odr.pinned_log import PinnedLog, build_parquet, build_runs_folder, find_run, read_pinned_log
from ockham.odr.query import OpenQueries, QueryFunction
from ockham.odr.record_data import EvidenceSide
from ockham.odr.registration import find_registrations
from ockham.record.run_folder import RunFolder

# events; more would keep the process that answers from starting in time.
PARQUET_MIN_EVENTS = 50_000
# Attempt, rank, position and root of each log of a query.
EvidenceKey = tuple[tuple[str, int, int, int, str], ...]


class EvidenceStore:
    """Reads evidence once for all records of a command. Use it as a context manager.

    Args:
        runs_folders: Folders of runs. The first one that contains a run is used, after the packed evidence of
            the record.
        asker: Opens a runs folder for queries. Tests replace it.

    """

    def __init__(self, runs_folders: Sequence[Path], asker: OpenQueries) -> None:
        self.runs_folders = runs_folders
        self._asker = asker
        self._stack = contextlib.ExitStack()
        self._folders: dict[tuple[Path, str, int, int], RunFolder | None] = {}
        self._logs: dict[tuple[Path, int, int, int | None], PinnedLog | None] = {}
        self._series: dict[tuple[Path, int, int, int, bool], EvaluationSeries] = {}
        self._registrations: dict[Path, dict[str, dict[str, Any]]] = {}
        self._open: tuple[EvidenceKey, QueryFunction] | None = None
        self._queries = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._temporary = Path(
            self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="ockham-odr-", ignore_cleanup_errors=True)
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queries.close()
        self._stack.close()

    def find_folder(self, side: EvidenceSide, packs: Path) -> RunFolder | None:
        """Return the run of a side: unpacked from the folder of packs, or in a folder of runs.

        Raises:
            UnverifiableError: If the packed log cannot be read.
            RunError: If the side names no run.

        """
        key = (packs, side.run, side.attempt, side.rank)
        if key not in self._folders:
            target = self._temporary / "unpacked" / str(len(self._folders))
            self._folders[key] = unpack_log(packs, side, target) or find_run(side.run, self.runs_folders)
        return self._folders[key]

    def read_log(self, side: EvidenceSide, folder: RunFolder) -> PinnedLog | None:
        """Return the pinned log of a side, or None if the run has no such log.

        Raises:
            UnverifiableError: If the log cannot be read.

        """
        key = (folder.path, side.attempt, side.rank, side.through)
        if key not in self._logs:
            self._logs[key] = read_pinned_log(side, folder)
        log = self._logs[key]
        return None if log is None else log._replace(side=side)

    def read_evaluations(self, log: PinnedLog, with_batches: bool) -> EvaluationSeries:
        """Return the evaluations of a pinned log."""
        key = (log.folder.path, log.side.attempt, log.side.rank, log.size, with_batches)
        if key not in self._series:
            self._series[key] = read_evaluations(log, with_batches)
        return self._series[key]

    def read_registrations(self, records: Path) -> dict[str, dict[str, Any]]:
        """Return the registrations of the ledgers, and those packed with the records of this folder."""
        if records not in self._registrations:
            self._registrations[records] = find_registrations(records, self.runs_folders)
        return self._registrations[records]

    def open_queries(self, logs: Sequence[PinnedLog]) -> QueryFunction:
        """Return a query function that sees these logs, and nothing else.

        The process of the previous call is used again for the same evidence, otherwise it ends.
        """
        key = evidence_key(logs)
        if self._open is None or self._open[0] != key:
            self._queries.close()
            self._open = None
            folder = Path(self._queries.enter_context(tempfile.TemporaryDirectory(dir=self._temporary)))
            build_runs_folder(logs, folder)
            if sum(log.size for log in logs) > PARQUET_MIN_EVENTS:
                build_parquet(folder)
            self._open = (key, self._queries.enter_context(self._asker(folder)))
        return self._open[1]


def evidence_key(logs: Sequence[PinnedLog]) -> EvidenceKey:
    """Return the identity of the evidence: equal keys have equal lines."""
    return tuple(sorted((log.side.run, log.side.attempt, log.side.rank, log.size, log.root) for log in logs))
