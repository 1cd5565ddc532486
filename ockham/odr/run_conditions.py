"""Views of a statement that are read without a condition on their run.

A view is restricted if its SELECT compares `run_id` with runs, or with the `run_id` of a restricted relation,
in a condition that holds for each row. A SELECT of aggregates can have this condition in each FILTER instead.
All other forms count as unrestricted, also if they read only these runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeGuard

from sqlglot import exp

from ockham.resources import VIEWS

PAIR_PARAMETERS = frozenset({"baseline", "candidate"})
LIST_PARAMETERS = frozenset({"baselines", "candidates"})
# The rows of reason_codes are the same in each runs folder.
_RUN_VIEWS = frozenset(VIEWS) - {"reason_codes"}
_INNER_JOINS = {"", "INNER", "CROSS"}
_NOT_ONE_ROW = ("group", "having", "qualify", "order", "distinct")


class UnrestrictedReads(NamedTuple):
    """Views that a statement reads without a condition on their run.

    Attributes:
        views: Names of the views.
        counts_all: True if only the column `n` of a SELECT of aggregates has no such condition.

    """

    views: tuple[str, ...] = ()
    counts_all: bool = False


def find_unrestricted_reads(tree: exp.Expr) -> UnrestrictedReads:
    """Return the views that a statement reads without a condition on their run."""
    found: list[exp.Table] = []
    counts_all = False
    restricted: dict[int, frozenset[str]] = {}
    direct: set[int] = set()
    # An enclosing SELECT is before the ones in it.
    for select in tree.find_all(exp.Select, bfs=True):
        scope = _Scope(select, restricted.get(id(select.find_ancestor(exp.Select)), frozenset()))
        restricted[id(select)] = scope.restricted
        direct |= {id(source) for source in scope.sources}
        tables = scope.unrestricted_views()
        uncovered = scope.uncovered_columns(tables)
        if uncovered == {"n"} and select is tree:
            counts_all = True
        elif uncovered:
            found += tables
    found += [table for table in tree.find_all(exp.Table) if _is_run_view(table) and id(table) not in direct]
    return UnrestrictedReads(tuple(dict.fromkeys(table.name for table in found)), counts_all)


class _Scope:
    """The relations of one SELECT, and which of them its conditions restrict.

    Attributes:
        names: Names of its relations, in lower case.
        restricted: Relations of this and the enclosing SELECTs with rows of the compared runs only.

    """

    def __init__(self, select: exp.Select, outer: frozenset[str]) -> None:
        self.select = select
        self.joins: list[exp.Join] = select.args.get("joins") or []
        first = select.args.get("from_")
        self.sources: list[exp.Expr] = [node.this for node in (first, *self.joins) if node is not None]
        self.names = [source.alias_or_name.casefold() for source in self.sources]
        self.restricted = outer.difference(self.names)
        if all(map(_is_known_join, self.joins)) and len(set(self.names)) == len(self.names):
            self.restricted = self._close(self.restricted)

    def unrestricted_views(self) -> list[exp.Table]:
        """Return the views that no condition restricts, or whose columns have other names."""
        return [
            source
            for name, source in zip(self.names, self.sources, strict=True)
            if _is_run_view(source) and not (name in self.restricted and _is_plain(source))
        ]

    def uncovered_columns(self, tables: list[exp.Table]) -> frozenset[str]:
        """Return the columns that read rows of these views outside of a FILTER on the run, or `*` for all."""
        wanted = frozenset(table.alias_or_name.casefold() for table in tables)
        filters = any(column.find(exp.Filter) for column in self.select.selects)
        other = any(self.select.args.get(name) for name in _NOT_ONE_ROW)
        if not tables:
            return frozenset()
        if other or not filters or self.joins or not all(map(_is_plain, tables)):
            return frozenset({"*"})
        return frozenset(
            column.alias_or_name.casefold()
            for column in self.select.selects
            if not self._is_covered(column, wanted)
        )

    def _is_covered(self, node: exp.Expr, wanted: frozenset[str]) -> bool:
        if isinstance(node, exp.Filter):
            return wanted <= self._restrict(node.expression.this, self.restricted)
        if isinstance(node, exp.Column | exp.Star | exp.AggFunc | exp.Window | exp.Query | exp.Exists):
            return False
        # A function that sqlglot does not know can be an aggregate of constants.
        if isinstance(node, exp.Func) and not node.find(exp.Filter):
            return False
        return all(self._is_covered(child, wanted) for child in node.iter_expressions())

    def _close(self, known: frozenset[str]) -> frozenset[str]:
        """Return the restricted relations, with all that conditions link to them."""
        more = set(known)
        shared = self._shared()
        if shared & more:
            more |= shared
        for condition, limited in self._conditions():
            more |= self._restrict(condition, known) & limited
        return known if more == known else self._close(frozenset(more))

    def _conditions(self) -> Iterator[tuple[exp.Expr, set[str]]]:
        """Yield the conditions, and the relations whose rows they limit."""
        where = self.select.args.get("where")
        if where is not None:
            yield where.this, set(self.names)
        for join in self.joins:
            if join.args.get("on") is not None:
                new = {join.this.alias_or_name.casefold()}
                yield join.args["on"], new if join.side else set(self.names)

    def _shared(self) -> set[str]:
        """Return the relations with one column `run_id` by USING."""
        joined = {
            join.this.alias_or_name.casefold()
            for join in self.joins
            if any(column.name.casefold() == "run_id" for column in join.args.get("using") or ())
        }
        return {self.names[0], *joined} if joined else set()

    def _restrict(self, condition: exp.Expr, known: frozenset[str]) -> set[str]:
        """Return the relations that a condition restricts, if the known ones are restricted."""
        left, right = condition.args.get("this"), condition.args.get("expression")
        if isinstance(condition, exp.Paren):
            return self._restrict(condition.this, known)
        if isinstance(condition, exp.And):
            return self._restrict(condition.left, known) | self._restrict(condition.right, known)
        if isinstance(condition, exp.Or):
            return self._restrict(condition.left, known) & self._restrict(condition.right, known)
        if isinstance(condition, exp.EQ) and _is_run_id(left) and _is_run_id(right):
            sides = self._relations(left), self._relations(right)
            linked = [other for one, other in (sides, sides[::-1]) if one <= known]
            return set().union(*linked)
        column = _compared_column(condition)
        return set() if column is None else self._relations(column)

    def _relations(self, column: exp.Column) -> set[str]:
        """Return the relations of a column `run_id`.

        Without a name before it, the database accepts it if one relation has it, or for the shared column.
        """
        return {column.table.casefold()} if column.table else self._shared() or set(self.names)


def _is_known_join(join: exp.Join) -> bool:
    """Return True for an inner or left join with a condition on each pair of rows."""
    return not join.method and join.side in {"", "LEFT"} and join.kind in _INNER_JOINS | {"OUTER"}


def _is_run_view(source: exp.Expr) -> TypeGuard[exp.Table]:
    return isinstance(source, exp.Table) and source.name.casefold() in _RUN_VIEWS


def _is_plain(table: exp.Expr) -> bool:
    """Return True if the columns of a table have the names that its view gives them."""
    alias = table.args.get("alias")
    renamed = alias is not None and alias.args.get("columns")
    return not renamed and not table.args.get("pivots") and not table.args.get("joins")


def _is_run_id(node: object) -> TypeGuard[exp.Column]:
    return isinstance(node, exp.Column) and node.name.casefold() == "run_id" and not node.args.get("db")


def _compared_column(condition: exp.Expr) -> exp.Column | None:
    """Return the column `run_id` that a condition compares with runs, or None for another condition."""
    left, right = condition.args.get("this"), condition.args.get("expression")
    holds = False
    if isinstance(condition, exp.EQ):
        if not _is_run_id(left):
            left, right = right, left
        holds = _is_run(right) or (isinstance(right, exp.Any) and _is_run_list(right.this))
    elif isinstance(condition, exp.In):
        # IN with one text is a search for a part of it.
        holds = _is_run_list(condition.args.get("field")) or _are_runs(condition.expressions)
    elif isinstance(condition, exp.ArrayContains):
        left, right = right, left
        holds = _is_run_list(right)
    return left if holds and _is_run_id(left) else None


def _is_run(node: object) -> bool:
    """Return True if a value is one run: a parameter, or a text that lint compares with the evidence."""
    if isinstance(node, exp.Literal):
        return bool(node.is_string)
    return isinstance(node, exp.Parameter | exp.Placeholder) and node.name in PAIR_PARAMETERS


def _are_runs(nodes: list[exp.Expr]) -> bool:
    return bool(nodes) and all(map(_is_run, nodes))


def _is_run_list(node: object) -> bool:
    if isinstance(node, exp.Paren):
        return _is_run_list(node.this)
    if isinstance(node, exp.Array):
        return _are_runs(node.expressions)
    return isinstance(node, exp.Parameter | exp.Placeholder) and node.name in LIST_PARAMETERS
