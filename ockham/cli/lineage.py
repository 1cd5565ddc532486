"""Which decisions made these weights? One command, from a file of weights to the decisions and the signature over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import RunsOption, trusted_keys
from ockham.cli.output import FormatOption, OutputOption, write_rows
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.record.lineage import Lineage

RUNS = Path("runs")
# Of earlier attempts what they did before the next one began; of its own all that the tree head covers.
_DECIDED = """
from decisions d where run_id = $run and rank = $rank and not shadow and (
    (attempt = $attempt and sequence < $size)
    or (attempt < $attempt and iter_num < (
        select min(later.iter_num) from decisions later
        where later.run_id = $run and later.rank = $rank and later.attempt > d.attempt and later.attempt <= $attempt)))
"""
_COUNTED = f"""
select plugin, action, reason_code, count(*) as decisions, min(iter_num) as first_iter, max(iter_num) as last_iter
{_DECIDED} group by all order by plugin, decisions desc
"""
_LISTED = f"""
select decision_id, attempt, sequence, iter_num, hook, plugin, action, reason_code, observed, threshold, policy_revision
{_DECIDED} order by attempt, sequence
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(lineage)


def lineage(
    weights: Annotated[
        Path, typer.Argument(help="A safetensors file, or the folder of a checkpoint, wherever it lies.")
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", help="Verifier key that you trust, or a file that holds it.", show_default=False
        ),
    ] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Tell which decisions made these weights.

    The run, what accepted them, and all that was decided before. The bytes must be those that the log names, and a signature must cover the decisions. With -f every single decision is
    listed. Exit status: 0 the log vouches for these bytes, 1 it does not, 2 bad input.

    Examples:
      ockham lineage runs/night-1/checkpoints/accepted-00000599

      ockham lineage downloaded.safetensors --key ockham.key.pub -f jsonl -o decisions.jsonl
    """
    from ockham.catalog import Catalog
    from ockham.record.lineage import find_weights_file
    from ockham.record.lineage import lineage as lineage_of

    keys = trusted_keys(key)
    found = lineage_of(find_weights_file(weights), runs, keys)
    told = found.metadata
    catalog = Catalog(runs, run_ids=[told["run_id"]])
    where = {
        "run": told["run_id"],
        "rank": told["rank"],
        "attempt": told["attempt"],
        "size": told["log_size"],
    }
    if form is None and output is None:
        accepted = _accepting(catalog, found)
        for line in _format_lineage(found, accepted, catalog.rows(_COUNTED, where)):
            typer.echo(line)
    else:
        rows = catalog.rows(_LISTED, where)
        write_rows(list(rows[0]) if rows else [], [list(row.values()) for row in rows], form, output)
        for problem in found.problems:
            typer.echo(f"not vouched for: {format_cell(problem)}", err=True)
    raise typer.Exit(1 if found.problems else 0)


def _accepting(catalog: Any, found: Lineage) -> dict[str, Any] | None:
    saved = found.checkpoint_event or {}
    rows = catalog.rows(
        "select decision_id, iter_num, reason_code, observed, threshold from decisions where decision_id = $id",
        {"id": saved.get("decision_id") or ""},
    )
    return dict(rows[0]) if rows else None


def _format_lineage(
    found: Lineage, accepted: dict[str, Any] | None, counts: list[dict[str, Any]]
) -> Iterator[str]:
    told, saved = found.metadata, found.checkpoint_event or {}
    verdict = "NOT VOUCHED FOR" if found.problems else "the log vouches for these bytes"
    yield f"{format_cell(str(found.path))}: {verdict}"
    for problem in found.problems:
        yield f"  {format_cell(problem)}"
    yield f"  sha256 {found.sha256}"
    yield (
        f"  run {format_cell(told['run_id'])}, attempt {told['attempt']}, iteration {told.get('iter_num')}, "
        f"kind {format_cell(str(told.get('kind')))}; policy {format_cell(str(told.get('policy_revision')))}"
    )
    if saved:
        yield f"  saved as {format_cell(saved['snapshot_id'])}, event {found.event_id}; weights alone sha256 {saved['weights_sha256']}"
    if accepted is not None:
        yield (
            f"  accepted at iteration {accepted['iter_num']} by decision {accepted['decision_id']} because "
            f"{format_cell(accepted['reason_code'])}: {accepted['observed']} against {accepted['threshold']}"
        )
    elif saved:
        yield "  no decision accepted them: a checkpoint to resume from, to roll back to, or an anchor"
    yield f"  made by these decisions, {sum(row['decisions'] for row in counts):,} in all (-f lists each):"
    for row in counts:
        span = f"iterations {row['first_iter']} to {row['last_iter']}"
        yield f"    {row['decisions']:>8,}  {format_cell(row['plugin'])}: {format_cell(row['action'])} because {format_cell(row['reason_code'])}, {span}"
    yield f"  the log behind them: {told['log_size']:,} events, signed to {found.signed:,}; root {format_cell(told['log_root'])}"
    yield "  this looks at the lines before these weights; `ockham verify` judges the whole run"
