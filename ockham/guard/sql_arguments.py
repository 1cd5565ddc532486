"""Functions that are accepted only with constant arguments, because others could fill the memory."""

from __future__ import annotations

import re

from sqlglot import exp

from ockham.errors import QueryError

MAX_WIDTH = 1_000
# Function -> position of the argument that is a number of characters.
_WIDTHS = {"lpad": 1, "rpad": 1, "bar": 3}
_FORMATS = frozenset({"format", "printf"})
BOUNDED_FUNCTIONS = frozenset(_WIDTHS) | _FORMATS
# A width that is read from another argument: `{:{}}` and `%*d`.
_VARIABLE_WIDTH = re.compile(r"\{[^}]*\{|\*")


def bounded_name(node: exp.Func) -> str | None:
    """Return the name of the function if it is accepted only with bounded arguments, else None."""
    if isinstance(node, exp.Pad):
        return "lpad" if node.args.get("is_left") else "rpad"
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    return str(name).lower() if str(name).lower() in BOUNDED_FUNCTIONS else None


def check_bounded_call(name: str, node: exp.Func) -> None:
    """Refuse a call whose result can be long.

    Args:
        name: Name of the function, from `bounded_name`.
        node: The call.

    Raises:
        QueryError: If the width is not a constant, or too large.

    """
    # In `'x'.lpad(5)` the text before the dot is the first argument.
    if isinstance(node.parent, exp.Dot):
        raise QueryError(f"function {name!r} is refused after a dot; write {name}(...)")
    arguments = _arguments(node)
    if name in _FORMATS:
        text = arguments[0] if arguments else None
        if not (isinstance(text, exp.Literal) and text.is_string) or not _is_short(str(text.this)):
            raise QueryError(
                f"function {name!r} is refused here; its first argument must be a constant text "
                f"with widths up to {MAX_WIDTH}, such as {_example(name)}"
            )
        return
    position = _WIDTHS[name]
    if name == "bar" and len(arguments) == position:
        return
    width = arguments[position] if position < len(arguments) else None
    if not isinstance(width, exp.Literal) or width.is_string or not _is_up_to(str(width.this), MAX_WIDTH):
        raise QueryError(
            f"function {name!r} is refused here; "
            f"its argument {position + 1} must be a number up to {MAX_WIDTH}"
        )


def _arguments(node: exp.Func) -> list[exp.Expr]:
    if isinstance(node, exp.Pad):
        return [node.this, node.expression]
    if isinstance(node, exp.Anonymous):
        return list(node.expressions)
    return [node.this, *node.expressions]


def _is_short(text: str) -> bool:
    """Return True if no width in a format is large or variable."""
    numbers = re.findall(r"[0-9]+", text)
    return not _VARIABLE_WIDTH.search(text) and all(_is_up_to(number, MAX_WIDTH) for number in numbers)


def _is_up_to(number: str, limit: int) -> bool:
    return number.isascii() and number.isdigit() and len(number) < 10 and int(number) <= limit


def _example(name: str) -> str:
    return "format('{:.3f}', x)" if name == "format" else "printf('%.3f', x)"
