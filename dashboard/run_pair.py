"""Two runs in detail: settings, figures, policies, gates, and a draft of a decision record."""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.data_source import TimedResult, odr_folder, query_or_error, run_page_query, runs_folder
from dashboard.layout import query_details, section
from dashboard.tables import RATE_COLUMNS, data_table, query_table
from ockham.errors import OckhamError
from ockham.formatting import today
from ockham.odr.pinning import measure_constraints, pin_sides
from ockham.odr.template import DEFAULT_CONSTRAINTS, NewRecord, render_record

Row = dict[str, Any]


def format_value(name: str, value: Any) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return "-"
    if name in RATE_COLUMNS:
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and name != "seed":
        return f"{value:,}"
    return str(value)


def format_difference(name: str, value: Any, other: Any) -> str:
    """Return *value* minus *other* as text. Values that are not numbers give `differs`."""
    if value == other:
        return ""
    if name == "seed" or not (_is_number(value) and _is_number(other)):
        return "differs"
    if name in RATE_COLUMNS:
        return f"{100 * (value - other):+.1f} points"
    difference = f"{value - other:+,.5g}"
    return f"{difference} ({value / other - 1:+.1%})" if other else difference


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def facts_table(result: TimedResult, row: Row, other: Row) -> None:
    """Show the facts of both runs. Facts that differ are first."""
    names = [name for name in result.table.column_names if name != "run_id"]
    names.sort(key=lambda name: row[name] == other[name])
    table = pa.table(
        {
            "fact": [name.replace("_", " ") for name in names],
            f"this: {row['run_id']}": [format_value(name, row[name]) for name in names],
            f"other: {other['run_id']}": [format_value(name, other[name]) for name in names],
            "this minus other": [format_difference(name, row[name], other[name]) for name in names],
        }
    )
    data_table(table, "fields", height="content", alt="Facts of both runs. Facts that differ are first.")
    query_details(result, "run-pair")


def agreement_section(run: str, baseline: str, row: Row, other: Row) -> None:
    """Show the batches on which the gates of both runs disagree."""
    section("Gate agreement", "Verdicts of both gates on the batches that both runs have.")
    if row["data_sha256"] is None and other["data_sha256"] is None:
        st.text("Not available: the runs have no data digest, so their batches may differ.")
        return
    if row["data_sha256"] != other["data_sha256"] or row["seed"] != other["seed"]:
        st.text("Not available: the runs have different data or seeds, so their batches differ.")
        return
    result = query_or_error(run_page_query, "disagreement", run=run, other=baseline)
    if result is None or not result.table.num_rows:
        return
    rows = result.rows()
    agreement = sum(part["share"] for part in rows if part["this_run"] == part["other_run"])
    batches = sum(part["batches"] for part in rows)
    text = f"The gates agree on {agreement:.1%} of {batches:,} batches"
    first = min((part["first_iter"] for part in rows if part["this_run"] != part["other_run"]), default=None)
    st.text(f"{text}." if first is None else f"{text}. The first difference is at iteration {first:,}.")
    query_table(result, "disagreement", alt="Number of batches by the verdicts of both runs.")


def draft_record_form(run: str, baseline: str) -> None:
    """Show a form that drafts a decision record with both runs as evidence."""
    section(
        "Document the decision",
        f"Drafts a decision record (ODR) with {baseline} as baseline and {run} as candidate. "
        "It pins both logs and contains measured values.",
    )
    title = st.text_input("Title", f"Use {run} instead of {baseline}", key="title", max_chars=120)
    if st.button("Draft a decision record", type="primary", key="draft"):
        show_draft(title, run, baseline)
    st.caption("This command writes the record with the next free number:")
    st.code(
        f"ockham --runs {runs_folder()} odr new {shlex.quote(title)} --odr-dir {odr_folder()} "
        f"--baseline {baseline} --candidate {run}",
        language="bash",
        wrap_lines=True,
    )


def show_draft(title: str, run: str, baseline: str) -> None:
    """Draft a decision record and show it, with a download button."""
    try:
        with st.spinner("Pinning the logs and measuring values"):
            sides = pin_sides(runs_folder(), [baseline], [run])
            constraints = measure_constraints(DEFAULT_CONSTRAINTS, sides, runs_folder())
            content = NewRecord(
                "ODR-0000", title, [getpass.getuser()], today(), sides=sides, constraints=constraints
            )
            record = render_record(content)
    except OckhamError as error:
        st.error("The decision record cannot be drafted.", icon=":material/error:")
        st.code(str(error), language=None)
        return
    st.code(record, language="yaml")
    st.download_button(
        "Markdown", record, "0000-draft.md", "text/markdown", key="markdown", on_click="ignore"
    )


def policy_section(run: str, baseline: str) -> None:
    """Show the policy settings that differ."""
    policy = query_or_error(run_page_query, "policy_differences", run=run, other=baseline)
    if policy is None:
        return
    section("Policy", "Settings that differ.")
    if policy.table.num_rows:
        data_table(policy.table, "policy", alt="Settings that differ.")
    else:
        st.text("Both runs use the same policy settings.")
    query_details(policy, "policy")


def pair_section(chosen: Sequence[str]) -> None:
    """Compare two runs. The newer one is the first."""
    section("Two runs")
    if len(chosen) != 2:
        st.text("Choose exactly two runs in the table.")
        return
    run, baseline = chosen
    result = query_or_error(run_page_query, "run_pair", run=run, other=baseline)
    rows = result.rows() if result is not None else []
    if result is None or len(rows) != 2:
        st.text("One of the runs has no data to compare yet.")
        return
    facts_table(result, *rows)
    policy_section(run, baseline)
    agreement_section(run, baseline, *rows)
    draft_record_form(run, baseline)
