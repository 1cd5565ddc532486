"""Static checks of a constraint's SQL: one SELECT that reads audit views only.

Each problem has a code and a line. The allow-list of `ockham.guard` is checked here and again when the query
runs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ockham.errors import QueryError, suggest_name
from ockham.odr.run_conditions import (
    LIST_PARAMETERS,
    PAIR_PARAMETERS,
    UnrestrictedReads,
    find_unrestricted_reads,
)
from ockham.resources import VIEWS

PARAMETERS = PAIR_PARAMETERS | LIST_PARAMETERS
MAX_CHARACTERS = 10_000
_WRITES = (
    exp.DML,
    exp.DDL,
    exp.Command,
    exp.Copy,
    exp.Drop,
    exp.Alter,
    exp.Attach,
    exp.Detach,
    exp.Pragma,
    exp.Set,
    exp.Use,
    exp.TruncateTable,
    exp.Into,
)


# Expressions of nearly every constraint. Only other ones need the guard's allow-list, which parses again.
_PLAIN = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Cast, exp.Connector, exp.Coalesce)


# Parts of a statement that contain a condition, and parts that end an expression.
_CONDITIONS = (exp.Connector, exp.Not, exp.Where, exp.Having, exp.Join, exp.Filter)
_CLAUSES = (*_CONDITIONS, exp.Select, exp.Subquery)


class SqlProblem(NamedTuple):
    """A problem of a statement. `line` counts from 0 in the SQL."""

    code: str
    message: str
    line: int = 0


class Statement(NamedTuple):
    """Tables and parameters of a statement, texts compared with a run ID, reads of all runs, and problems."""

    views: frozenset[str]
    parameters: frozenset[str]
    problems: tuple[SqlProblem, ...]
    runs: tuple[str, ...] = ()
    unrestricted: UnrestrictedReads = UnrestrictedReads()


@functools.lru_cache(maxsize=1_000)
def analyze_sql(sql: str) -> Statement:
    """Analyze the SQL of one constraint. The content of the SQL never raises an exception."""
    nothing: frozenset[str] = frozenset()
    if len(sql) > MAX_CHARACTERS:
        # Reported by the schema.
        return Statement(nothing, nothing, ())
    try:
        parsed = [tree for tree in _parse(sql) if tree is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        return Statement(nothing, nothing, (_unreadable(error),))
    if len(parsed) != 1:
        return Statement(
            nothing, nothing, (SqlProblem("ODR504", f"holds {len(parsed)} statements, not one SELECT"),)
        )
    tree = parsed[0]
    nodes = list(tree.walk())
    faults = list(_faults(tree, nodes))
    views = frozenset(node.name.casefold() for node in nodes if isinstance(node, exp.Table)).intersection(
        VIEWS
    )
    if not views and not faults:
        faults.append(SqlProblem("ODR509", "reads no audit view: a constant proves nothing"))
    if not faults:
        faults.extend(_unstable(sql, nodes))
    if not faults:
        faults.extend(_columns(tree))
    if not faults and any(isinstance(node, exp.Func) and not isinstance(node, _PLAIN) for node in nodes):
        faults.extend(_refused(sql))
    parameters = frozenset(node.name for node in nodes if isinstance(node, exp.Parameter | exp.Placeholder))
    if not faults and parameters & PAIR_PARAMETERS and parameters & LIST_PARAMETERS:
        faults.append(SqlProblem("ODR512", "has a parameter for one pair and one for all runs; use one kind"))
    runs = tuple(dict.fromkeys(_compared_runs(nodes)))
    unrestricted = UnrestrictedReads() if faults else find_unrestricted_reads(tree)
    return Statement(views, parameters, tuple(faults), runs, unrestricted)


def _compared_runs(nodes: list[exp.Expr]) -> Iterator[str]:
    """Yield the texts in each expression that compares `run_id` with something."""
    for column in nodes:
        if not isinstance(column, exp.Column) or column.name.casefold() != "run_id":
            continue
        top: exp.Expr = column
        compares = False
        while top.parent is not None and not isinstance(top.parent, _CLAUSES):
            top = top.parent
            compares = compares or isinstance(top, exp.Predicate | exp.Case)
        if compares or isinstance(top.parent, _CONDITIONS):
            inside = top.walk(prune=lambda node: isinstance(node, exp.Select))
            yield from (node.name for node in inside if isinstance(node, exp.Literal) and node.is_string)


def _parse(sql: str) -> list[exp.Expr | None]:
    logger = logging.getLogger("sqlglot")
    # It warns on stderr about what we report ourselves.
    before, logger.disabled = logger.disabled, True
    try:
        return list(sqlglot.parse(sql, dialect="duckdb"))
    finally:
        logger.disabled = before


def _unreadable(error: Exception) -> SqlProblem:
    detail = (getattr(error, "errors", None) or [{}])[0]
    reason = detail.get("description") or str(error).split("\n", maxsplit=1)[0]
    if isinstance(error, RecursionError):
        reason = "nested too deep"
    return SqlProblem("ODR503", f"cannot be read: {reason:.160}", max(0, int(detail.get("line") or 1) - 1))


def _faults(tree: exp.Expr, nodes: list[exp.Expr]) -> Iterator[SqlProblem]:
    write = next((node for node in nodes if isinstance(node, _WRITES)), None)
    if write is not None:
        yield SqlProblem(
            "ODR512" if write is not tree else "ODR504",
            f"may not {write.key.upper()}: a constraint only reads",
        )
        return
    if not isinstance(tree, exp.Query):
        yield SqlProblem("ODR504", f"is {tree.key.upper()}, not one SELECT")
        return
    own = {node.alias.casefold() for node in nodes if isinstance(node, exp.CTE)}
    for name in sorted(own.intersection(VIEWS)):
        yield SqlProblem("ODR512", f"redefines the view {name!r}")
    for node in nodes:
        if isinstance(node, exp.Table):
            yield from _table(node, own)
        elif isinstance(node, exp.Parameter | exp.Placeholder) and node.name not in PARAMETERS:
            known = "$baseline, $candidate and their plurals"
            yield SqlProblem("ODR512", f"has the parameter {node.name!r:.40}; known: {known}")


def _table(table: exp.Table, own: set[str]) -> Iterator[SqlProblem]:
    name = table.name.casefold()
    if not isinstance(table.this, exp.Identifier):
        yield SqlProblem(
            "ODR512", f"reads {table.this.sql(dialect='duckdb')!r:.80}: no function or file may be read from"
        )
    elif table.args.get("db") is not None or table.args.get("catalog") is not None:
        yield SqlProblem(
            "ODR512", f"reads {table.sql(dialect='duckdb')!r:.80}: views have no schema or database"
        )
    elif name not in VIEWS and name not in own:
        yield SqlProblem(
            "ODR512", f"reads {table.name!r:.80}, which is not an audit view{suggest_name(name, VIEWS)}"
        )


def _refused(sql: str) -> Iterator[SqlProblem]:
    from ockham.guard.sql_allowlist import check_query

    try:
        check_query(sql.strip().rstrip(";"), VIEWS)
    except QueryError as error:
        yield SqlProblem("ODR512", f"is refused: {error!s:.200}")


def _unstable(sql: str, nodes: list[exp.Expr]) -> Iterator[SqlProblem]:
    from ockham.guard.stability import find_unstable_calls

    if names := list(dict.fromkeys(find_unstable_calls(sql, nodes))):
        yield SqlProblem(
            "ODR514",
            f"uses {', '.join(names):.80}, which depends on clock, time zone, random numbers or sampling; "
            "epoch(time) gives the seconds of a logged time",
        )


def _columns(tree: exp.Expr) -> Iterator[SqlProblem]:
    """Yield a problem if the outermost SELECT does not return `value` from a table, and `n`."""
    select = tree.find(exp.Select)
    if select is None or isinstance(tree, exp.SetOperation) or select.is_star:
        return
    given = {projection.alias_or_name.casefold(): projection for projection in select.selects}
    for name in ("value", "n"):
        if name not in given:
            yield SqlProblem(
                "ODR506",
                f"gives no column `{name}`" + (", the number of observations" if name == "n" else ""),
            )
    value = given.get("value")
    if value is not None and not list(value.find_all(exp.Column, exp.AggFunc, exp.Select, exp.Anonymous)):
        yield SqlProblem("ODR509", "has a constant for `value`")
