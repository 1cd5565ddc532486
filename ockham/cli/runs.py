"""Looking at runs: runs, show, why; tail and forward stand in files of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import RunsOption, odr_tables, resolve_run_id
from ockham.cli.output import FormatOption, OutputOption, write_rows, write_table
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.catalog import Catalog

RUNS = Path("runs")
_SHORT = ("run", "created (UTC)", "state", "policy", "batches", "updated", "accepted", "val loss", "saved")
_DROPPABLE_COLUMNS = (
    "saved",
    "created (UTC)",
    "policy",
    "accepted",
    "batches",
)  # left out first where a terminal is narrow
_LIST = """
select r.run_id, r.created, r.state, r.policy, s.batches, s.update_rate, s.evaluations, s.accepted, s.val_loss, s.compute_saved
from runs r join run_summary s using (run_id) order by r.created
"""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    from ockham.cli.forward import forward
    from ockham.cli.tail import tail

    for verb in (runs, show, why, tail, forward):
        app.command()(verb)


def runs(runs: RunsOption = RUNS, form: FormatOption = None, output: OutputOption = None) -> None:
    """List all runs: state, policy, rates, loss.

    Examples:
      ockham runs

      ockham --runs /data/runs runs -f csv -o runs.csv
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local

    table = Catalog(sync_to_local(runs)).sql(_LIST)
    if form is None and output is None and sys.stdout.isatty():
        write_rows(
            _SHORT,
            [_short_row(row) for row in table.to_pylist()],
            "table",
            droppable_columns=_DROPPABLE_COLUMNS,
        )
    else:
        write_table(table, form, output)
    if table.num_rows == 0:
        typer.echo(f"no runs in {runs}; `ockham train` makes one", err=True)


def _short_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """A run on one line of a terminal; the other forms have every digit."""
    percent = {key: "" if row[key] is None else f"{row[key]:.1%}" for key in ("update_rate", "compute_saved")}
    loss = "" if row["val_loss"] is None else f"{row['val_loss']:.4f}"
    created = "" if row["created"] is None else f"{row['created']:%Y-%m-%d %H:%M}"
    return (row["run_id"], created, row["state"], row["policy"], row["batches"], percent["update_rate"],
            f"{row['accepted']} of {row['evaluations']}", loss, percent["compute_saved"])  # fmt: skip


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Decision, run, checkpoint, policy, event or decision record, by any unique beginning.",
        ),
    ],
    runs: RunsOption = RUNS,
    form: FormatOption = None,
) -> None:
    """Show one decision, run, checkpoint, policy or record.

    The beginning of its ID is enough, where it is no other's.

    Examples:
      ockham show 01a20da1-7999

      ockham show night-1

      ockham show ODR-0001
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local

    kind, row = _find_by_prefix(Catalog(sync_to_local(runs), odr_tables()), name, runs)
    if form is None:
        typer.echo(kind)
        for key, value in row.items():
            if value is not None and value != []:
                typer.echo(f"  {key:<24} {format_cell(value)}")
    else:
        write_rows(list(row), [list(row.values())], form)


def why(
    run: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    iteration: Annotated[int, typer.Argument(metavar="ITER", help="Optimizer step, from 0.")],
    runs: RunsOption = RUNS,
) -> None:
    """Tell the chain of one batch in plain words.

    What it was given, who decided what and why, and what was done.

    Examples:
      ockham why night-1 120
    """
    from ockham.catalog import Catalog
    from ockham.catalog.object_store import sync_to_local
    from ockham.cli.why import explain_iteration

    folder = sync_to_local(runs, run)
    run_id = resolve_run_id(folder, run)
    for line in explain_iteration(Catalog(folder, run_ids=[run_id]), run_id, iteration):
        typer.echo(format_cell(line))


_KINDS = (
    ("decision", "select * from decisions where starts_with(decision_id, $id) limit 9", "decision_id"),
    ("checkpoint", "select * from checkpoints where starts_with(snapshot_id, $id) limit 9", "snapshot_id"),
    ("policy", "select * from policies where starts_with(policy_revision, $id) or starts_with(policy_revision, 'sha256:' || $id) limit 9",
     "policy_revision"),
    ("event", "select * from events where starts_with(event_id, $id) and data is not null limit 9", "event_id"),
    ("odr", "select * from odrs where starts_with(odr_id, $id) limit 9", "odr_id"),
)  # fmt: skip


def _find_by_prefix(catalog: Catalog, name: str, runs: Path) -> tuple[str, dict[str, Any]]:
    if len(name) == 0:
        raise BadInputError("an ID, or its beginning, was expected")
    named = catalog.rows("select * from run_summary where starts_with(run_id, $id) limit 9", {"id": name})
    exact = [row for row in named if row["run_id"] == name] or named
    if len(exact) == 1:
        about = catalog.rows("select * from runs where run_id = $id", {"id": exact[0]["run_id"]})[0]
        return "run", {**about, **exact[0]}
    candidates = [("run", row["run_id"], row) for row in exact]
    for kind, query, key in _KINDS:
        candidates += [(kind, row[key], row) for row in catalog.rows(query, {"id": name})]
    whole = [c for c in candidates if c[1] == name]
    found = whole or candidates
    if len({(kind, key) for kind, key, _ in found}) == 1:
        return found[0][0], found[0][2]
    if not found:
        raise BadInputError(
            f"nothing in {runs} has an ID that begins with {name!r}: decision, run, checkpoint, policy, event, decision record"
        )
    listed = ", ".join(f"{kind} {key}" for kind, key, _ in found[:8])
    raise BadInputError(f"{name!r} is the beginning of more than one: {listed}")
