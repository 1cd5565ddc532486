"""`ockham tail`: the newest decisions of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.arrow_values import table_rows
from ockham.cli.options import DEFAULT_RUNS, RunArgument, RunsOption, resolve_run_id
from ockham.cli.output import OutputOption, TextFormatOption, write_rows, write_text
from ockham.errors import BadInputError, QueryError, QuerySyntaxError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.cli.output import Format

POLL_SECONDS = 0.2
# The share of the time that may be spent on queries: the log of a long run takes longer to query.
MAX_QUERY_SHARE = 0.25
COLUMNS = (
    "attempt",
    "rank",
    "sequence",
    "iter_num",
    "plugin",
    "action",
    "reason_code",
    "observed",
    "threshold",
)
Rows = list[dict[str, Any]]
# (attempt, rank) -> sequence of the last decision that was printed or skipped
LastSequences = dict[tuple[int, int], int]


def tail(
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Continue until the run ends. Ctrl-C stops.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Number of decisions at the start.")
    ] = 20,
    where: Annotated[
        str,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only decisions that match this SQL condition.",
            show_default=False,
        ),
    ] = "",
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show the newest decisions of a run; -F follows the run.

    With -F, the only other format is -f jsonl.

    Examples:
      ockham tail night-1 -F --where "action = 'SKIP' and margin > -0.1"
    """
    from ockham.catalog import Catalog
    from ockham.guard import Guard

    if follow and (output is not None or output_format not in (None, "jsonl")):
        raise BadInputError("--follow: writes text or -f jsonl to stdout; leave out -o and other formats")
    run_id = resolve_run_id(runs, run)
    catalog = Catalog(runs, run_ids=[run_id])
    # The condition is user SQL, so the guard runs it. Its process starts with the first query.
    with Guard(runs, only=[run_id]) as guard:

        def run_query(rest: str, values: dict[str, Any]) -> Rows:
            if not where:
                return catalog.rows(_select("decisions", rest), values)
            source = f"(select * from decisions where ({where}\n))"  # noqa: S608 - the guard checks it
            try:
                rows: Rows = table_rows(guard.query(_select(source, rest), values).table)
            except QuerySyntaxError:
                # The parser reports a location in the SQL around the condition, so it is left out.
                example = "a condition is such as \"action = 'SKIP'\""
                raise QueryError(f"--where {where!r}: this SQL is not understood; {example}") from None
            except QueryError as error:
                raise QueryError(f"--where {where!r}: {error}") from None
            return rows

        last_sequences = _last_sequences(catalog) if follow else {}
        newest = run_query("order by attempt desc, sequence desc, rank desc limit $n", {"n": lines})
        _write_decisions(newest[::-1], output_format, output)
        if follow:
            _update_last_sequences(last_sequences, newest)
            _follow(run_query, catalog, last_sequences, output_format)


def _select(source: str, rest: str) -> str:
    return f"select {', '.join(COLUMNS)} from {source} {rest}"  # noqa: S608 - the guard checks user SQL


def _follow(
    run_query: Callable[[str, dict[str, Any]], Rows],
    catalog: Any,
    last_sequences: LastSequences,
    output_format: Format | None,
) -> None:
    """Print each new decision once, until the run has ended."""
    while True:
        start = time.monotonic()
        # Read the state first, so that decisions until the end are printed.
        ended = _has_ended(catalog)
        condition = _new_rows_condition(last_sequences)
        rows = run_query(f"where {condition} order by attempt, sequence, rank", {})
        if rows:
            _write_decisions(rows, output_format, None)
            sys.stdout.flush()
        _update_last_sequences(last_sequences, rows)
        if ended:
            return
        duration = time.monotonic() - start
        time.sleep(max(POLL_SECONDS, duration * (1 / MAX_QUERY_SHARE - 1)))


def _last_sequences(catalog: Any) -> LastSequences:
    """Return the sequence of the last decision in each log."""
    sql = "select attempt, rank, max(sequence) as sequence from decisions group by attempt, rank"
    return {(row["attempt"], row["rank"]): row["sequence"] for row in catalog.rows(sql)}


def _update_last_sequences(last_sequences: LastSequences, rows: Rows) -> None:
    for row in rows:
        log_key = (row["attempt"], row["rank"])
        last_sequences[log_key] = max(last_sequences.get(log_key, -1), row["sequence"])


def _new_rows_condition(last_sequences: LastSequences) -> str:
    """Return the SQL condition for new decisions. Each rank writes its log independently."""
    if not last_sequences:
        return "true"
    conditions = [
        f"(attempt = {attempt} and rank = {rank} and sequence > {sequence})"
        for (attempt, rank), sequence in last_sequences.items()
    ]
    log_keys = ", ".join(f"({attempt}, {rank})" for attempt, rank in last_sequences)
    return " or ".join([*conditions, f"(attempt, rank) not in ({log_keys})"])


def _write_decisions(rows: Rows, output_format: Format | None, output: Path | None) -> None:
    if output_format is not None:
        write_rows(COLUMNS, [[row[column] for column in COLUMNS] for row in rows], output_format, output)
    elif rows:
        write_text("\n".join(map(_format_decision, rows)), output)


def _format_decision(row: dict[str, Any]) -> str:
    observed = "" if row["observed"] is None else f"  {row['observed']:.5g}"
    threshold = "" if row["threshold"] is None else f" against {row['threshold']:.5g}"
    plugin, action = format_cell(row["plugin"]), format_cell(row["action"])
    return (
        f"iter {row['iter_num']:<7} {plugin:<12} {action:<9} "
        f"{format_cell(row['reason_code'])}{observed}{threshold}"
    )


def _has_ended(catalog: Any) -> bool:
    """Return True if the run has ended."""
    state: str = catalog.rows("select state from runs")[0]["state"]
    return state != "UNFINISHED"
