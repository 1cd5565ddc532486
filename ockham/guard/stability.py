"""Functions of DuckDB whose result depends on more than their arguments: clock, time zone, random numbers.

DuckDB's catalog names the stability of each overload. A constraint of a decision record must give the same
answer on each day and machine, so it may call only functions that are CONSISTENT. DuckDB 2.0.1 calls
`age(TIMESTAMP)` consistent, though it reads the clock; its other overload with one argument is correct. So a
call is refused if *any* overload with its number of arguments is not consistent.

`sql_unstable.txt` contains the list of the measured version: a name and numbers of arguments in each line.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

UNSTABLE_FILE = Path(__file__).with_name("sql_unstable.txt")
# The clock without parentheses. DuckDB's catalog does not contain these names.
CLOCK_KEYWORDS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
# Syntax that DuckDB turns into calls of date_part and timezone, which are not consistent.
_SYNTAX = (exp.Extract, exp.AtTimeZone)
_OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
_CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
_UNSTABLE = """
select distinct function_name || ' ' || len(parameter_types) as line
from duckdb_functions()
where stability <> 'CONSISTENT' and regexp_full_match(function_name, '[a-z_][a-z0-9_]*')
order by line
"""


@functools.cache
def load_unstable_functions() -> dict[str, frozenset[int]]:
    """Return name -> numbers of arguments, from the list of the measured version."""
    counts: dict[str, set[int]] = {}
    for line in UNSTABLE_FILE.read_text(encoding="ascii").splitlines():
        name, count = line.split()
        counts.setdefault(name, set()).add(int(count))
    return {name: frozenset(numbers) for name, numbers in counts.items()}


def list_unstable_functions() -> list[str]:
    """Return the lines of the list for the installed version of DuckDB."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(_UNSTABLE).fetchall()
    return [str(row[0]) for row in rows]


def find_unstable_calls(text: str, nodes: list[exp.Expr]) -> Iterator[str]:
    """Yield the names of calls that depend on clock, time zone, random numbers or other state.

    The text is read, because the parser has other names than DuckDB for some functions.

    Args:
        text: SQL that sqlglot can parse.
        nodes: Nodes of the parsed query, for syntax that DuckDB turns into calls.

    """
    unstable = load_unstable_functions()
    try:
        tokens = Tokenizer(dialect="duckdb").tokenize(text)
    except SqlglotError:
        return
    for index, token in enumerate(tokens):
        name = token.text.casefold()
        is_call = index + 1 < len(tokens) and tokens[index + 1].token_type == TokenType.L_PAREN
        if token.token_type == TokenType.STRING:
            continue
        after_dot = index > 0 and tokens[index - 1].token_type == TokenType.DOT
        if name in CLOCK_KEYWORDS and not (after_dot and not is_call):
            yield name
        elif is_call and name in unstable:
            count = _count_arguments(tokens, index + 1)
            # In `time.age()` the text before the dot is an argument, in `main.age(time)` a schema.
            if unstable[name] & {count, count + after_dot}:
                yield name
    for node in nodes:
        if isinstance(node, exp.TableSample):
            yield "sample"
        elif isinstance(node, _SYNTAX):
            yield node.key


def _count_arguments(tokens: list[Token], start: int) -> int:
    """Return the number of arguments of the call whose parenthesis is at *start*."""
    depth, count = 0, 0
    for index in range(start, len(tokens)):
        kind = tokens[index].token_type
        depth += (kind in _OPENING) - (kind in _CLOSING)
        if depth == 0:
            break
        if (
            index == start
            and tokens[index + 1 : index + 2]
            and tokens[index + 1].token_type != TokenType.R_PAREN
        ):
            count = 1
        elif depth == 1 and kind == TokenType.COMMA:
            count += 1
    return count
