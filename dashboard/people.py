"""Section of a page that lists what people did in a run."""

from __future__ import annotations

from dashboard.data_source import query_or_error, run_page_query
from dashboard.layout import section
from dashboard.tables import query_table


def people_section(run_id: str, decision_id: str = "") -> None:
    """List the signed events of people. Without such events there is no section.

    Args:
        run_id: The run.
        decision_id: Only events at the iteration of this decision, and approvals of the weights that it
            accepted. Empty lists all of the run.

    """
    if decision_id:
        people = query_or_error(run_page_query, "people_of_decision", run=run_id, id=decision_id)
    else:
        people = query_or_error(run_page_query, "people_of_run", run=run_id)
    if people is None or not people.table.num_rows:
        return
    section("People", "Notes, interventions, stops and approvals. Each is signed by the key in its row.")
    query_table(people, "people", alt="What people did, the oldest first.")
