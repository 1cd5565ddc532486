"""Check of a decision: its row must be that of a signed line, in a run that nothing contradicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import streamlit as st

from dashboard.data_source import folder_state, runs_folder
from ockham.errors import OckhamError
from ockham.record.evidence import LogKey, read_evidence, select_kinds
from ockham.record.parquet.tables import tables_from_lines
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import own_keys

# Larger runs are verified on request. One second is enough for about this many bytes of lines.
MAX_BYTES_ON_OPEN = 100_000_000
COMPARED_COLUMNS = (
    "run_id",
    "attempt",
    "rank",
    "sequence",
    "iter_num",
    "micro_step",
    "hook",
    "plugin",
    "action",
    "reason_code",
    "shadow",
    "observed",
    "threshold",
    "policy_revision",
    "numbers",
)
State = Literal["verified", "not verified", "unsigned", "verification failed"]


class DecisionEvidence(NamedTuple):
    """Result of the check, and one sentence about it."""

    state: State
    message: str


class _SignedDecisions(NamedTuple):
    """Signed decisions of a run: number of signed lines and their decisions by log, and the first problem."""

    signed: Mapping[LogKey, int]
    lines: Mapping[LogKey, Mapping[int, bytes]]
    problem: str


@st.cache_resource(max_entries=4, show_spinner="Verifying the signed lines")
def _read_decisions(runs: str, run_id: str, state: str) -> _SignedDecisions:
    """Read the signed decisions of a run. The state of its folder is part of the key of the cache."""
    del state
    folder = RunFolder(runs, run_id)
    try:
        evidence = read_evidence(folder, own_keys(folder), select=select_kinds("decision.made"))
    except OckhamError as error:
        return _SignedDecisions({}, {}, str(error))
    return _SignedDecisions(
        {place: log.signed for place, log in evidence.logs.items()},
        {place: dict(log.lines) for place, log in evidence.logs.items()},
        next(iter(evidence.problems), ""),
    )


def check_decision(row: Mapping[str, Any]) -> DecisionEvidence:
    """Return whether a row of the catalog is a signed decision. A button starts the check of a large run."""
    folder = RunFolder(runs_folder(), row["run_id"])
    place = (row["attempt"], row["rank"])
    size = sum(path.stat().st_size for log in folder.logs() for path in folder.segments(*log))
    if size > MAX_BYTES_ON_OPEN and not st.button("Verify the signed lines", key=f"verify-{row['run_id']}"):
        message = f"The run has {size / 1e6:,.0f} MB of lines, which have not been compared with signatures."
        return DecisionEvidence("not verified", message)
    found = _read_decisions(str(folder.runs), folder.run_id, folder_state(folder.path))
    if found.problem:
        return DecisionEvidence(
            "verification failed", f"{found.problem}; run `ockham verify {row['run_id']}`"
        )
    if row["sequence"] >= found.signed.get(place, 0):
        message = "No tree head of a known key covers this decision, so it proves nothing."
        return DecisionEvidence("unsigned", message)
    line = found.lines[place].get(row["sequence"])
    if line is None or not _has_values(line, row):
        message = f"The signed line {row['sequence']} of the log has other values than this page."
        return DecisionEvidence("verification failed", message)
    return DecisionEvidence("verified", "A tree head signed with the key of the run covers this decision.")


def _has_values(line: bytes, row: Mapping[str, Any]) -> bool:
    """Return True if a signed line has the values of the row."""
    try:
        rows = tables_from_lines([line])["decisions"].to_pylist()
    except ValueError:
        return False
    signed = {**rows[0], "decision_id": rows[0].get("event_id", row["decision_id"])} if rows else {}
    names = ("decision_id", *COMPARED_COLUMNS)
    # NaN is not equal to itself, but its text is.
    return bool(rows) and all(repr(signed[name]) == repr(row[name]) for name in names if name in row)
