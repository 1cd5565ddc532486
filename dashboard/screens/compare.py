"""In what do two runs differ?"""

from __future__ import annotations

import getpass
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.data_source import TimedResult, odr_folder, query_or_error, run_page_query, runs_folder
from dashboard.layout import chart, page_header, query_details, section, select_run
from dashboard.tables import RATES, data_table, query_table
from ockham.errors import OckhamError
from ockham.formatting import today
from ockham.odr.pinning import measure_default_constraints, pin_sides
from ockham.odr.template import render_record

QUESTION = "In what do two runs differ?"
run_id = select_run()
other = select_run("vs") if run_id else None
if run_id is None or other is None:
    st.stop()
assert run_id is not None
assert other is not None


def text(name: str, value: Any) -> str:
    """A value as a cell."""
    if value is None:
        return "-"
    if name in RATES:
        return f"{value:.1%}"
    return (
        f"{value:.5g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int) and name != "seed"
        else str(value)
    )


def format_difference(name: str, one: Any, two: Any) -> str:
    """How far this run is from the other; a word where there is no number."""
    if one == two:
        return ""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, two)) or name == "seed":
        return "differs"
    if name in RATES:
        return f"{100 * (one - two):+.1f} points"
    return f"{one - two:+,.5g}" + (f" ({one / two - 1:+.1%})" if two else "")


def sentence(one: dict[str, Any], two: dict[str, Any]) -> str:
    """Which is better, and whether that can be said."""
    same = one["data_sha256"] == two["data_sha256"]
    mine, theirs = one["best_val_loss"], two["best_val_loss"]
    if mine is None or theirs is None:
        return "One of them has no validation loss yet."
    if mine == theirs:
        told = f"Both come to a validation loss of {mine:.4f}"
    else:
        better, low, high = (one, mine, theirs) if mine < theirs else (two, theirs, mine)
        told = f"{better['run_id']} comes to the lower validation loss: {low:.4f} against {high:.4f}"
    return told + (
        "; no digest of the data is recorded, so the losses may not compare."
        if one["data_sha256"] is None and same
        else "; the data are the same."
        if same
        else "; the data are NOT the same, so the losses do not compare."
    )


def table(both: TimedResult, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Facts side by side, those that differ first."""
    fields = sorted(
        (name for name in both.table.column_names if name != "run_id"), key=lambda f: one[f] == two[f]
    )
    data_table(
        pa.table({"fact": [f.replace("_", " ") for f in fields], f"this: {one['run_id']}": [text(f, one[f]) for f in fields],
                  f"other: {two['run_id']}": [text(f, two[f]) for f in fields], "this minus other": [format_difference(f, one[f], two[f]) for f in fields]}),
        "fields", height="content", alt="Facts of both runs, those that differ first.",
    )  # fmt: skip
    query_details(both, "compare")


def gates(run: str, baseline: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Where the gates of two runs on the same batches disagreed."""
    section("Did the gates agree?", "Verdicts on the batches that both have, side by side.")
    if one["data_sha256"] is None and two["data_sha256"] is None:
        st.text("It cannot be said: no digest of the data is recorded, so the batches need not be the same.")
        return
    if one["data_sha256"] != two["data_sha256"] or one["seed"] != two["seed"]:
        st.text("It cannot be said: with other data or another seed the batches are not the same.")
        return
    found = query_or_error(run_page_query, "disagreement", run=run, other=baseline)
    if found is None or not found.table.num_rows:
        return
    rows = found.rows()
    alike = sum(row["share"] for row in rows if row["this_run"] == row["other_run"])
    apart_from = min((row["first_iter"] for row in rows if row["this_run"] != row["other_run"]), default=None)
    st.text(
        f"They agreed on {alike:.1%} of {sum(row['batches'] for row in rows):,} batches"
        + (
            f"; the first that they judged differently is iteration {apart_from:,}."
            if apart_from is not None
            else "."
        )
    )
    query_table(found, "disagreement", alt="Batches by the verdicts of both runs.")


def draft_record_form(run: str, baseline: str) -> None:
    """A decision record with both runs as evidence, and measured values."""
    section(
        "Keep the answer",
        f"A decision record with {baseline} as baseline and {run} as candidate; logs pinned, values measured.",
    )
    title = st.text_input(
        "What is decided, on one line", f"Take {run} instead of {baseline}", key="title", max_chars=120
    )
    if st.button("Draft an ODR from this", type="primary", key="draft"):
        try:
            with st.spinner("Pinning the logs and measuring"):
                sides = pin_sides(runs_folder(), baseline, run)
                made = render_record(
                    "ODR-0000",
                    title,
                    [getpass.getuser()],
                    today(),
                    sides=sides,
                    constraints=measure_default_constraints(sides, runs_folder()),
                )
        except OckhamError as error:
            st.error("No draft could be made.", icon=":material/error:")
            st.code(str(error), language=None)
        else:
            st.code(made, language="yaml")
            st.download_button(
                "Markdown", made, "0000-draft.md", "text/markdown", key="markdown", on_click="ignore"
            )
    st.caption("Or let it be written under the next free number:")
    quoted = "'" + title.replace("'", "'\\''") + "'"
    st.code(
        f"ockham --runs {runs_folder()} odr new {quoted} --dir {odr_folder()} --baseline {baseline} --candidate {run}",
        language="bash",
        wrap_lines=True,
    )


def page(run: str, baseline: str) -> None:
    """The page."""
    if run == baseline:
        page_header(
            QUESTION,
            "Choose another run at the left to set beside this one; if there is none, train one with another policy.",
        )
        return
    both = query_or_error(run_page_query, "compare", run=run, other=baseline)
    rows = both.rows() if both is not None else []
    if both is None or len(rows) != 2:
        page_header(QUESTION, "One of them has nothing to compare yet.")
        return
    page_header(QUESTION, sentence(*rows))
    table(both, *rows)
    losses, policy = (
        query_or_error(run_page_query, "loss_comparison", run=run, other=baseline),
        query_or_error(run_page_query, "policy_differences", run=run, other=baseline),
    )
    if losses is not None:
        section("Validation loss")
        chart(
            lambda: charts.loss_comparison(losses.table, [run, baseline]),
            losses,
            "overlay",
            "Validation losses of both runs at their evaluations.",
        )
    if policy is not None:
        section("Policy", "Settings that differ.")
        if policy.table.num_rows:
            data_table(policy.table, "policy", alt="Settings that differ.")
        else:
            st.text("The same policy, setting by setting.")
        query_details(policy, "policy")
    gates(run, baseline, *rows)
    draft_record_form(run, baseline)


page(run_id, other)
