"""What was decided here, and why?"""

from __future__ import annotations

import math
import re
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, query_or_error, run_page_query, runs_folder
from dashboard.layout import chart, page_header, query_details, section, select_run
from dashboard.metric_cards import first_row
from dashboard.tables import data_table, query_table
from ockham.errors import OckhamError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.inclusion import prove_inclusion

ID = re.compile(r"[0-9a-f-]{36}")
CHAIN = (
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
QUESTION = "What was decided here, and why?"


def number(value: float | None) -> str:
    """Five digits, or a dash."""
    return "-" if value is None else f"{value:.5g}"


def open_by_iteration() -> None:
    """Without an ID in the address: an iteration to choose from, or an ID to type."""
    page_header(QUESTION, "Choose an iteration and one of its decisions, or give the ID of a decision.")
    run_id = select_run()
    left, right = st.columns([1, 2])
    typed = right.text_input("Or the ID of a decision", key="decision-id").strip().lower()
    if typed:
        st.query_params["decision"] = typed
        st.rerun()
    if run_id is None:
        return
    asked = st.query_params.get("iter", "")
    given = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 16 else None
    last = first_row("iteration_range", run_id).get("last") or 0
    iteration = left.number_input(
        "Iteration",
        0,
        value=last if given is None else given,
        key=f"iteration-{run_id}",
        help=f"The run has 0 to {last:,}.",
    )
    st.query_params["iter"] = str(int(iteration))
    batch = query_or_error(run_page_query, "batch_decisions", run=run_id, iter=int(iteration), on_rank=0)
    if batch is None:
        return
    if not batch.table.num_rows:
        st.info("Nothing was decided at this iteration.")
        return
    section("The chain of this batch", "Choose a row to open the decision.")
    chosen = query_table(
        batch,
        f"batch-{run_id}-{iteration}",
        columns=CHAIN,
        selectable=True,
        alt="Decisions in the order of the chain.",
    )
    if chosen:
        _go(str(chosen["decision_id"]))


def _go(decision_id: str) -> None:
    st.query_params["decision"] = decision_id
    st.rerun()


def sentence(row: dict[str, Any]) -> str:
    """The decision in words."""
    told = (
        f"At iteration {row['iter_num']:,} {row['plugin']} said {row['action']} because {row['reason_code']}"
    )
    if row["margin"] is not None and math.isfinite(row["margin"]) and row["margin"] != 0:
        side = "below" if row["margin"] < 0 else "above"
        told += f": {number(row['observed'])} is {side} {number(row['threshold'])} by {number(abs(row['margin']))}"
    elif row["observed"] is not None:
        told += f": {number(row['observed'])}"
        told += f" against {number(row['threshold'])}" if row["threshold"] is not None else ""
    told += "."
    told += " It stood in shadow, so nothing changed." if row["shadow"] else ""
    return told + (" A later attempt went back before it, so it is superseded." if row["superseded"] else "")


def margin_section(row: dict[str, Any], found: TimedResult) -> None:
    """Observed against threshold, and what would have flipped it."""
    if row["margin"] is None or not math.isfinite(row["margin"]):
        return
    below = row["margin"] < 0
    section("How close it was")
    st.text(
        f"The value would lie on the other side if the threshold stood {number(abs(row['margin']))} {'lower' if below else 'higher'}, "
        f"{abs(row['margin']) / abs(row['threshold']):.1%} of it."
        if row["threshold"]
        else f"The value lies {number(abs(row['margin']))} from it."
    )
    about = found.table.select(["decision_id", "observed", "threshold", "margin"])
    chart(
        lambda: charts.bullet(row["observed"], row["threshold"]), found._replace(table=about), "bullet",
        f"Observed {number(row['observed'])}, threshold {number(row['threshold'])}.",
    )  # fmt: skip


def chain(row: dict[str, Any]) -> None:
    """All that was decided about this batch, the decision at hand marked."""
    section(
        "The whole chain of this batch",
        "In the order in which the plugins spoke; the arrow marks this decision.",
    )
    found = query_or_error(
        run_page_query, "batch_decisions", run=row["run_id"], iter=row["iter_num"], on_rank=row["rank"]
    )
    if found is None:
        return
    marks = ["→" if one == row["decision_id"] else "" for one in found.table["decision_id"].to_pylist()]
    data_table(
        found.table.select(list(CHAIN)).add_column(0, "this", pa.array(marks)),
        "chain",
        alt="Decisions in the order of the chain.",
    )
    query_details(found, "chain")


def neighbour_links(row: dict[str, Any]) -> None:
    """To the decisions before and after it in the log, also by the keys; to its run, and to another."""
    found = query_or_error(run_page_query, "adjacent_decisions", id=row["decision_id"], run=row["run_id"])
    beside = next(iter(found.rows()), {}) if found is not None else {}
    columns = st.columns(4)
    for column, label, key, short in (
        (columns[0], "Before", "before", "k"),
        (columns[1], "After", "after", "j"),
    ):
        if column.button(label, disabled=beside.get(key) is None, key=key, shortcut=short, width="stretch"):
            _go(str(beside[key]))
    at = row["iter_num"]
    if columns[2].button("In its run", key="in-run", width="stretch"):
        around = {"from": str(max(0, at - 50)), "to": str(at + 50)}
        st.switch_page("screens/run.py", query_params={"run": row["run_id"], **around})
    if columns[3].button("Choose another", key="another", width="stretch"):
        del st.query_params["decision"]
        st.query_params.update({"run": row["run_id"], "iter": str(at)})
        st.rerun()


def proof_section(row: dict[str, Any]) -> None:
    """Where it stands, its proof, and who cites it."""
    section("Where it stands")
    st.code("\n".join([
        f"decision   {row['decision_id']}", f"run        {row['run_id']}, attempt {row['attempt']}, rank {row['rank']}, sequence {row['sequence']}",
        f"time       {row['time']:%Y-%m-%d %H:%M:%S.%f} UTC", f"policy     {row['policy_revision']}",
        f"code       commit {row['git_commit'] or 'unknown'}{', changed since' if row['git_changed'] else ''}",
        f"log        log/{row['attempt']}-{row['rank']}/, line of sequence {row['sequence']}",
    ]), language=None, wrap_lines=True)  # fmt: skip
    try:
        folder = RunFolder(runs_folder(), row["run_id"])
        proof = prove_inclusion(folder, row["attempt"], row["rank"], row["sequence"])
    except OckhamError as error:
        st.caption("No proof yet: no signed tree head covers it.")
        st.code(str(error), language=None)
    else:
        st.download_button(
            "Proof (C2SP tlog-proof)", proof, f"{row['decision_id']}.proof", key="proof", on_click="ignore"
        )
        st.code(
            f"ockham prove --check {row['decision_id']}.proof --key VERIFIER_KEY",
            language="bash",
            wrap_lines=True,
        )
    cited = query_or_error(run_page_query, "citations", id=row["decision_id"])
    if cited is not None:
        st.text(
            "Cited by: "
            + (", ".join(f"{r['odr_id']} ({r['side']})" for r in cited.rows()) or "no decision record")
        )


def decision_page(asked: str) -> None:
    """The page of one decision."""
    found = query_or_error(run_page_query, "decision", id=asked) if ID.fullmatch(asked) else None
    rows = found.rows() if found is not None else []
    if found is None or not rows:
        page_header(QUESTION, "The decision that this address names is not in the logs here.")
        st.code(asked[:200], language=None)
        near = query_or_error(run_page_query, "decisions_by_id_prefix", beginning=asked[:13].lower())
        if near is not None and near.table.num_rows:
            st.text("IDs that begin alike:")
            data_table(near.table, "near")
        return
    row = rows[0]
    page_header(QUESTION, sentence(row))
    if row["meaning"]:
        st.text(row["meaning"])
    neighbour_links(row)
    margin_section(row, found)
    chain(row)
    if row["numbers"]:
        section("Numbers that it rests on")
        names, values = zip(*row["numbers"], strict=True)
        data_table(
            pa.table({"name": pa.array(names), "value": pa.array(values, pa.float64())}), "numbers", width=420
        )
    proof_section(row)


asked_for = st.query_params.get("decision")
if asked_for is None:
    open_by_iteration()
else:
    decision_page(asked_for)
