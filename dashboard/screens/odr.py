"""Decision records page: which decision records exist, and are their claims confirmed?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, odr_folder, query_or_error, run_page_query, runs_folder
from dashboard.layout import page_header, section
from dashboard.record_text import record_text_section
from dashboard.tables import data_table, query_table
from ockham.errors import OckhamError
from ockham.formatting import today
from ockham.odr.arrow_tables import build_odr_tables
from ockham.odr.check import check
from ockham.odr.graph import mermaid, nodes_and_edges
from ockham.odr.lint import lint_folder
from ockham.odr.query import guarded_queries
from ockham.odr.records_folder import find_record

QUESTION = "Which decision records exist?"
RECORD_QUESTION = "What was decided, by whom, and on what evidence?"
COLUMNS = (
    "odr_id",
    "title",
    "status",
    "date",
    "claimed_verdict",
    "claimed_oq_delta",
    "verdict",
    "waived_until",
    "errors",
    "warnings",
    "owners",
)
STATES = {"pass": "pass ✓", "fail": "fail ✗", "unknown": "unknown ?", None: "not measured yet"}
# With more records the table scrolls.
MAX_ROWS_WITHOUT_SCROLLING = 14


def supersession_section() -> None:
    """Show which records supersede others, as a graph and as a table."""
    records = lint_folder(odr_folder())
    _, edges = nodes_and_edges(records)
    if not edges:
        return
    section("Superseded records")
    connected = {name for edge in edges for name in edge}
    st.mermaid_chart(
        mermaid([record for record in records if record.claims.id in connected]),
        alt=f"{len(edges)} edges from a record to the record that it supersedes.",
    )
    columns = {"record": [new for new, _ in edges], "supersedes": [old for _, old in edges]}
    data_table(pa.table(columns), "edges")


def check_section(selected: str) -> bool:
    """Show a button that checks a record, and the result. Returns True if there is a result."""
    key = f"judged-{selected}-{runs_folder()}"
    if st.button("Check the claims against the logs", key="check", type="primary"):
        run_check(selected, key)
    cached = st.session_state.get(key)
    if cached is None:
        return False
    result, record = cached
    tables = build_odr_tables([record], {record.display_path: result})
    row = tables["odrs"].to_pylist()[0]
    claimed = row["claimed_verdict"] or "no verdict"
    st.text(
        f"Measured: {row['verdict']}; claimed: {claimed}. {row['errors']} errors, {row['warnings']} warnings."
    )
    constraints_table(tables["odr_constraints"])
    if tables["odr_findings"].num_rows:
        columns = ("code", "severity", "line", "message")
        data_table(tables["odr_findings"], "found", columns=columns)
    return True


def run_check(selected: str, key: str) -> None:
    """Check a record against the logs, and store the result in the session."""
    with st.status("Reading the evidence and measuring the constraints", expanded=False) as status:
        try:
            record = find_record(lint_folder(odr_folder()), selected)
            st.session_state[key] = check(record, [runs_folder()], guarded_queries, today()), record
        except OckhamError as error:
            status.update(label="The record cannot be checked.", state="error")
            st.code(str(error), language=None)
        else:
            status.update(label="Checked", state="complete")


def constraints_table(constraints: pa.Table) -> None:
    """Show the constraints of a record, with claimed and measured values and their SQL."""
    rows = constraints.to_pylist()
    if not rows:
        st.text("None.")
        return
    st.dataframe([constraint_row(row) for row in rows], hide_index=True, key=f"claims-{rows[0]['state']}")
    with st.expander("SQL of each constraint"):
        for row in rows:
            st.text(f"{row['constraint_id']}: {row['text']}")
            st.code(row["sql"] or "", language="sql")


def constraint_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a constraint as a row of the table. Measured values are included after a check."""
    limit = "" if row["threshold"] is None else f"{row['op']} {row['threshold']:g} {row['unit'] or ''}"
    cells = {
        "id": row["constraint_id"],
        "claim": row["text"],
        "must be": limit,
        "claimed value": row["claimed_value"],
        "state": STATES.get(row["state"], row["state"]),
    }
    if row["state"] is not None:
        cells |= {"measured": row["value"], "n": row["n"], "reason": row["reason"] or ""}
    return cells


def text_section(selected: str) -> None:
    """Show the text of one record, with owners and dates."""
    try:
        record_text_section(find_record(lint_folder(odr_folder()), selected))
    except OckhamError as error:
        st.error("The text of this record cannot be read.", icon=":material/error:")
        st.code(str(error), language=None)


def record_section(selected: str) -> None:
    """Show the text, constraints, evidence and findings of one record."""
    text_section(selected)
    section("Constraints: claimed and measured")
    if not check_section(selected):
        claims = query_or_error(run_page_query, "odr_claims", id=selected)
        if claims is not None:
            constraints_table(claims.table)
    for title, query, empty in (
        ("Evidence", "odr_sides", "The record names no evidence."),
        ("Findings of lint", "odr_findings", "None."),
    ):
        result = query_or_error(run_page_query, query, id=selected)
        if result is None:
            continue
        section(title)
        if result.table.num_rows:
            data_table(result.table, query)
        else:
            st.text(empty)


def select_record(records: TimedResult) -> str | None:
    """Return the record selected in the table, in the menu or in the URL."""
    names = [_record_name(row) for row in records.rows()]
    row = query_table(
        records,
        "odrs",
        columns=COLUMNS,
        selectable=True,
        height="content" if len(names) <= MAX_ROWS_WITHOUT_SCROLLING else 420,
        alt="Decision records.",
    )
    if row:
        st.session_state["odr"] = _record_name(row)
    requested = st.query_params.get("id")
    if requested is not None and requested not in names and st.session_state.get("odr") not in names:
        st.error("The record in this URL was not found. Select an existing record:")
        st.code(requested[:200], language=None)
    if st.session_state.get("odr") not in names:
        st.session_state["odr"] = requested if requested in names else None
    return st.selectbox("Record", names, key="odr", placeholder="Select a row above, or a record here")


def _record_name(row: dict[str, Any]) -> str:
    return str(row["odr_id"] or row["path"].rsplit("/", 1)[-1])


def record_sentence(row: dict[str, Any]) -> str:
    """Return the answer about one record from a row of `odr_list`."""
    owners = ", ".join(row["owners"] or ()) or "no owner is named"
    evidence = query_or_error(run_page_query, "odr_sides", id=row["odr_id"])
    runs = [side["run_id"] for side in evidence.rows()] if evidence is not None else []
    text = f"{_record_name(row)}: {row['title']}. Status {row['status']}, {row['date']}; owners: {owners}."
    return f"{text} Evidence: {', '.join(runs) or 'no runs'}."


def page(records: TimedResult) -> None:
    """Show the page."""
    rows = records.rows()
    if not rows:
        page_header(QUESTION, "No decision records yet. This command creates one:")
        st.code(
            f'ockham odr new "Move to preset tight" --odr-dir {odr_folder()} --candidate RUN', language="bash"
        )
        return
    accepted = sum(row["status"] == "accepted" for row in rows)
    with_errors = sum(1 for row in rows if row["errors"])
    unit = "record" if len(rows) == 1 else "records"
    heading = st.container()
    selected = select_record(records)
    row = next((row for row in rows if _record_name(row) == selected), None)
    with heading:
        if row is not None:
            page_header(RECORD_QUESTION, record_sentence(row))
        else:
            page_header(
                QUESTION,
                f"{len(rows):,} {unit}, {accepted:,} accepted, {with_errors or 'none'} with errors.",
            )
    if selected:
        st.query_params["id"] = selected
        record_section(selected)
    supersession_section()


all_records = query_or_error(run_page_query, "odr_list")
if all_records is not None:
    page(all_records)
else:
    page_header(QUESTION, "The decision records cannot be read.")
