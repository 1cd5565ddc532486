"""Downloads of the chosen runs: HTML report, CSV and Parquet. They are computed when they are requested."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult, store
from dashboard.header import log_label
from dashboard.layout import csv_bytes, parquet_bytes
from dashboard.run_equal import comparison_sentence, grouped_points
from dashboard.run_groups import group_rows, group_savings
from dashboard.run_overlay import MAX_LINES
from dashboard.run_savings import SavingsInputs, run_table, savings_sentence, without_empty
from dashboard.runs_report import ReportChart, report_html
from dashboard.verifier import run_verifier
from ockham.catalog.views import load_page_query

# Columns of the list of runs in the downloads, without those of the other two queries.
RUN_COLUMNS = (
    "run_id",
    "created",
    "log",
    "state",
    "policy",
    "data",
    "tags",
    "attention",
    "batches",
    "update_rate",
    "accept_rate",
    "val_loss",
    "best_val_loss",
    "last_note",
)
EQUAL_COLUMNS = ("run_id", "equal_loss", "iterations", "compute", "equal_length")


class DownloadInputs(NamedTuple):
    """What a download contains.

    Attributes:
        table: Chosen runs, with labels.
        condition: SQL condition of the filter, with its values.
        group_by: Group of the savings.
        tags: Run ID -> tags.
        savings: Inputs of the savings.
        basis: Equal length, see `dashboard.run_equal.BASES`.

    """

    table: pa.Table
    condition: str
    group_by: str
    tags: Mapping[str, Sequence[str]]
    savings: SavingsInputs
    basis: str

    @property
    def chosen(self) -> list[str]:
        """IDs of the chosen runs."""
        return [str(name) for name in self.table["run_id"].to_pylist()]


def download_buttons(inputs: DownloadInputs) -> None:
    """Show the buttons."""
    files: tuple[tuple[str, str, str | None, Callable[[], bytes]], ...] = (
        ("HTML report", "runs.html", "text/html", lambda: make_report(inputs)),
        ("CSV", "runs.csv", "text/csv", lambda: csv_bytes(joined_result(inputs))),
        ("Parquet", "runs.parquet", None, lambda: parquet_bytes(joined_result(inputs))),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text("Download the chosen runs", width="content")
        for label, name, mime, make_bytes in files:
            st.download_button(label, make_bytes, name, mime, key=f"save-{name}", on_click="ignore")


def joined_result(inputs: DownloadInputs) -> TimedResult:
    """Return one row per chosen run: figures, comparison at equal length, and savings."""
    equal, savings = _query(inputs)
    table = run_columns(inputs)
    kept = ["policy", "data", "best_val_loss"]
    for other in (equal.select(EQUAL_COLUMNS), run_table(savings).drop_columns(kept)):
        table = table.join(other, "run_id", join_type="left outer", use_threads=False)
    parameters = {**inputs.savings.parameters(inputs.chosen), "basis": inputs.basis}
    return TimedResult(table, f"runs where {inputs.condition}", parameters, 0.0)


def make_report(inputs: DownloadInputs) -> bytes:
    """Return the HTML report."""
    equal, savings = _query(inputs)
    rows = savings.to_pylist()
    groups = group_savings(group_rows(rows, inputs.group_by, inputs.tags), inputs.group_by)
    count = inputs.table.num_rows
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"
    noun = "run" if count == 1 else "runs"
    sentences = [
        f"{count:,} {noun}, {now}. Filter: {inputs.condition}.",
        verification_sentence(inputs.chosen),
        savings_sentence(groups, rows, inputs.savings, inputs.group_by),
        comparison_sentence(equal.to_pylist(), inputs.basis),
    ]
    tables = [
        ("Savings per group, at equal quality", without_empty(groups)),
        ("Savings per run", run_table(savings)),
        (f"After the same {inputs.basis}", equal.select(EQUAL_COLUMNS)),
        ("Runs", run_columns(inputs)),
    ]
    return report_html("Training runs", sentences, _charts(inputs, equal), tables)


def verification_sentence(chosen: Sequence[str]) -> str:
    """Return how many logs are verified, and which are not intact."""
    states = run_verifier().states(chosen)
    verified = sum(state.status == "verified" and state.is_current for state in states.values())
    text = f"{verified:,} of {len(states):,} logs are verified."
    broken = [run_id for run_id, state in states.items() if state.is_broken]
    return f"{text} NOT INTACT: {', '.join(broken)}. Do not rely on their figures." if broken else text


def run_columns(inputs: DownloadInputs) -> pa.Table:
    """Return the chosen runs with the columns of a download. Lists are text."""
    states = run_verifier().states(inputs.chosen)
    logs = pa.array([log_label(states[name]) for name in inputs.chosen], pa.string())
    table = inputs.table.append_column("log", logs).select(RUN_COLUMNS)
    for name, separator in (("tags", " "), ("attention", "; ")):
        texts = pa.array([separator.join(values) for values in table[name].to_pylist()], pa.string())
        table = table.set_column(table.column_names.index(name), name, texts)
    return table


def _charts(inputs: DownloadInputs, equal: pa.Table) -> list[ReportChart]:
    shown = inputs.chosen[:MAX_LINES]
    [table] = _run_queries([("workbench_curves", {"runs": tuple(shown)})])
    losses = table.filter(table["is_evaluation"])
    curves = {}
    for name in shown:
        points = losses.filter(pc.equal(losses["run_id"], name))
        curves[name] = points["iter"].to_pylist(), points["val_loss"].to_pylist()
    points = grouped_points(equal, inputs.group_by, inputs.tags)
    costs = {}
    for name in sorted(set(points["group"].to_pylist())):
        part = points.filter(pc.equal(points["group"], name))
        costs[name] = part["compute"].to_pylist(), part["equal_loss"].to_pylist()
    title = "Validation loss"
    if len(shown) < len(inputs.chosen):
        title += f" of the first {MAX_LINES} of {len(inputs.chosen):,} runs"
    return [
        ReportChart(title, "iteration", "nats/token", curves),
        ReportChart("Cost and quality", "compute, in forward passes", "nats/token", costs, points=True),
    ]


def _query(inputs: DownloadInputs) -> tuple[pa.Table, pa.Table]:
    runs = tuple(inputs.chosen)
    equal, savings = _run_queries(
        [
            ("workbench_equal", {"runs": runs, "basis": inputs.basis}),
            ("workbench_savings", inputs.savings.parameters(runs)),
        ]
    )
    return equal, savings


def _run_queries(queries: Sequence[tuple[str, dict[str, Any]]]) -> list[pa.Table]:
    """Run page queries. A download has no session, so it has a snapshot of its own."""
    snapshot = store().snapshot()
    try:
        return [snapshot.catalog.sql(load_page_query(name).sql, values) for name, values in queries]
    finally:
        snapshot.catalog.close()
