"""The ledger `runs/_ledger`: entries about runs, such as registrations, checks and attestations.

Each entry is a signed and closed log of one line. All lines in order are the leaves of one RFC 6962 tree, and
a run names its head when it starts. This proves that the entries up to that head are older than the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from ockham.errors import LogLockedError
from ockham.record.durable_io import make_dirs
from ockham.record.evidence import read_signed_log
from ockham.record.lock_support import require_locks
from ockham.record.log_writer import LogWriter
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.note import local_verifier_key

WAIT_SECONDS = 10


def append_entry(runs: Path, kind: str, fields: Mapping[str, Any]) -> str:
    """Append one durable and signed event to the ledger. Return its ID.

    Raises:
        LogError: If the ledger cannot be written.
        RunError: If the ledger contains a link.

    """
    ledger = RunFolder(runs, LEDGER)
    reject_special_files(ledger.path)
    make_dirs(ledger.path)
    require_locks(ledger.path)
    try:
        # The tree grows at its end only.
        with filelock.FileLock(str(ledger.path / "lock"), timeout=WAIT_SECONDS):
            writer = LogWriter(ledger, ledger.last_attempt() + 1, 0)
            try:
                place = writer.append(kind, dict(fields), subject="ledger")
            finally:
                writer.close()
            return writer.event_id_at(place)
    except filelock.Timeout:
        raise LogLockedError(f"{ledger.path} is being written by another process") from None


def read_entries(runs: Path) -> list[bytes]:
    """Return every complete line of the ledger in order."""
    ledger = RunFolder(runs, LEDGER)
    return [
        line
        for attempt, rank in ledger.logs()
        for segment in ledger.segments(attempt, rank)
        for line in read_complete_lines(segment)[0]
    ]


def read_marked_entries(runs: Path) -> list[tuple[bytes, bool]]:
    """Return every complete line of the ledger in order, and whether this machine's key signed it.

    Raises:
        UnverifiableError: If a file of the ledger cannot be read.

    """
    ledger, key = RunFolder(runs, LEDGER), local_verifier_key()
    entries = []
    for attempt, rank in ledger.logs():
        log = read_signed_log(ledger, attempt, rank, [key] if key else [], select=lambda _: True)
        signed = dict(log.lines)
        lines = [line for path in ledger.segments(attempt, rank) for line in read_complete_lines(path)[0]]
        entries += [(line, signed.get(sequence) == line) for sequence, line in enumerate(lines)]
    return entries


def ledger_head(runs: Path) -> dict[str, Any] | None:
    """Return size and root of the tree over the ledger's lines. None if the ledger is empty."""
    lines = read_entries(runs)
    return (
        {"size": len(lines), "root": root_from_leaves([leaf_hash(line) for line in lines]).hex()}
        if lines
        else None
    )
