"""Tree heads and tiles of a log: written histories, and findings about them."""

from __future__ import annotations

from pathlib import Path

from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.report import VerificationReport
from ockham.record.verify.run import verify_run


def tree_findings(log: Path) -> tuple[set[tuple[str, str, str]], VerificationReport]:
    """Return class, path below the log and message of each finding about tiles and heads, and the report."""
    report = verify_run(
        RunFolder(log.parents[2], "a"), keys=[load_or_create_signer().verifier], parquet=False
    )
    findings = [f for f in report.findings if f.kind not in ("not pinned", "policy missing", "contradiction")]
    return {(f.kind, f.place.removeprefix("log/1-0").lstrip("/"), f.message) for f in findings}, report


def write_history(log: Path, *notes: bytes, newest: bytes | None) -> None:
    """Replace the history of tree heads, and replace or remove the newest tree head."""
    (log / "checkpoints").write_bytes(b"".join(note + b"\n" for note in notes))
    (log / "checkpoint").unlink()
    if newest:
        (log / "checkpoint").write_bytes(newest)
