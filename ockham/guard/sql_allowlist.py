"""The first layer: an allow-list over the parsed SQL, which refuses what it does not know.

Measured with DuckDB 2.0: a COPY or DELETE inside a CTE still reports itself as SELECT, so the statement's type says
nothing. Here the text must parse, be one query, and every node, table and function in it must be on a list.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ockham.errors import QueryError, QuerySyntaxError, suggest_name

MAX_LENGTH = 100_000
MAX_NODES = 20_000
TABLE_FUNCTIONS = frozenset({"range", "unnest", "generate_series"})
# By the names that people write in DuckDB, and those that sqlglot gives them; what is not here is refused.
FUNCTIONS = frozenset(["abs", "acos", "age", "any_value", "approx_count_distinct", "approx_quantile", "arg_max", "arg_max_null", "arg_min", "arg_min_null", "array_agg", "array_contains", "array_length", "asin", "atan", "atan2", "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "cardinality", "case", "cast", "cbrt", "ceil", "ceiling", "char_length", "coalesce", "concat", "concat_ws", "contains", "corr", "cos", "cot", "count", "count_if", "count_star", "covar_pop", "covar_samp", "cume_dist", "current_date", "current_timestamp", "date_add", "date_diff", "date_part", "date_sub", "date_trunc", "datediff", "datepart", "datesub", "datetrunc", "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "degrees", "dense_rank", "element_at", "ends_with", "entropy", "epoch", "epoch_ms", "epoch_us", "epoch_ns", "even", "exp", "extract", "favg", "filter", "first", "first_value", "flatten", "floor", "fsum", "generate_series", "geomean", "greatest", "group_concat", "grouping", "hash", "histogram", "hour", "if", "ifnull", "iif", "instr", "isfinite", "isinf", "isnan", "isodow", "isoyear", "json", "json_array_length", "json_extract", "json_extract_path", "json_extract_path_text", "json_extract_string", "json_exists", "json_keys", "json_type", "json_valid", "json_value", "kurtosis", "lag", "last", "last_day", "last_value", "lead", "least", "left", "len", "length", "levenshtein", "list", "list_aggregate", "list_any_value", "list_avg", "list_contains", "list_count", "list_distinct", "list_extract", "list_filter", "list_max", "list_mean", "list_median", "list_min", "list_position", "list_reduce", "list_reverse", "list_reverse_sort", "list_slice", "list_sort", "list_sum", "list_transform", "list_unique", "list_value", "list_zip", "ln", "log", "log10", "log2", "lower", "ltrim", "mad", "make_date", "make_timestamp", "map", "map_contains", "map_entries", "map_extract", "map_extract_value", "map_from_entries", "map_keys", "map_values", "max", "max_by", "md5", "mean", "median", "microsecond", "millisecond", "min", "min_by", "minute", "mod", "mode", "month", "monthname", "nth_value", "ntile", "nullif", "percent_rank", "pi", "pow", "power", "prefix", "product", "quantile", "quantile_cont", "quantile_disc", "quarter", "radians", "range", "rank", "regexp_extract", "regexp_full_match", "regexp_matches", "regexp_replace", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "replace", "reservoir_quantile", "reverse", "right", "round", "round_even", "row", "row_number", "rtrim", "second", "sem", "sha256", "sign", "sin", "skewness", "split", "split_part", "sqrt", "starts_with", "stddev", "stddev_pop", "stddev_samp", "str_split", "string_agg", "string_split", "strip_accents", "strftime", "strlen", "strpos", "strptime", "struct_extract", "struct_pack", "substr", "substring", "suffix", "sum", "tan", "time_bucket", "to_days", "to_hours", "to_json", "to_microseconds", "to_milliseconds", "to_minutes", "to_months", "to_seconds", "to_timestamp", "to_weeks", "to_years", "translate", "trim", "trunc", "try_cast", "try_strptime", "typeof", "unicode", "unnest", "upper", "var_pop", "var_samp", "variance", "week", "weekday", "weekofyear", "xor", "year", "yearweek", "histogram_values", "array", "array_distinct", "bitwise_and_agg", "bitwise_or_agg", "bitwise_xor_agg", "collate", "columns", "date_bin", "date_from_parts", "exists", "explode", "json_extract_scalar", "parse_json", "percentile_cont", "percentile_disc", "regexp_like", "sha2", "str_position", "str_to_time", "struct", "time_to_str", "time_to_unix", "timestamp_from_parts", "timestamp_trunc", "to_map", "transform", "unix_to_time", "list_dot_product", "date", "timestamp", "array_slice", "array_sort", "array_transform", "array_filter", "array_sum", "array_max", "array_min", "quantile_disc", "count_distinct", "weighted_avg", "wavg", "equi_width_bins", "isoweek"])  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SYSTEM = ("sqlite_", "duckdb_", "pg_", "pragma_", "information_schema", "raw_", "show", "desc", "summarize")
_ROOTS = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
_REFUSED = (
    exp.Command, exp.DDL, exp.DML, exp.Copy, exp.Create, exp.Drop, exp.Alter, exp.Set, exp.Pragma, exp.Use, exp.Attach,
    exp.Detach, exp.Describe, exp.Show, exp.Summarize, exp.Into, exp.Lock, exp.Transaction, exp.Commit, exp.Rollback,
    exp.Merge, exp.LoadData, exp.Cache, exp.Uncache, exp.Analyze, exp.Kill, exp.Grant, exp.TruncateTable, exp.Install,
    exp.SessionParameter, exp.Hint, exp.TableSample,
)  # fmt: skip


def check_query(text: str, tables: Collection[str]) -> None:
    """Refuse everything but one query over the given views.

    Args:
        text: SQL in DuckDB's dialect.
        tables: names of the views that may be read.

    Raises:
        QueryError: saying what is refused, and what would be accepted.

    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"a query of {len(text)} characters; at most {MAX_LENGTH} are read")
    if "\0" in text:
        raise QueryError("a query has no NUL character")
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # what it falls back to is refused below
    try:
        statements = [one for one in sqlglot.parse(text, read="duckdb") if one is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise QuerySyntaxError(told) from None
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements; exactly one query is answered")
    root = statements[0]
    if not isinstance(root, _ROOTS):
        raise QueryError(f"{root.key.upper()} is refused; a query begins with SELECT, FROM, VALUES or WITH")
    known = {name.lower() for name in tables}
    for count, node in enumerate(root.walk()):
        if count > MAX_NODES:
            raise QueryError(f"this query has more than {MAX_NODES} parts")
        _check_node(node, known)


def _check_node(node: exp.Expr, tables: Collection[str]) -> None:
    if isinstance(node, _REFUSED):
        raise QueryError(f"{node.key.upper()} is refused: a query only reads")
    if isinstance(node, exp.Table):
        _check_table(node, tables)
    elif isinstance(node, exp.CTE):
        _check_cte(node)
    elif isinstance(node, exp.Func) and not isinstance(node, (exp.Connector, exp.Case, exp.Cast)):
        _check_function(node)


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
        raise QueryError(f"{node.sql(dialect='duckdb')!r:.80}: a view is named without schema or database")
    if name.lower() in _names_in_scope(node) or name.lower() in tables:
        return
    raise QueryError(f"no view {name!r:.80}{suggest_name(name, tables)}; `ockham schema` lists them")


def _names_in_scope(node: exp.Expr) -> set[str]:
    """Names of the CTEs that a table's name can mean where it stands.

    As DuckDB binds them: a CTE sees those before it, not itself and not those after it, or `with sqlite_master as
    (from sqlite_master)` would read the system's table under a name that looks like the query's own.
    """
    names: set[str] = set()
    path: list[exp.Expr] = [node]
    while (above := path[-1].parent) is not None:
        ctes = above.args.get("with_")
        if isinstance(above, exp.With):
            names |= _names_before(above, path)
        elif ctes is not None and path[-1] is not ctes:
            names |= {cte.alias.lower() for cte in ctes.expressions}
        path.append(above)
    return names


def _names_before(ctes: exp.With, path: list[exp.Expr]) -> set[str]:
    """Names that a CTE may use: those before it, and its own in the recursive half of a recursive UNION."""
    own = path[-1]
    place = next(i for i, cte in enumerate(ctes.expressions) if cte is own)
    names = {cte.alias.lower() for cte in ctes.expressions[:place]}
    body = own.this
    recursive = bool(ctes.args.get("recursive")) and isinstance(body, exp.Union)
    if recursive and any(step is body.expression for step in path):
        names.add(own.alias.lower())
    return names


def _check_cte(node: exp.CTE) -> None:
    """A CTE's name can't be one that means something to DuckDB before the query is bound."""
    name = node.alias
    if not _PLAIN.fullmatch(name) or name.lower().startswith(_SYSTEM):
        raise QueryError(
            f"{name!r:.80} can't name a part of a query: letters, digits and _, and none of the system's names"
        )


def _check_function(node: exp.Func) -> None:
    name = _function_name(node)
    if name not in FUNCTIONS and not any(alias.lower() in FUNCTIONS for alias in _aliases(node)):
        raise QueryError(
            f"function {name!r:.80} is refused{suggest_name(name, FUNCTIONS) if len(name) < 40 else ''}"[:400]
        )


def _aliases(node: exp.Func) -> list[str]:
    """The names of a function that sqlglot knows by a class of its own."""
    return [] if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)) else list(node.sql_names())


def _function_name(node: exp.Func) -> str:
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)):
        return str(node.name or node.this).lower()
    return str(node.sql_name()).lower()
