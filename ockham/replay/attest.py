"""Attestation: appends the result of a replay, signed, to the ledger. The run is not changed."""

from __future__ import annotations

from ockham.record.attempt import log_head
from ockham.record.ledger import append_entry
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import ReplayReport


def attest(folder: RunFolder, report: ReplayReport) -> str:
    """Append a `replay.attested` event to `_ledger` as a log of its own. Return its event ID.

    Args:
        folder: The replayed run.
        report: Result of the replay, identical or not.

    Raises:
        LogError: If the ledger cannot be written.

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
    found = {
        "run_id": folder.run_id,
        "attempt_size": sizes,
        "decisions": report.total("decisions"),
        "identical": report.total("identical"),
        "code_sha256": code,
    }
    return append_entry(folder.runs, "replay.attested", found)
