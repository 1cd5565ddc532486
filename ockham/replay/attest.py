"""Attesting: what a replay found goes, signed, into the ledger beside the runs; the run itself is not touched."""

from __future__ import annotations

from ockham.record.attempt import log_head
from ockham.record.ledger import append_entry
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import ReplayReport


def attest(folder: RunFolder, report: ReplayReport) -> str:
    """Write a `replay.attested` event into `_ledger`, as a log of its own; returns its event ID.

    Args:
        folder: the run that was replayed.
        report: what was found, identical or not.

    Raises:
        LogError: if the ledger can't be written.

    """
    sizes = []
    for log in report.logs:
        old = log_head(folder, log.attempt, log.rank)
        sizes.append(
            {"attempt": log.attempt, "rank": log.rank, "size": old["from_size"], "root": old["from_root"]}
        )
    code = {
        name: digests["replayed_sha256"]
        for log in report.logs
        for name, digests in log.code.items()
        if digests["replayed_sha256"] is not None
    }
    found = {"run_id": folder.run_id, "attempt_size": sizes, "decisions": report.total("decisions"),
             "identical": report.total("identical"), "code_sha256": code}  # fmt: skip
    return append_entry(folder.runs, "replay.attested", found)
