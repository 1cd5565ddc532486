"""Runs with unreadable files, for tests of readers."""

from __future__ import annotations

from ockham.run import Run
from tests.helpers.log_edits import sign_log

INVALID_LINE = b"this line is not an event\n"


def append_invalid_line(run: Run) -> None:
    """Append a complete, signed line that is not an event, and remove Parquet files that would cover it."""
    segment = run.folder.segments(1, 0)[-1]
    for kind in ("contexts", "decisions", "events"):
        for path in (run.folder.path / kind).rglob("*.parquet"):
            path.unlink()
    segment.write_bytes(segment.read_bytes() + INVALID_LINE)
    sign_log(run.folder)


def overwrite_parquet(run: Run) -> None:
    """Overwrite one Parquet file with bytes that are not Parquet. The log lines stay valid."""
    next((run.folder.path / "decisions").rglob("*.parquet")).write_bytes(b"no Parquet" * 500)
