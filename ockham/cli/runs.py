"""`ockham runs`, `show` and `why`: look at runs. `tail` and `forward` are in separate modules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    MAX_LISTED_IDS,
    RunArgument,
    RunsOption,
    find_run_by_name,
    list_names,
    odr_tables,
    resolve_run_id,
)
from ockham.cli.output import (
    FormatOption,
    OutputOption,
    TextFormatOption,
    is_verbose,
    pluralize,
    print_note,
    print_renamed_runs,
    write_rows,
    write_table,
    write_text,
)
from ockham.cli.run_filters import (
    ArchivedFilter,
    MatchFilter,
    PolicyFilter,
    RunFilters,
    SinceFilter,
    StateFilter,
    TagFilter,
    filter_runs,
)
from ockham.cli.why import format_person
from ockham.errors import BadInputError, RunError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ockham.catalog import Catalog

COLUMNS = (
    "run_id",
    "created (UTC)",
    "state",
    "policy",
    "batches",
    "update_rate",
    "accepted",
    "val_loss",
    "compute_saved",
)
# A narrow terminal omits these columns, from the first.
DROPPABLE_COLUMNS = ("compute_saved", "created (UTC)", "batches", "accepted", "policy")
MAX_VALUE_CHARACTERS = 120
_LIST = """
select r.run_id, r.created, r.state, r.policy, s.batches, s.updated_batches, s.skipped_batches,
    s.optimizer_steps, s.skipped_steps, s.update_rate, s.evaluations, s.accepted, s.val_loss, s.compute_saved,
    s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason, s.unsigned_events
from runs r join run_summary s using (run_id) order by r.created
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from ockham.cli.forward import forward
    from ockham.cli.tail import tail

    for command in (runs, show, why, tail, forward):
        app.command()(command)


def runs(
    tags: TagFilter = None,
    state: StateFilter = "",
    policy: PolicyFilter = "",
    pattern: MatchFilter = "",
    since: SinceFilter = "",
    archived: ArchivedFilter = False,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List runs with state, policy, rates and loss.

    Archived runs are left out unless --archived is given. Of several filters, a run meets all.

    Examples:
      ockham runs

      ockham runs --tag baseline --state COMPLETED --since 2027-01-31

      ockham --runs /data/runs runs -f csv -o runs.csv
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local
    from ockham.record.run_labels import read_labels

    filters = RunFilters(tags or (), state, policy, pattern, since, archived)
    filters.first_day()
    folder = sync_to_local(runs)
    catalog = Catalog(folder)
    every_run = catalog.sql(_LIST)
    table = filter_runs(every_run, read_labels(folder), filters)
    if output_format is None and output is None and sys.stdout.isatty():
        rows = [_format_row(row) for row in table.to_pylist()]
        labels = [name for name in ("name", "tags") if any(table.column(name).to_pylist())]
        found = zip(rows, table.select(labels).to_pylist(), strict=True)
        labelled = [(*row, *(_format_label(label[name]) for name in labels)) for row, label in found]
        write_rows((*COLUMNS, *labels), labelled, "table", droppable_columns=DROPPABLE_COLUMNS)
    else:
        write_table(table, output_format, output)
    print_renamed_runs(catalog)
    for row in table.to_pylist():
        _print_unsigned(row)
    if hidden := every_run.num_rows - table.num_rows:
        print_note(f"{pluralize(hidden, 'runs')} left out by filters, or archived (--archived lists them)")
    elif table.num_rows == 0 and not catalog.renamed_runs:
        print_note(f"no runs in {runs}; start one with `ockham train`")


def _print_unsigned(run: Mapping[str, Any]) -> None:
    """Print a note if a row of `run_summary` has events that it does not count."""
    if run["unsigned_events"]:
        print_note(f"{run['run_id']}: {pluralize(run['unsigned_events'], 'unsigned events')} not counted")


def _format_label(value: str | list[str] | None) -> str:
    """Return a name, or tags separated by spaces."""
    return " ".join(value) if isinstance(value, list) else value or ""


def _format_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a run as one line of a terminal. The other formats have every digit."""
    percent = {key: "" if row[key] is None else f"{row[key]:.1%}" for key in ("update_rate", "compute_saved")}
    return (
        row["run_id"],
        "" if row["created"] is None else f"{row['created']:%Y-%m-%d %H:%M}",
        row["state"],
        row["policy"],
        row["batches"],
        percent["update_rate"],
        f"{row['accepted']} of {row['evaluations']}",
        "" if row["val_loss"] is None else f"{row['val_loss']:.4f}",
        percent["compute_saved"],
    )


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="ID of a decision, run, checkpoint, policy, event or record; or a unique prefix.",
        ),
    ],
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show one decision, run, checkpoint, policy or record.

    -v shows long values in full.

    Examples:
      ockham show 01a20da1-7999

      ockham show night-1

      ockham show ODR-0001
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local

    catalog = Catalog(sync_to_local(runs), odr_tables(runs))
    if name in catalog.renamed_runs:
        raise RunError(catalog.renamed_runs[name])
    kind, row = _find_by_prefix(catalog, find_run_by_name(runs, name) or name, runs)
    if kind == "run":
        _print_unsigned(row)
    if output_format is not None:
        write_rows(list(row), [list(row.values())], output_format, output)
        return
    lines = [f"  {key:<24} {_format_value(value)}" for key, value in row.items() if value not in (None, [])]
    write_text("\n".join([kind, *lines]), output)


def _format_value(value: Any) -> str:
    """Return a value as text. Long values are cut unless --verbose was given."""
    text = format_cell(value)
    if is_verbose() or len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return f"{text[:MAX_VALUE_CHARACTERS]}... (-v shows all)"


def why(
    run: RunArgument,
    iteration: Annotated[int, typer.Argument(metavar="ITERATION", help="Optimizer step, from 0.")],
    rows: Annotated[
        bool,
        typer.Option("--rows", help="Also show the text of the batch. Needs the data of `ockham train`."),
    ] = False,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Explain the decisions about one batch.

    Shows the inputs, the decision of each plugin with its reason, and the result. -f writes one row for
    each decision. -v shows all digits.

    With --rows, the training data is read again. Its digest and that of the rows must be the recorded ones.
    -f then writes one row for each row of the batch.

    Examples:
      ockham why night-1 120

      ockham why night-1 120 --rows
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local
    from ockham.cli.why import explain_iteration, list_decisions
    from ockham.cli.why_rows import ROW_COLUMNS, format_rows, list_rows, read_rows

    folder = sync_to_local(runs, run)
    run_id = resolve_run_id(folder, run)
    catalog = Catalog(folder, run_ids=[run_id])
    lines = [format_cell(line) for line in explain_iteration(catalog, run_id, iteration)]
    batches = read_rows(catalog, run_id, iteration) if rows else []
    if output_format is None:
        write_text("\n".join([*lines, *format_rows(batches)]), output)
    elif rows:
        write_rows(ROW_COLUMNS, list_rows(batches), output_format, output)
    else:
        write_rows(*list_decisions(catalog, run_id, iteration), output_format, output)


_LOOKUPS = (
    ("decision", "decisions", "decision_id", "starts_with(decision_id, $id)"),
    ("checkpoint", "checkpoints", "snapshot_id", "starts_with(snapshot_id, $id)"),
    (
        "policy",
        "policies",
        "policy_revision",
        "starts_with(policy_revision, $id) or starts_with(policy_revision, 'sha256:' || $id)",
    ),
    ("event", "events", "event_id", "starts_with(event_id, $id) and data is not null"),
    ("odr", "odrs", "odr_id", "starts_with(odr_id, $id)"),
    ("ledger event", "people", "event_id", "starts_with(event_id, $id) and recorded_in = 'ledger'"),
)
_PEOPLE_OF_RUN = "select * from people where run_id = $id order by time desc limit 20"
_RUN_LOOKUP = "select * from run_summary where starts_with(run_id, $id) limit 9"


def _find_by_prefix(catalog: Catalog, name: str, runs: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind and the row of the only thing whose ID starts with *name*."""
    if not name:
        raise BadInputError("ID: empty; pass an ID or a prefix of one")
    matching_runs = catalog.rows(_RUN_LOOKUP, {"id": name})
    selected_runs = [row for row in matching_runs if row["run_id"] == name] or matching_runs
    if len(selected_runs) == 1:
        run_id = selected_runs[0]["run_id"]
        metadata = catalog.rows("select * from runs where run_id = $id", {"id": run_id})[0]
        people = [format_person(row) for row in catalog.rows(_PEOPLE_OF_RUN, {"id": run_id})]
        return "run", {**metadata, **selected_runs[0], "people": people}
    candidates = [("run", row["run_id"], row) for row in selected_runs]
    for kind, view, key, condition in _LOOKUPS:
        sql = f"select * from {view} where {condition} limit 9"  # noqa: S608 - constants
        candidates += [(kind, row[key], row) for row in catalog.rows(sql, {"id": name})]
    exact = [candidate for candidate in candidates if candidate[1] == name]
    matches = exact or candidates
    if len({(kind, key) for kind, key, _ in matches}) == 1:
        return matches[0][0], matches[0][2]
    if not matches:
        raise BadInputError(
            f"{name!r}: nothing in {runs} has an ID with this prefix; "
            "accepted: decision, run, checkpoint, policy, event, decision record"
        )
    listed = list_names([f"{kind} {key}" for kind, key, _ in matches], MAX_LISTED_IDS)
    raise BadInputError(f"{name!r}: matches more than one ID; type more characters: {listed}")
