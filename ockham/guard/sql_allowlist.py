"""Allow-list for user SQL: the parsed query may contain only known nodes, views and functions.

This is the first layer of the guard. The statement type is not enough: DuckDB 2.0 reports SELECT for a
COPY or DELETE inside a CTE. So the text must parse as one query, and every node, table and function in
it must be on a list.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ockham.errors import QueryError, QuerySyntaxError, suggest_name
from ockham.guard.sql_arguments import bounded_name, check_bounded_call

MAX_LENGTH = 100_000
MAX_NODES = 20_000
# Similarity above which another function is suggested.
MIN_SIMILARITY = 0.75
TABLE_FUNCTIONS = frozenset({"range", "unnest", "generate_series"})
# One name a line: DuckDB's names and sqlglot's names for the same functions.
FUNCTIONS = frozenset(Path(__file__).with_name("sql_functions.txt").read_text(encoding="ascii").split())
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SYSTEM_PREFIXES = (
    "sqlite_",
    "duckdb_",
    "pg_",
    "pragma_",
    "information_schema",
    "raw_",
    "show",
    "desc",
    "summarize",
)
_ROOT_NODES = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Pivot)
_REFUSED_NODES = (
    exp.Command,
    exp.DDL,
    exp.DML,
    exp.Copy,
    exp.Create,
    exp.Drop,
    exp.Alter,
    exp.Set,
    exp.Pragma,
    exp.Use,
    exp.Attach,
    exp.Detach,
    exp.Into,
    exp.Lock,
    exp.Transaction,
    exp.Commit,
    exp.Rollback,
    exp.Merge,
    exp.LoadData,
    exp.Cache,
    exp.Uncache,
    exp.Analyze,
    exp.Kill,
    exp.Grant,
    exp.TruncateTable,
    exp.Install,
    exp.SessionParameter,
    exp.Hint,
)
# `Guard.query` accepts these as the first word of the text.
_INSPECTIONS = (exp.Describe, exp.Show, exp.Summarize)
STARTS = ("SELECT", "FROM", "VALUES", "WITH", "PIVOT", "UNPIVOT", "DESCRIBE", "SUMMARIZE", "SHOW")
# Refused words with a reason, or with another way for the same purpose.
_ALTERNATIVES = {
    "random": "each query gives other values; hash(iter_num, 42) gives values that can be repeated",
    "repeat": "it can fill the memory; bar(x, 0, 1, 20) draws a bar",
    "current_setting": "settings cannot be read",
    "explain": "`ockham query --explain` shows the plan",
    "getenv": "variables of the environment cannot be read",
    "uuid": "each query gives other values",
    "gen_random_uuid": "each query gives other values",
}


def check_query(text: str, tables: Collection[str]) -> None:
    """Raise an error unless *text* is one query that only reads the given views.

    Args:
        text: SQL in DuckDB's dialect.
        tables: Names of the views that may be read.

    Raises:
        QuerySyntaxError: If the text cannot be parsed.
        QueryError: If the query is refused. The message contains what is accepted.

    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"query has {len(text)} characters; the limit is {MAX_LENGTH}")
    if "\0" in text:
        raise QueryError("query contains a NUL character; remove it")
    # sqlglot logs a warning when it falls back to a generic command. Such nodes are refused below.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        statements = [parsed for parsed in sqlglot.parse(text, read="duckdb") if parsed is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise QuerySyntaxError(message) from None
    if len(statements) != 1:
        raise QueryError(f"query has {len(statements)} statements; exactly one is accepted")
    root = statements[0]
    if not isinstance(root, _ROOT_NODES):
        word = root.name.upper() if isinstance(root, exp.Command) else root.key.upper()
        advice = _ALTERNATIVES.get(word.lower(), f"a query starts with {', '.join(STARTS)}")
        raise QueryError(f"{word:.40} is refused; {advice}")
    known = {name.lower() for name in tables}
    for count, node in enumerate(root.walk()):
        if count > MAX_NODES:
            raise QueryError(f"query has more than {MAX_NODES} syntax nodes; use a shorter query")
        _check_node(node, known, text)


def _check_node(node: exp.Expr, tables: Collection[str], text: str) -> None:
    if isinstance(node, _INSPECTIONS):
        raise QueryError(f"{node.key.upper()} is refused inside a query; write it as a query of its own")
    if isinstance(node, _REFUSED_NODES):
        raise QueryError(f"{node.key.upper()} is refused; a query can only read")
    if isinstance(node, exp.TableSample) and node.args.get("seed") is None:
        raise QueryError(
            "sample without REPEATABLE is refused, because each query would give other rows; "
            "write `TABLESAMPLE reservoir(10) REPEATABLE (42)` after the view"
        )
    if isinstance(node, exp.Table):
        _check_table(node, tables)
    elif isinstance(node, exp.CTE):
        _check_cte(node)
    elif isinstance(node, exp.Func) and not isinstance(node, (exp.Connector, exp.Case, exp.Cast)):
        _check_function(node, text)


def _check_table(node: exp.Table, tables: Collection[str]) -> None:
    if isinstance(node.this, exp.Func):
        name = _function_name(node.this)
        if name not in TABLE_FUNCTIONS:
            raise QueryError(
                f"table function {name!r} is refused; accepted: {', '.join(sorted(TABLE_FUNCTIONS))}"
            )
        return
    name = node.name
    if node.args.get("db") is not None or node.args.get("catalog") is not None:
        raise QueryError(
            f"{node.sql(dialect='duckdb')!r:.80}: schema or database not accepted; use only the view name"
        )
    if name.lower() in _names_in_scope(node) or name.lower() in tables:
        return
    raise QueryError(
        f"{name!r:.80}: view does not exist{suggest_name(name, tables)}; `ockham schema` lists all views"
    )


def _names_in_scope(node: exp.Expr) -> set[str]:
    """Return the names of the CTEs that a table name can refer to at this node.

    DuckDB binds a CTE to the CTEs before it, not to itself and not to later ones. Otherwise
    `with sqlite_master as (from sqlite_master)` would read the system table under a name that looks like
    a CTE.
    """
    names: set[str] = set()
    path: list[exp.Expr] = [node]
    while (parent := path[-1].parent) is not None:
        ctes = parent.args.get("with_")
        if isinstance(parent, exp.With):
            names |= _names_before(parent, path)
        elif ctes is not None and path[-1] is not ctes:
            names |= {cte.alias.lower() for cte in ctes.expressions}
        path.append(parent)
    return names


def _names_before(ctes: exp.With, path: list[exp.Expr]) -> set[str]:
    """Return the names that a CTE may use.

    These are the CTEs before it, and in the recursive half of a recursive UNION its own name.
    """
    current = path[-1]
    index = next(i for i, cte in enumerate(ctes.expressions) if cte is current)
    names = {cte.alias.lower() for cte in ctes.expressions[:index]}
    body = current.this
    recursive = bool(ctes.args.get("recursive")) and isinstance(body, exp.Union)
    if recursive and any(step is body.expression for step in path):
        names.add(current.alias.lower())
    return names


def _check_cte(node: exp.CTE) -> None:
    """Refuse CTE names that DuckDB resolves before it binds the query."""
    name = node.alias
    if not _PLAIN_NAME.fullmatch(name) or name.lower().startswith(_SYSTEM_PREFIXES):
        raise QueryError(
            f"{name!r:.80} is refused as a CTE name; use letters, digits and _, and no system name"
        )


def _check_function(node: exp.Func, text: str) -> None:
    bounded = bounded_name(node)
    if bounded is not None:
        check_bounded_call(bounded, node)
        return
    name = _function_name(node)
    if name in FUNCTIONS or any(alias.lower() in FUNCTIONS for alias in _aliases(node)):
        return
    # The parser has its own name for some functions. The message contains the name that was typed.
    words = set(re.findall(r"\w+", text.lower()))
    typed = next((alias.lower() for alias in _aliases(node) if alias.lower() in words), name)
    close = difflib.get_close_matches(typed, FUNCTIONS, n=1, cutoff=MIN_SIMILARITY)
    advice = _ALTERNATIVES.get(typed) or (f"did you mean {close[0]!r}?" if close else "")
    raise QueryError(
        f"function {typed!r:.80} is refused; {advice or 'it is not in the list of accepted functions'}"
    )


def _aliases(node: exp.Func) -> list[str]:
    """Return all names of a function for which sqlglot has a class."""
    return [] if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)) else list(node.sql_names())


def _function_name(node: exp.Func) -> str:
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)):
        return str(node.name or node.this).lower()
    return str(node.sql_name()).lower()
