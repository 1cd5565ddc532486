"""The decisions of a run as they come: tail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ockham.cli.options import RunsOption, resolve_run_id
from ockham.errors import QueryError, QuerySyntaxError
from ockham.formatting import format_cell

RUNS = Path("runs")
POLL_SECONDS = 0.2
BUSY_SHARE = 0.25  # of the time may go into asking: a long run's log costs more to ask than a short one's
Rows = list[dict[str, Any]]
LastSequences = dict[
    tuple[int, int], int
]  # (attempt, rank) -> sequence of the last decision that was told or passed over

_SELECT = (
    "select attempt, rank, sequence, iter_num, plugin, action, reason_code, observed, threshold from {} "
)


def tail(
    run: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Go on until the run ends; Ctrl-C stops.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Decisions to begin with.")] = 20,
    where: Annotated[
        str,
        typer.Option(
            "--where", help="Only decisions for which this SQL condition holds.", show_default=False
        ),
    ] = "",
    runs: RunsOption = RUNS,
) -> None:
    """Show the last decisions of a run, and with -F those that come.

    Examples:
      ockham tail night-1 -F --where "action = 'SKIP' and margin > -0.1"
    """
    from ockham.catalog import Catalog
    from ockham.guard import Guard

    run_id = resolve_run_id(runs, run)
    catalog = Catalog(runs, run_ids=[run_id])
    # A person typed the condition, so it goes to the guard, whose child starts with the first question.
    with Guard(runs, only=[run_id]) as guard:

        def run_query(rest: str, values: dict[str, Any]) -> Rows:
            if not where:
                return catalog.rows(_SELECT.format("decisions") + rest, values)
            kept = f"(select * from decisions where ({where}\n))"  # noqa: S608 - for the guard
            try:
                rows: Rows = guard.query(_SELECT.format(kept) + rest, values).table.to_pylist()
            except QuerySyntaxError:
                # The parser's location is one in the SQL around the condition, so it is left out.
                example = "a condition is such as \"action = 'SKIP'\""
                raise QueryError(f"--where {where!r}: this SQL is not understood; {example}") from None
            except QueryError as error:
                raise QueryError(f"--where {where!r}: {error}") from None
            return rows

        seen = _last_sequences(catalog) if follow else {}
        newest = run_query("order by attempt desc, sequence desc, rank desc limit $n", {"n": lines})
        _print_rows(newest[::-1], seen)
        if follow:
            _follow(run_query, catalog, seen)


def _follow(run_query: Callable[[str, dict[str, Any]], Rows], catalog: Any, seen: LastSequences) -> None:
    """Tell what comes, each decision once, until the run has ended."""
    while True:
        began = time.monotonic()
        ended = _ended(catalog)  # asked before, so that what comes until then is told
        _print_rows(
            run_query(f"where {_new_rows_condition(seen)} order by attempt, sequence, rank", {}), seen
        )
        if ended:
            return
        spent = time.monotonic() - began
        time.sleep(max(POLL_SECONDS, spent * (1 / BUSY_SHARE - 1)))


def _last_sequences(catalog: Any) -> LastSequences:
    """Where each log stands now."""
    rows = catalog.rows(
        "select attempt, rank, max(sequence) as sequence from decisions group by attempt, rank"
    )
    return {(row["attempt"], row["rank"]): row["sequence"] for row in rows}


def _new_rows_condition(seen: LastSequences) -> str:
    """The condition for what was not told yet: ranks write at their own pace, so each log has its own end."""
    if not seen:
        return "true"
    known = [f"(attempt = {a} and rank = {r} and sequence > {s})" for (a, r), s in seen.items()]
    logs = ", ".join(f"({attempt}, {rank})" for attempt, rank in seen)
    return " or ".join([*known, f"(attempt, rank) not in ({logs})"])


def _print_rows(rows: Rows, seen: LastSequences) -> None:
    for row in rows:
        judged = "" if row["observed"] is None else f"  {row['observed']:.5g}"
        judged += "" if row["threshold"] is None else f" against {row['threshold']:.5g}"
        typer.echo(
            f"iter {row['iter_num']:<7} {format_cell(row['plugin']):<12} {format_cell(row['action']):<9} {format_cell(row['reason_code'])}{judged}"
        )
        log = (row["attempt"], row["rank"])
        seen[log] = max(seen.get(log, -1), row["sequence"])


def _ended(catalog: Any) -> bool:
    state: str = catalog.rows("select state from runs")[0]["state"]
    return state != "UNFINISHED"
