"""What was decided here, and why?"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, head, section, under
from dashboard.source import Answer, ask, or_error, runs_folder
from ockham.errors import OckhamError
from ockham.record.folder import RunFolder
from ockham.record.proof import prove

ID = re.compile(r"[0-9a-f-]{36}")
QUESTION = "What was decided here, and why?"


def number(value: float | None) -> str:
    """Six digits, or a dash."""
    return "-" if value is None else f"{value:.6g}"


def open_by_iteration() -> None:
    """Without an ID in the address: an ID to type, or an iteration to choose from."""
    head(QUESTION, "Choose an iteration, or give the ID of a decision.")
    typed = st.text_input("Decision ID", key="decision-id").strip().lower()
    if typed:
        st.query_params["decision"] = typed
        st.rerun()
    run_id = choose_run()
    if run_id is None:
        return
    start = st.query_params.get("iter", "0")
    iteration = st.number_input(
        "Iteration",
        0,
        value=int(start) if start.isascii() and start.isdigit() and len(start) < 16 else 0,
        key="iteration",
    )
    st.query_params["iter"] = str(int(iteration))
    batch = or_error(ask, "chain_of_batch", run=run_id, iter=int(iteration))
    if batch is None:
        return
    if not batch.table.num_rows:
        st.info("Nothing was decided at this iteration.")
        return
    picked = st.dataframe(
        batch.table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"batch-{run_id}-{iteration}",
    )
    st.caption("Choose a row to open the decision.")
    if picked.selection.rows:
        _go(str(batch.rows()[picked.selection.rows[0]]["decision_id"]))


def _go(decision_id: str) -> None:
    st.query_params["decision"] = decision_id
    st.rerun()


def sentence(row: dict[str, Any]) -> str:
    """The decision in words."""
    told = f"At iteration {row['iter_num']} {row['plugin']} said {row['action']} because {row['reason_code']}"
    if row["observed"] is not None:
        told += f": {number(row['observed'])}"
        told += f" against {number(row['threshold'])}" if row["threshold"] is not None else ""
    told += "."
    told += " It stood in shadow, so nothing changed." if row["shadow"] else ""
    return told + (" A later attempt went back before it, so it is superseded." if row["superseded"] else "")


def judged(row: dict[str, Any], found: Answer) -> None:
    """Observed against threshold, and what would have flipped it."""
    columns = st.columns(3)
    columns[0].metric("Observed", number(row["observed"]), border=True)
    columns[1].metric("Threshold", number(row["threshold"]), border=True)
    columns[2].metric("Margin", number(row["margin"]), border=True)
    if row["margin"] is None:
        return
    below = row["margin"] < 0
    st.text(
        f"With a threshold of {number(row['observed'])} or {'less' if below else 'more'} - {number(abs(row['margin']))} "
        f"{'lower' if below else 'higher'} - the value would have stood on the other side of it."
    )
    about = found.table.select(["decision_id", "observed", "threshold", "margin"])
    chart(
        lambda: charts.bullet(row["observed"], row["threshold"]), found._replace(table=about), "bullet",
        f"Observed {number(row['observed'])}, threshold {number(row['threshold'])}.",
    )  # fmt: skip


def neighbours(row: dict[str, Any]) -> None:
    """To the decisions before and after it in the log; also by the keys."""
    found = or_error(ask, "neighbours", id=row["decision_id"], run=row["run_id"])
    beside = next(iter(found.rows()), {}) if found is not None else {}
    left, middle, right = st.columns(3)
    for column, label, key, short in ((left, "Before", "before", "k"), (middle, "After", "after", "j")):
        if column.button(label, disabled=beside.get(key) is None, key=key, shortcut=short, width="stretch"):
            _go(str(beside[key]))
    if right.button("Choose another", key="another", width="stretch"):
        del st.query_params["decision"]
        st.query_params.update({"run": row["run_id"], "iter": str(row["iter_num"])})
        st.rerun()


def proven(row: dict[str, Any]) -> None:
    """Where it stands, its proof, and who cites it."""
    section("Where it stands")
    st.code("\n".join([
        f"decision   {row['decision_id']}", f"run        {row['run_id']}, attempt {row['attempt']}, rank {row['rank']}, sequence {row['sequence']}",
        f"time       {row['time']:%Y-%m-%d %H:%M:%S.%f} UTC", f"policy     {row['policy_revision']}",
        f"code       commit {row['git_commit'] or 'unknown'}{', changed since' if row['git_changed'] else ''}",
        f"log        log/{row['attempt']}-{row['rank']}/, line of sequence {row['sequence']}",
    ]), language=None)  # fmt: skip
    try:
        folder = RunFolder(runs_folder(), row["run_id"])
        proof = prove(folder, row["attempt"], row["rank"], row["sequence"])
    except OckhamError as error:
        st.caption("No proof yet: no signed tree head covers it.")
        st.code(str(error), language=None)
    else:
        st.download_button(
            "Proof (C2SP tlog-proof)", proof, f"{row['decision_id']}.proof", key="proof", on_click="ignore"
        )
        st.code(f"ockham prove --check {row['decision_id']}.proof --key VERIFIER_KEY", language="bash")
    cited = or_error(ask, "citations", id=row["decision_id"])
    if cited is not None:
        st.text(
            "Cited by: "
            + (", ".join(f"{r['odr_id']} ({r['side']})" for r in cited.rows()) or "no decision record")
        )


def one(asked: str) -> None:
    """The page of one decision."""
    found = or_error(ask, "decision", id=asked) if ID.fullmatch(asked) else None
    rows = found.rows() if found is not None else []
    if found is None or not rows:
        head(QUESTION, "The decision that this address names is not in the logs here.")
        st.code(asked[:200], language=None)
        near = or_error(ask, "decisions_near", beginning=asked[:13].lower())
        if near is not None and near.table.num_rows:
            st.text("IDs that begin alike:")
            st.dataframe(near.table, hide_index=True, key="near")
        return
    row = rows[0]
    head(QUESTION, sentence(row))
    if row["meaning"]:
        st.text(row["meaning"])
    neighbours(row)
    judged(row, found)
    section("The whole chain of this batch")
    chain = or_error(ask, "chain_of_batch", run=row["run_id"], iter=row["iter_num"])
    if chain is not None:
        st.dataframe(chain.table, hide_index=True, key="chain")
        under(chain, "chain")
    if row["numbers"]:
        section("Numbers that it rests on")
        st.dataframe(
            pa.table({"name": [k for k, _ in row["numbers"]], "value": [v for _, v in row["numbers"]]}),
            hide_index=True,
            key="numbers",
        )
    proven(row)


asked_for = st.query_params.get("decision")
if asked_for is None:
    open_by_iteration()
else:
    one(asked_for)
