"""Filter of the page Runs: controls build a SQL condition. Typed text is only bound as a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import streamlit as st

from dashboard.words import state_name
from ockham.catalog.table_filter import filter_table
from ockham.record.run_labels import RunLabels

# Parameter -> condition on the table of runs. Only these texts become SQL.
CONDITIONS = {
    "words": (
        "exists (select 1 from (select unnest($words) as word) "
        "where contains(lower(concat_ws(' ', run_id, name)), lower(word)))"
    ),
    "policies": "list_contains($policies, policy)",
    "states": "list_contains($states, state)",
    "datasets": "list_contains($datasets, data)",
    "tags": "list_has_any($tags, tags)",
}
NEEDS_ATTENTION = "len(attention) > 0"
NOT_ARCHIVED = "not archived"
WIDTH = 165


class RunFilter(NamedTuple):
    """A SQL condition with the values of its parameters."""

    condition: str
    parameters: dict[str, list[str]]

    @property
    def is_empty(self) -> bool:
        """True if only archived runs are left out."""
        return self.condition == NOT_ARCHIVED

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the rows of the table of runs that match."""
        return filter_table(table, self.condition, self.parameters)


def build_filter(
    values: Mapping[str, list[str]], *, only_attention: bool = False, with_archived: bool = False
) -> RunFilter:
    """Return the filter of the controls.

    Args:
        values: Parameter of `CONDITIONS` -> accepted values. An empty list accepts all.
        only_attention: Keep only runs that need attention.
        with_archived: Keep archived runs.

    """
    used = {name: list(accepted) for name, accepted in values.items() if accepted}
    conditions = [CONDITIONS[name] for name in CONDITIONS if name in used]
    if only_attention:
        conditions.append(NEEDS_ATTENTION)
    if not with_archived:
        conditions.append(NOT_ARCHIVED)
    return RunFilter(" and ".join(conditions) or "true", used)


def add_labels(table: pa.Table, labels: Mapping[str, RunLabels]) -> pa.Table:
    """Return the table of runs with the columns `name`, `tags` and `archived` of the ledger."""
    found = [labels.get(run_id, RunLabels()) for run_id in table["run_id"].to_pylist()]
    names = pa.array([label.name for label in found], pa.string())
    tags = pa.array([sorted(label.tags) for label in found], pa.list_(pa.string()))
    archived = pa.array([label.archived for label in found], pa.bool_())
    labelled = table.append_column("name", names).append_column("tags", tags)
    return labelled.append_column("archived", archived)


def show_filter(table: pa.Table) -> RunFilter:
    """Show the controls, and return the filter. The address contains their values.

    Args:
        table: All runs, with labels.

    """
    bound: dict[str, Any] = {"bind": "query-params"}
    wide = {"width": WIDTH, **bound}
    # Fixed widths leave two fields in a line on a phone.
    bar = st.container(horizontal=True)
    values = {
        "words": (
            bar.text_input(
                "Name contains",
                key="name",
                width=WIDTH,
                max_chars=200,
                help="Several words: one of them must match.",
                **bound,
            )
            or ""
        ).split(),
        "policies": bar.multiselect("Policy", _values(table, "policy"), key="policy", **wide),
        "states": bar.multiselect(
            "State", _values(table, "state"), key="state", format_func=state_name, **wide
        ),
        "datasets": bar.multiselect("Data", _values(table, "data"), key="data", **wide),
        "tags": bar.multiselect(
            "Tag",
            sorted({name for tags in table["tags"].to_pylist() for name in tags}),
            key="tag",
            help="`ockham tag` adds tags.",
            **wide,
        ),
    }
    with st.container(horizontal=True):
        attention = st.toggle("Only runs that need attention", key="attention", **bound)
        archived = st.toggle("With archived runs", key="archived", **bound)
    return build_filter(values, only_attention=attention, with_archived=archived)


def _values(table: pa.Table, name: str) -> list[str]:
    return sorted({value for value in table[name].to_pylist() if value})
