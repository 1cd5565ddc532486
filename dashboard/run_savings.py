"""What the chosen runs saved up to the quality of a baseline run, and the means of their groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.data_source import TimedResult, query_or_error, run_page_query
from dashboard.layout import chart, section
from dashboard.run_groups import SHARES, group_rows, group_savings
from dashboard.style import UPDATE, themed, tooltips
from dashboard.tables import data_table, query_table

# The same tolerance as `ockham roi --against`.
QUALITY_MARGIN = 0.01
# A baseline updates on nearly every batch.
MIN_BASELINE_UPDATE_RATE = 0.99
VERDICTS = {
    "BASELINE": "baseline",
    "GROSS": "not checked: no quality floor",
    "OTHER_DATA": "does not count: other or unknown data",
    "NOTHING_SAVED": "does not count: the floor was not reached",
    "FLOOR_REACHED": "floor reached; no comparison with a baseline",
    "SAVED": "counts",
    "LOST": "floor reached, but NOT with less compute than the baseline",
}
MAX_GROUPS_NAMED = 5


class SavingsInputs(NamedTuple):
    """Inputs of the query: baseline run, quality floor and price of a device hour."""

    baseline: str = ""
    quality_floor: float | None = None
    price: float | None = None

    def parameters(self, runs: Sequence[str]) -> dict[str, Any]:
        """Return the parameters of the page query `workbench_savings`."""
        return {**self._asdict(), "runs": tuple(runs), "margin": QUALITY_MARGIN}


def default_baseline(table: pa.Table, chosen: Sequence[str]) -> str | None:
    """Return the newest completed run with the data of most chosen runs that updated on every batch.

    Args:
        table: All runs, the newest first.
        chosen: IDs of the chosen runs.

    """
    rows = table.select(["run_id", "state", "data_sha256", "update_rate", "best_val_loss"]).to_pylist()
    digests = [row["data_sha256"] for row in rows if row["run_id"] in set(chosen) and row["data_sha256"]]
    data = max(digests, key=digests.count, default=None)
    return next(
        (
            str(row["run_id"])
            for row in rows
            if row["state"] == "COMPLETED"
            and data is not None
            and row["data_sha256"] == data
            and (row["update_rate"] or 0) >= MIN_BASELINE_UPDATE_RATE
            and row["best_val_loss"] is not None
        ),
        None,
    )


def show_inputs(table: pa.Table, chosen: Sequence[str]) -> SavingsInputs:
    """Show the inputs, and return their values. The address contains them.

    Args:
        table: All runs, the newest first.
        chosen: IDs of the chosen runs.

    """
    first, second, third = st.columns([3, 2, 2])
    names = table["run_id"].to_pylist()
    default = default_baseline(table, chosen)
    baseline = first.selectbox(
        "Baseline run",
        names,
        index=None if default is None else names.index(default),
        key="baseline",
        placeholder="none",
        bind="query-params",
        help="A run that updates on every batch. Its best loss + 0.01 is the quality floor. "
        "Default: the newest such run with the data of most chosen runs.",
    )
    limits: dict[str, Any] = {"min_value": 0.0, "value": None, "bind": "query-params"}
    quality_floor = second.number_input(
        "Quality floor (loss)", key="floor", format="%.4f", placeholder="from the baseline", **limits
    )
    price = third.number_input("Price per device hour", key="price", placeholder="any currency", **limits)
    return SavingsInputs(baseline or "", quality_floor, price)


def current_inputs(table: pa.Table, chosen: Sequence[str]) -> SavingsInputs:
    """Return the inputs that the address contains, with the default baseline.

    Args:
        table: All runs, the newest first.
        chosen: IDs of the chosen runs.

    """
    requested = st.query_params.get("baseline")
    if requested not in table["run_id"].to_pylist():
        requested = default_baseline(table, chosen)
    return SavingsInputs(
        requested or "", *(_parse_limit(st.query_params.get(key)) for key in ("floor", "price"))
    )


def _parse_limit(text: str | None) -> float | None:
    """Return a number from the address. None if it is not a number of at least 0."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def savings_section(
    table: pa.Table, chosen: Sequence[str], group_by: str, tags: Mapping[str, Sequence[str]]
) -> None:
    """Show the savings of groups and runs at equal quality.

    Args:
        table: All runs, the newest first.
        chosen: IDs of the chosen runs.
        group_by: One of `dashboard.run_groups.GROUPS`.
        tags: Run ID -> tags.

    """
    section("Savings at equal quality")
    inputs = show_inputs(table, chosen)
    result = query_or_error(run_page_query, "workbench_savings", **inputs.parameters(chosen))
    if result is None:
        return
    rows = result.rows()
    groups = group_savings(group_rows(rows, group_by, tags), group_by)
    st.text(savings_sentence(groups, rows, inputs, group_by))
    st.caption(
        "Mean share of the baseline's compute up to the floor, over the runs that reach it, with its 95 % "
        "interval (Student's t). Runs that miss the floor have no savings."
    )
    data_table(without_empty(groups), "groups", height="content", alt="Mean saving of each group.")
    known = groups.filter(pc.is_valid(groups[SHARES[0]]))
    if known.num_rows:
        shown = TimedResult(known, result.sql, result.parameters, result.seconds)
        chart(lambda: group_chart(known, group_by), shown, "group-savings", "Mean saving of each group.")
    section("Runs")
    noise = sum(bool(row["timing_noise"]) for row in rows)
    if noise:
        st.caption(
            f"{noise:,} of {len(rows):,} runs: measured time saved is above what skipping can save. The "
            "difference is timing noise, so use the estimate (compute saved)."
        )
    query_table(result._replace(table=run_table(result.table)), "savings", alt="Savings of each run.")


def savings_sentence(
    groups: pa.Table, rows: Sequence[Mapping[str, Any]], inputs: SavingsInputs, group_by: str
) -> str:
    """Return the answer: the floor, and the mean saving of the groups, the highest first."""
    floor = next((row["quality_floor"] for row in rows if row["quality_floor"] is not None), None)
    if floor is None:
        return "Choose a baseline run or a quality floor. Without one, no saving counts."
    origin = "as given"
    if inputs.quality_floor is None:
        origin = f"best of {inputs.baseline} + {QUALITY_MARGIN}"
    text = f"Quality floor: loss {floor:.4f} ({origin})."
    if not inputs.baseline:
        return f"{text} Choose a baseline run to compare the compute up to it."
    known = [row for row in groups.to_pylist() if row["runs"]]
    known.sort(key=lambda row: -_sort_value(row[SHARES[0]]))
    parts = [_group_clause(row, group_by) for row in known[:MAX_GROUPS_NAMED]]
    if len(known) > MAX_GROUPS_NAMED:
        parts.append(f"{len(known) - MAX_GROUPS_NAMED:,} more in the table")
    return f"{text} Saved up to it: {'; '.join(parts)}." if parts else text


def _sort_value(value: float | None) -> float:
    """Return the value, or a number below all shares."""
    return -1e9 if value is None else value


def _group_clause(row: Mapping[str, Any], group_by: str) -> str:
    reached = f"{row['runs_that_count']:,} of {row['runs']:,} runs reach it"
    mean, low, high = (row[name] for name in SHARES)
    if mean is None:
        return f"{row[group_by]} nothing ({reached})"
    interval = "" if low is None else f"{100 * low:.1f} to {high:.1%}, "
    return f"{row[group_by]} {mean:.1%} ({interval}{reached})"


def run_table(table: pa.Table) -> pa.Table:
    """Return the rows as the page shows them, with the verdict and timing noise in words."""
    words = pa.array([VERDICTS[verdict] for verdict in table["verdict"].to_pylist()], pa.string())
    noise = pa.array(["timing noise" if row else None for row in table["timing_noise"].to_pylist()])
    names = table.column_names
    table = table.set_column(names.index("verdict"), "savings", words)
    table = table.set_column(names.index("timing_noise"), "time_note", noise.cast(pa.string()))
    return without_empty(table.drop_columns(["policy_revision", "quality_floor"]))


def without_empty(table: pa.Table) -> pa.Table:
    """Return the table without columns of money and notes that have no value."""
    optional = ("compute_money_saved", "time_note")
    return table.drop_columns(
        [n for n in optional if n in table.column_names and not any(table[n].to_pylist())]
    )


def group_chart(groups: pa.Table, group_by: str) -> alt.LayerChart:
    """Return the mean saving of each group with its interval."""
    base = alt.Chart(groups).encode(y=alt.Y(f"{group_by}:N", title=None, sort="-x"))
    title = "compute saved up to the quality floor"
    x = alt.X(f"{SHARES[0]}:Q", title=title, axis=alt.Axis(format="%"))
    formats = {"runs": ",d", "runs_that_count": ",d", **dict.fromkeys(SHARES, ".1%")}
    point = base.mark_point(filled=True, size=90, color=UPDATE).encode(
        x=x, tooltip=tooltips(**{group_by: ""}, **formats)
    )
    interval = base.mark_rule(color=UPDATE).encode(x=f"{SHARES[1]}:Q", x2=f"{SHARES[2]}:Q")
    themed_chart: alt.LayerChart = themed(interval + point, alt.Step(30))
    return themed_chart
