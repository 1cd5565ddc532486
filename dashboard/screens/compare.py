"""In what do two runs differ?"""

from __future__ import annotations

import getpass
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard import charts
from dashboard.frame import chart, choose_run, head, section, under
from dashboard.source import Answer, ask, odr_folder, or_error, runs_folder
from ockham.cli.odr_options import today
from ockham.errors import OckhamError
from ockham.odr.draft import draft
from ockham.odr.measure import measured_defaults, pinned_sides

QUESTION = "In what do two runs differ?"
run_id = choose_run()
other = choose_run("vs") if run_id else None
if run_id is None or other is None:
    st.stop()
assert run_id is not None
assert other is not None


def text(value: Any) -> str:
    """A value as a cell."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


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
        "; the data are the same." if same else "; the data are NOT the same, so the losses do not compare."
    )


def table(both: Answer, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Facts side by side, those that differ first."""
    fields = sorted(
        (name for name in both.table.column_names if name != "run_id"), key=lambda f: one[f] == two[f]
    )
    st.dataframe(
        pa.table({"": [f.replace("_", " ") for f in fields], one["run_id"]: [text(one[f]) for f in fields],
                  f"{two['run_id']} ": [text(two[f]) for f in fields], "differs": ["yes" if one[f] != two[f] else "" for f in fields]}),
        hide_index=True, key="fields", height=320,
    )  # fmt: skip
    under(both, "compare")


def keep(run: str, baseline: str) -> None:
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
                sides = pinned_sides(runs_folder(), baseline, run)
                made = draft(
                    "ODR-0000",
                    title,
                    [getpass.getuser()],
                    today(),
                    sides=sides,
                    constraints=measured_defaults(sides, runs_folder()),
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
    )


def page(run: str, baseline: str) -> None:
    """The page."""
    if run == baseline:
        head(QUESTION, "Choose another run to set beside this one.")
        return
    both = or_error(ask, "compare", run=run, other=baseline)
    rows = both.rows() if both is not None else []
    if both is None or len(rows) != 2:
        head(QUESTION, "One of them has nothing to compare yet.")
        return
    head(QUESTION, sentence(*rows))
    table(both, *rows)
    losses, policy = (
        or_error(ask, "overlay", run=run, other=baseline),
        or_error(ask, "policy_differences", run=run, other=baseline),
    )
    if losses is not None:
        section("Validation loss")
        chart(
            lambda: charts.overlay(losses.table),
            losses,
            "overlay",
            "Validation losses of both runs at their evaluations.",
        )
    if policy is not None:
        section("Policy", "Settings that differ.")
        if policy.table.num_rows:
            st.dataframe(policy.table, hide_index=True, key="policy")
        else:
            st.text("The same policy, setting by setting.")
        under(policy, "policy")
    keep(run, baseline)


page(run_id, other)
