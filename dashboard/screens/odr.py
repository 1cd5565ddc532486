"""Which decisions of people are on record, and do they still hold?"""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, odr_folder, query_or_error, run_page_query, runs_folder
from dashboard.layout import page_header, section
from dashboard.tables import data_table, query_table
from ockham.errors import OckhamError
from ockham.formatting import today
from ockham.odr.arrow_tables import build_odr_tables
from ockham.odr.check import check
from ockham.odr.graph import mermaid, nodes_and_edges
from ockham.odr.lint import lint_folder
from ockham.odr.query import guarded_queries
from ockham.odr.records_folder import find_record
from ockham.odr.verdict import CheckResult

LISTED = (
    "odr_id",
    "title",
    "status",
    "date",
    "claimed_verdict",
    "claimed_oq_delta",
    "errors",
    "warnings",
    "owners",
)
QUESTION = "Which decisions of people are on record?"
STATES = {"pass": "pass ✓", "fail": "fail ✗", "unknown": "unknown ?", None: "not measured yet"}


def supersession() -> None:
    """Who superseded whom, as a picture and as the same edges in a table."""
    folder = lint_folder(odr_folder())
    _, edges = nodes_and_edges(folder)
    if not edges:
        return
    section("Who superseded whom")
    inside = {name for edge in edges for name in edge}
    st.mermaid_chart(
        mermaid([record for record in folder if record.claims.id in inside]),
        alt=f"{len(edges)} edges from a record to the one it superseded.",
    )
    data_table(
        pa.table({"record": [new for new, _ in edges], "supersedes": [old for _, old in edges]}), "edges"
    )


def cached_check(chosen: str) -> CheckResult | None:
    """What check came to, when somebody asked for it."""
    key = f"judged-{chosen}-{runs_folder()}"
    if st.button("Check: measure each claim from the log", key="check", type="primary"):
        with st.status("Unpacking the evidence, asking each constraint", expanded=False) as status:
            try:
                record = find_record(lint_folder(odr_folder()), chosen)
                st.session_state[key] = check(record, [runs_folder()], guarded_queries, today()), record
            except OckhamError as error:
                status.update(label="It could not be checked.", state="error")
                st.code(str(error), language=None)
            else:
                status.update(label="Checked", state="complete")
    kept = st.session_state.get(key)
    if kept is None:
        return None
    judgement, record = kept
    tables = build_odr_tables([record], {record.shown: judgement})
    row = tables["odrs"].to_pylist()[0]
    said = row["claimed_verdict"] or "no verdict"
    st.text(
        f"Measured now: {row['verdict']}; claimed: {said}. {row['errors']} errors, {row['warnings']} warnings."
    )
    claims(tables["odr_constraints"])
    if tables["odr_findings"].num_rows:
        data_table(tables["odr_findings"], "found", columns=("code", "severity", "line", "message"))
    return judgement  # type: ignore[no-any-return]


def claims(constraints: pa.Table) -> None:
    """Each constraint, claimed and measured, with its SQL."""
    rows = constraints.to_pylist()
    if not rows:
        st.text("None.")
        return
    st.dataframe(
        [{"id": r["constraint_id"], "claim": r["text"], "must be": f"{r['op']} {r['threshold']:g} {r['unit'] or ''}" if r["threshold"] is not None else "",
          "claimed value": r["claimed_value"], "state": STATES.get(r["state"], r["state"]),
          **({"measured": r["value"], "n": r["n"], "why": r["reason"] or ""} if r["state"] is not None else {})}
         for r in rows], hide_index=True, key=f"claims-{rows[0]['state']}",
    )  # fmt: skip
    with st.expander("SQL of each constraint"):
        for row in rows:
            st.text(f"{row['constraint_id']}: {row['text']}")
            st.code(row["sql"] or "", language="sql")


def record_page(chosen: str) -> None:
    """One record: constraints, evidence, findings."""
    section("Constraints: claimed and measured")
    if cached_check(chosen) is None:
        found = query_or_error(run_page_query, "odr_claims", id=chosen)
        if found is not None:
            claims(found.table)
    for title, name, empty in (
        ("Evidence", "odr_sides", "None is named."),
        ("Findings of lint", "odr_findings", "None."),
    ):
        found = query_or_error(run_page_query, name, id=chosen)
        if found is not None:
            section(title)
            if found.table.num_rows:
                data_table(found.table, name)
            else:
                st.text(empty)


def chosen_record(records: TimedResult) -> str | None:
    """The record of the address, of the row, or of the menu."""
    names = [row["odr_id"] or row["path"].rsplit("/", 1)[-1] for row in records.rows()]
    row = query_table(
        records,
        "odrs",
        columns=LISTED,
        selectable=True,
        height="content" if len(names) < 15 else 420,
        alt="Decision records.",
    )
    if row:
        st.session_state["odr"] = row["odr_id"] or row["path"].rsplit("/", 1)[-1]
    asked = st.query_params.get("id")
    if asked is not None and asked not in names and st.session_state.get("odr") not in names:
        st.error("The record that this address names is not here. Choose one that is:")
        st.code(asked[:200], language=None)
    if st.session_state.get("odr") not in names:
        st.session_state["odr"] = asked if asked in names else None
    return st.selectbox("Record", names, key="odr", placeholder="Choose a row above, or a record here")


def page(records: TimedResult) -> None:
    """The page."""
    rows = records.rows()
    wrong = sum(1 for row in rows if row["errors"])
    if not rows:
        page_header(QUESTION, "No record yet.")
        st.code(
            f'ockham odr new "Move to preset tight" --dir {odr_folder()} --candidate RUN', language="bash"
        )
        return
    holding = sum(row["status"] == "accepted" for row in rows)
    page_header(
        QUESTION, f"{len(rows):,} records, {holding:,} of them accepted; {wrong or 'none'} with errors."
    )
    chosen = chosen_record(records)
    if chosen:
        st.query_params["id"] = chosen
        record_page(chosen)
    supersession()


listed = query_or_error(run_page_query, "odr_list")
if listed is not None:
    page(listed)
else:
    page_header(QUESTION, "The records could not be read.")
