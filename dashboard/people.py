"""Section of a page that lists what people did in a run."""

from __future__ import annotations

from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import section
from dashboard.tables import query_table


def people_section(run_id: str) -> None:
    """List the signed events of people. A run without them has no such section."""
    people = query_or_error(run_page_query, "people_of_run", run=run_id)
    if people is None or not people.table.num_rows:
        return
    section("People", "Notes, interventions, stops and approvals. Each is signed by the key in its row.")
    query_table(people, "people", height=220, alt="What people did in this run, the oldest first.")
