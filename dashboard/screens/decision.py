"""Decision page: what was decided, and why?"""

from __future__ import annotations

import math
import re
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, runs_folder
from dashboard.decision_evidence import DecisionEvidence, check_decision
from dashboard.layout import chart, page_header, parse_number, query_details, section, select_run
from dashboard.metric_cards import first_row
from dashboard.tables import data_table, query_table
from dashboard.words import glossary_line, reason_label
from ockham.errors import OckhamError
from ockham.record.proofs import prove_inclusion
from ockham.record.run_folder import RunFolder

QUESTION = "What was decided, and why?"
DECISION_ID = re.compile(r"[0-9a-f-]{36}")
ID_PREFIX_CHARACTERS = 13
CHAIN_COLUMNS = (
    "hook",
    "plugin",
    "action",
    "reason_code",
    "observed",
    "threshold",
    "changes",
    "shadow",
    "micro_step",
    "sequence",
    "decision_id",
)


def format_number(value: float | None) -> str:
    """Return a number with five digits, or a dash for None."""
    return "-" if value is None else f"{value:.5g}"


def search_page() -> None:
    """Show the page without a decision in the URL: select one by iteration, or enter its ID."""
    run_id = select_run()
    if run_id is None:
        return
    page_header(QUESTION, "Select an iteration and one of its decisions, or enter the ID of a decision.")
    left, right = st.columns([1, 2])
    decision_id = right.text_input("Decision ID", key="decision-id").strip().lower()
    if decision_id:
        open_decision(decision_id)
    requested = parse_number(st.query_params.get("iter", ""))
    last = first_row("iteration_range", run_id).get("last") or 0
    iteration = int(
        left.number_input(
            "Iteration",
            0,
            value=last if requested is None else requested,
            key=f"iteration-{run_id}",
            help=f"This run has iterations 0 to {last:,}.",
        )
    )
    st.query_params["iter"] = str(iteration)
    batch = query_or_error(run_page_query, "batch_decisions", run=run_id, iter=iteration, on_rank=0)
    if batch is None:
        return
    if not batch.table.num_rows:
        st.info("No decisions at this iteration.")
        return
    section("Decisions about this batch", "Select a row to open the decision.")
    selected = query_table(
        batch,
        f"batch-{run_id}-{iteration}",
        columns=CHAIN_COLUMNS,
        selectable=True,
        alt="Decisions in the order of the chain.",
    )
    if selected:
        open_decision(str(selected["decision_id"]))


def open_decision(decision_id: str) -> None:
    """Open the page of a decision."""
    st.query_params["decision"] = decision_id
    st.rerun()


def sentence(row: dict[str, Any]) -> str:
    """Return the decision as text."""
    text = f"Iteration {row['iter_num']:,}: {row['plugin']} decided {row['action']}"
    text += f" because: {reason_label(row['reason_code'])}"
    observed = format_number(row["observed"])
    threshold = format_number(row["threshold"])
    margin = row["margin"]
    if margin is not None and math.isfinite(margin) and margin != 0:
        side = "below" if margin < 0 else "above"
        text += f". The value {observed} is {format_number(abs(margin))} {side} the threshold {threshold}"
    elif row["observed"] is not None:
        text += f". The value is {observed}"
        text += f", the threshold {threshold}" if row["threshold"] is not None else ""
    text += "."
    if row["shadow"]:
        text += " The plugin ran in shadow mode, so nothing changed."
    if row["superseded"]:
        text += " A later attempt resumed from an earlier iteration, so this decision is superseded."
    return text


def margin_section(row: dict[str, Any], result: TimedResult) -> None:
    """Show the observed value and the threshold, and the change that would reverse the verdict."""
    margin = row["margin"]
    if margin is None or not math.isfinite(margin):
        return
    section("Margin")
    distance = format_number(abs(margin))
    if row["threshold"]:
        direction = "lower" if margin < 0 else "higher"
        share = abs(margin) / abs(row["threshold"])
        st.text(
            "The value would be on the other side if the threshold were "
            f"{distance} {direction} ({share:.1%})."
        )
    else:
        st.text(f"The value is {distance} from the threshold.")
    table = result.table.select(["decision_id", "observed", "threshold", "margin"])
    chart(
        lambda: charts.bullet(row["observed"], row["threshold"]),
        result._replace(table=table),
        "bullet",
        f"Observed {format_number(row['observed'])}, threshold {format_number(row['threshold'])}.",
    )


def chain_section(row: dict[str, Any]) -> None:
    """Show all decisions about the same batch. An arrow marks this decision."""
    section("All decisions about this batch", "In the order of the chain. The arrow marks this decision.")
    batch = query_or_error(
        run_page_query, "batch_decisions", run=row["run_id"], iter=row["iter_num"], on_rank=row["rank"]
    )
    if batch is None:
        return
    ids = batch.table["decision_id"].to_pylist()
    marks = ["→" if decision_id == row["decision_id"] else "" for decision_id in ids]
    data_table(
        batch.table.select(list(CHAIN_COLUMNS)).add_column(0, "this", pa.array(marks)),
        "chain",
        alt="Decisions in the order of the chain.",
    )
    query_details(batch, "chain")


def checkpoint_section(decision_id: str) -> None:
    """Show the checkpoints that the decision accepted, with a link to their files."""
    result = query_or_error(run_page_query, "decision_checkpoints", id=decision_id)
    for row in result.rows() if result is not None else ():
        pruned = ", pruned" if row["pruned"] else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(
                f"Checkpoint {row['snapshot_id']}{pruned}, SHA-256 of the weights {row['weights_sha256']}",
                width="content",
            )
            parameters = {"run": row["run_id"], "checkpoint": row["snapshot_id"]}
            st.page_link("screens/checkpoints.py", label="Show its files", query_params=parameters)


def neighbour_links(row: dict[str, Any]) -> None:
    """Show buttons for the previous and next decision, for the run, and for another decision."""
    result = query_or_error(run_page_query, "adjacent_decisions", id=row["decision_id"], run=row["run_id"])
    adjacent = next(iter(result.rows()), {}) if result is not None else {}
    columns = st.columns(4)
    for column, label, key, shortcut in (
        (columns[0], "Previous", "before", "k"),
        (columns[1], "Next", "after", "j"),
    ):
        disabled = adjacent.get(key) is None
        if column.button(label, disabled=disabled, key=key, shortcut=shortcut, width="stretch"):
            open_decision(str(adjacent[key]))
    iteration = row["iter_num"]
    if columns[2].button("Show in run", key="in-run", width="stretch"):
        limits = {"from": str(max(0, iteration - 50)), "to": str(iteration + 50)}
        st.switch_page("screens/run.py", query_params={"run": row["run_id"], **limits})
    if columns[3].button("Other decision", key="another", width="stretch"):
        del st.query_params["decision"]
        st.query_params.update({"run": row["run_id"], "iter": str(iteration)})
        st.rerun()


def provenance_text(row: dict[str, Any]) -> str:
    """Return where the decision is stored, with policy and code, as lines of text."""
    changed = " (with local changes)" if row["git_changed"] else ""
    return "\n".join(
        [
            f"decision   {row['decision_id']}",
            f"run        {row['run_id']}, attempt {row['attempt']}, rank {row['rank']}",
            f"time       {row['time']:%Y-%m-%d %H:%M:%S.%f} UTC",
            f"policy     {row['policy_revision']}",
            f"code       commit {row['git_commit'] or 'unknown'}{changed}",
            f"log        log/{row['attempt']}-{row['rank']}/, sequence {row['sequence']}",
        ]
    )


def evidence_section(row: dict[str, Any]) -> DecisionEvidence:
    """Show whether the decision is evidence, and return the result of the check."""
    found = check_decision(row)
    if found.state == "verified":
        st.success(f"Verified. {found.message}", icon=":material/check:")
    elif found.state == "verification failed":
        st.error("Verification failed. This decision is not evidence.", icon=":material/error:")
        st.code(found.message, language=None, wrap_lines=True)
    else:
        st.warning(f"{found.state.capitalize()}. {found.message}", icon=":material/warning:")
    return found


def proof_section(row: dict[str, Any], evidence: DecisionEvidence) -> None:
    """Show provenance, inclusion proof and citing decision records."""
    section("Provenance and proof")
    st.code(provenance_text(row), language=None, wrap_lines=True)
    if evidence.state == "verified":
        _show_proof(row)
    else:
        st.caption(f"No proof: {evidence.state}.")
    citations = query_or_error(run_page_query, "citations", id=row["decision_id"])
    if citations is not None:
        records = ", ".join(f"{citation['odr_id']} ({citation['side']})" for citation in citations.rows())
        st.text(f"Cited by: {records or 'no decision record'}")


def _show_proof(row: dict[str, Any]) -> None:
    name = f"{row['decision_id']}.proof"
    try:
        folder = RunFolder(runs_folder(), row["run_id"])
        proof = prove_inclusion(folder, row["attempt"], row["rank"], row["sequence"])
    except OckhamError as error:
        st.caption("No proof: the run has changed.")
        st.code(str(error), language=None)
    else:
        st.download_button("Proof (C2SP tlog-proof)", proof, name, key="proof", on_click="ignore")
        st.code(f"ockham prove --check {name} --key VERIFIER_KEY", language="bash", wrap_lines=True)


def decision_page(requested: str) -> None:
    """Show the page of one decision."""
    result = None
    if DECISION_ID.fullmatch(requested):
        result = query_or_error(run_page_query, "decision", id=requested)
    rows = result.rows() if result is not None else []
    if result is None or not rows:
        unknown_decision_page(requested)
        return
    row = rows[0]
    page_header(QUESTION, sentence(row))
    evidence = evidence_section(row)
    if row["meaning"]:
        st.text(row["meaning"])
    checkpoint_section(row["decision_id"])
    neighbour_links(row)
    margin_section(row, result)
    chain_section(row)
    if row["numbers"]:
        section("Input values")
        names, values = zip(*row["numbers"], strict=True)
        table = pa.table({"name": pa.array(names), "value": pa.array(values, pa.float64())})
        data_table(table, "numbers", width=420)
    proof_section(row, evidence)
    glossary_line("decision", "reason code", "chain", "knob", "shadow", "tree head")


def unknown_decision_page(requested: str) -> None:
    """Show that the decision in the URL does not exist, with similar IDs."""
    page_header(QUESTION, "The decision in this URL was not found.")
    st.code(requested[:200], language=None)
    prefix = requested[:ID_PREFIX_CHARACTERS].lower()
    similar = query_or_error(run_page_query, "decisions_by_id_prefix", beginning=prefix)
    if similar is not None and similar.table.num_rows:
        st.text("Decisions with a similar ID:")
        data_table(similar.table, "near")


requested_id = st.query_params.get("decision")
if requested_id is None:
    search_page()
else:
    decision_page(requested_id)
