"""Checkpoints page: which files were saved, which decision accepted them, and are they intact?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.address import run_ids
from dashboard.data_source import TimedResult, folder_state, query_or_error, run_page_query, runs_folder
from dashboard.file_digest import file_digest
from dashboard.layout import page_header, query_details, section
from dashboard.tables import data_table
from dashboard.verifier import LogState, run_verifier
from dashboard.words import glossary_line, reason_label
from ockham.record.checkpoint_evidence import TRAINER_KIND
from ockham.record.run_folder import RUN_ID

QUESTION = "Which checkpoint is this file, and was it accepted?"
COLUMNS = (
    "run_id",
    "snapshot_id",
    "file_name",
    "file_state",
    "kind",
    "iter_num",
    "reason_code",
    "sha256",
    "decision_id",
    "records",
    "megabytes",
)
MAX_ANSWERS = 5
Row = dict[str, Any]


def file_states(rows: list[Row]) -> list[str]:
    """Return for each file whether it is kept and intact, by the last verification of its run."""
    runs = {row["run_id"] for row in rows}
    states = {run_id: run_verifier().state(run_id) for run_id in runs}
    reports = {run_id: _report(run_id) for run_id in runs}
    return [file_state(row, states[row["run_id"]], reports[row["run_id"]]) for row in rows]


def _report(run_id: str) -> dict[str, Any] | None:
    return run_verifier().report(run_id, folder_state(runs_folder() / run_id))


def file_state(row: Row, state: LogState, report: dict[str, Any] | None) -> str:
    """Return the state of one file.

    Args:
        row: Row of `checkpoint_files`.
        state: State of the log of its run.
        report: Verification report for the present files of the run, None without one.

    """
    if row["pruned"]:
        return "pruned"
    if not row["signed"]:
        return "not signed"
    if row["kind"] == TRAINER_KIND:
        return "outside of the run folder"
    if report is None:
        return "not verified yet"
    place = f"checkpoints/{row['snapshot_id']}/{row['file_name']}"
    if any(found["kind"] == "checkpoint" and found["place"] == place for found in report["findings"]):
        return "file differs from the log"
    if state.is_broken:
        return "the log is broken"
    return "kept, superseded" if row["superseded"] else "kept, intact"


def file_sentence(row: Row) -> str:
    """Return what the log contains about one file."""
    text = f"{row['file_name']} of checkpoint {row['snapshot_id']} in {row['run_id']}, "
    text += f"saved at iteration {row['iter_num']:,}: "
    if row["decision_id"] is None:
        text += f"kind {row['kind']}, not accepted by a decision"
    else:
        text += reason_label(row["reason_code"] or "UNSIGNED_DECISION")
        text += f", decision {row['decision_id']}"
    if row["records"]:
        text += f", cited by {row['records']}"
    return f"{text}; {row['file_state']}."


def select_rows(rows: list[Row]) -> list[Row]:
    """Return the rows that the address names, by digest or checkpoint."""
    digest = st.query_params.get("digest", "").strip().lower()
    checkpoint = st.query_params.get("checkpoint")
    if digest:
        rows = [row for row in rows if digest in (row["sha256"], row["weights_sha256"])]
    if checkpoint is not None:
        rows = [row for row in rows if row["snapshot_id"] == checkpoint]
    return rows


def summary_sentence(rows: list[Row], run_id: str | None) -> str:
    """Return the answer of the page without a digest or checkpoint in the address."""
    where = f"{run_id} has" if run_id is not None else "All runs together have"
    names = {(row["run_id"], row["snapshot_id"]) for row in rows}
    accepted = {(row["run_id"], row["snapshot_id"]) for row in rows if row["decision_id"] is not None}
    intact = sum(row["file_state"] == "kept, intact" for row in rows)
    unit = "checkpoint" if len(names) == 1 else "checkpoints"
    return (
        f"{where} {len(names):,} {unit}, {len(accepted):,} accepted; "
        f"{intact:,} of {len(rows):,} files are verified and intact."
    )


def answer_section(rows: list[Row], chosen: list[Row], run_id: str | None) -> None:
    """Show the answer: what the named file is, or how many checkpoints there are."""
    if len(chosen) == len(rows) and not {"digest", "checkpoint"} & set(st.query_params):
        page_header(QUESTION, summary_sentence(rows, run_id))
        return
    if not chosen:
        where = f"in {run_id}" if run_id is not None else "in any run"
        page_header(QUESTION, f"No. The log does not contain this file {where}, so nothing accepted it.")
    else:
        page_header(QUESTION, file_sentence(chosen[0]))
        for row in chosen[1:MAX_ANSWERS]:
            st.text(file_sentence(row))
        if len(chosen) > MAX_ANSWERS:
            st.text(f"and {len(chosen) - MAX_ANSWERS:,} more files")
    for name in ("digest", "checkpoint"):
        if name in st.query_params:
            st.code(st.query_params[name][:200], language=None, wrap_lines=True)


def table_section(result: TimedResult, chosen: list[Row]) -> None:
    """Show the files. Selecting a row opens the decision that accepted it."""
    section("Files", "The newest first. Select a row to open the decision that accepted the checkpoint.")
    if chosen:
        names = [*result.table.schema.names, "file_state"]
        table = pa.table({name: [row[name] for row in chosen] for name in names})
        selected = data_table(table, "files", columns=COLUMNS, selectable=True, alt="Checkpoint files.")
        if selected and selected["decision_id"]:
            parameters = {"run": selected["run_id"], "decision": selected["decision_id"]}
            st.switch_page("screens/decision.py", query_params=parameters)
    else:
        st.text("None.")
    query_details(result, "files")
    glossary_line("checkpoint", "decision", "anchor weights", "verify")


def page() -> None:
    """Show the page."""
    run_id = st.query_params.get("run")
    if run_id is not None and (not RUN_ID.fullmatch(run_id) or run_id not in (run_ids() or ())):
        st.title("Run not found", anchor=False)
        st.error("The run in this URL was not found.")
        st.code(run_id[:300], language=None)
        return
    result = query_or_error(run_page_query, "checkpoint_files", run=run_id or "")
    if result is None:
        page_header(QUESTION, "The checkpoints cannot be read.")
        return
    rows = result.rows()
    chosen = select_rows(rows)
    for row, state in zip(rows, file_states(rows), strict=True):
        row["file_state"] = state
    answer_section(rows, chosen, run_id)
    if run_id is not None:
        st.page_link("screens/checkpoints.py", label="Checkpoints of all runs")
    with st.expander("Identify a file by its SHA-256", expanded=not rows):
        digest = file_digest("file")
    if digest:
        st.query_params.from_dict({"digest": digest})
        st.rerun()
    table_section(result, chosen)


page()
