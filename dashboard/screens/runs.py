"""Runs page: find runs, overlay their curves, compare them, and see what groups of them saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_page_query, runs_folder, store
from dashboard.layout import no_runs_hint, page_header, query_details
from dashboard.run_bands import bands_section
from dashboard.run_choice import choose_runs
from dashboard.run_downloads import DownloadInputs, download_buttons
from dashboard.run_equal import equal_section
from dashboard.run_figures import figures_section
from dashboard.run_filter import RunFilter, add_labels, show_filter
from dashboard.run_groups import GROUPS, group_rows
from dashboard.run_overlay import overlay_section
from dashboard.run_pair import pair_section
from dashboard.run_savings import current_inputs, savings_section
from dashboard.verifier import run_verifier
from dashboard.words import RUNS_QUESTION
from ockham.record.run_labels import read_labels

CURVES, EQUAL, SAVINGS, BANDS, PAIR, FIGURES = VIEWS = (
    "Curves",
    "Same length",
    "Savings",
    "Bands",
    "Two runs",
    "One run",
)
MAX_UNREADABLE_SHOWN = 5


def summary_sentence(table: pa.Table, shown: int, broken: int) -> str:
    """Return the answer of the page.

    Args:
        table: All runs.
        shown: Number of runs that match the filter.
        broken: Number of runs that cannot be read.

    """
    count = table.num_rows
    parts = ["1 run" if count == 1 else f"{count:,} runs"]
    if unfinished := table["state"].to_pylist().count("UNFINISHED"):
        parts.append(f"{unfinished:,} unfinished")
    if broken:
        parts.append(f"{broken:,} unreadable")
    flagged = {row["run_id"] for row in table.to_pylist() if row["attention"]}
    flagged |= {*store().broken, *run_verifier().broken()}
    need = {0: "none need", 1: "1 needs"}.get(len(flagged), f"{len(flagged):,} need")
    states = run_verifier().states(table["run_id"].to_pylist()).values()
    waiting = sum(not state.is_broken and not state.is_current for state in states)
    logs = "1 log is" if waiting == 1 else f"{waiting:,} logs are"
    so_far = f"; {logs} not verified yet" if waiting else ""
    text = f"{', '.join(parts)}; {need} attention{so_far}."
    return text if shown == count else f"{text} {shown:,} match the filter."


def show_unreadable() -> None:
    """Show the runs that cannot be read, which no table contains."""
    broken = sorted(store().broken.items())
    for run_id, error in broken[:MAX_UNREADABLE_SHOWN]:
        st.error("This run cannot be read. All pages omit it:", icon=":material/error:")
        st.code(f"{run_id}: {error}"[:600], language=None, wrap_lines=True)
    if len(broken) > MAX_UNREADABLE_SHOWN:
        st.text(f"and {len(broken) - MAX_UNREADABLE_SHOWN:,} more that cannot be read")


def filtered_result(result: TimedResult, table: pa.Table, found: RunFilter) -> TimedResult:
    """Return the matching runs with the SQL of the filter. Labels of the ledger are columns of `runs`."""
    query = result.sql.strip()
    sql = f"with runs as (\n{query}\n)\nselect * from runs where {found.condition}"
    return TimedResult(table, sql, {**found.parameters}, result.seconds)


def show_view(
    table: pa.Table, chosen: Sequence[str], tags: Mapping[str, Sequence[str]], condition: str
) -> None:
    """Show the downloads and one view of the chosen runs.

    Args:
        table: All runs, with labels.
        chosen: IDs of the chosen runs.
        tags: Run ID -> tags.
        condition: SQL condition of the filter.

    """
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    view = left.segmented_control(
        "View", VIEWS, default=CURVES, key="view", required=True, bind="query-params"
    )
    group_by = right.segmented_control(
        "Group by", GROUPS, default=GROUPS[0], key="group", required=True, bind="query-params"
    )
    group_by = group_by or GROUPS[0]
    rows = table.filter(pc.is_in(table["run_id"], pa.array(chosen)))
    inputs = current_inputs(table, chosen)
    basis = st.query_params.get("basis", "iterations")
    download_buttons(DownloadInputs(rows, condition, group_by, tags, inputs, basis))
    if view == EQUAL:
        equal_section(chosen, group_by, tags)
    elif view == SAVINGS:
        savings_section(table, chosen, group_by, tags)
    elif view == BANDS:
        bands_section(chosen)
    elif view == PAIR:
        pair_section(chosen)
    elif view == FIGURES:
        figures_section(chosen, inputs)
    else:
        groups = group_rows(rows.to_pylist(), group_by, tags)
        overlay_section(chosen, {name: [row["run_id"] for row in part] for name, part in groups.items()})


def page() -> None:
    """Show the page."""
    result = query_or_error(run_page_query, "workbench")
    if result is None:
        page_header(RUNS_QUESTION, "The runs cannot be read.")
        return
    broken = store().broken
    if not result.table.num_rows:
        page_header(RUNS_QUESTION, "No run can be read." if broken else "No runs yet.")
        show_unreadable()
        if not broken:
            no_runs_hint()
        return
    table = add_labels(result.table, read_labels(runs_folder()))
    output = st.container()
    found = show_filter(table)
    shown = found.apply(table)
    with output:
        page_header(RUNS_QUESTION, summary_sentence(table, shown.num_rows, len(broken)))
        show_unreadable()
    if not found.is_empty:
        st.code(f"where {found.condition}", language="sql", wrap_lines=True)
    if not shown.num_rows:
        st.text("No run matches the filter.")
        return
    chosen = choose_runs(shown)
    query_details(filtered_result(result, shown, found), "workbench")
    if not chosen:
        st.text("Choose runs at the left of the table, or with a button, to compare them.")
        return
    tags = dict(zip(table["run_id"].to_pylist(), table["tags"].to_pylist(), strict=True))
    show_view(table, chosen, tags, found.condition)


page()
