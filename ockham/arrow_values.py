"""Values of Arrow tables as Python objects, and how tables are written to Parquet."""

from __future__ import annotations

from typing import Any

# DuckDB stores infinite times and dates as the limits of their integers.
_LIMITS = {8: 2**63 - 1, 4: 2**31 - 1}


def column_values(column: Any) -> list[Any]:
    """Return the values of an Arrow column or array.

    A value outside of the range of Python, such as an infinite time, is returned as text.
    """
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        return [_scalar_value(scalar) for scalar in column]
    return values


def table_rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of an Arrow table as dictionaries, with the values of `column_values`."""
    columns = [column_values(table.column(index)) for index in range(table.num_columns)]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def columns_with_statistics(schema: Any) -> list[str]:
    """Return the columns for which a Parquet file may contain minimum and maximum: those without floats.

    Arrow leaves NaN out of minimum and maximum. DuckDB prunes and folds filters by them, and then returns
    wrong rows: with the values NaN and 3.8, `x = 3.8` finds both and `isnan(x)` none.
    """
    import pyarrow as pa

    return [
        field.name
        for field in schema
        if not pa.types.is_floating(field.type) and not pa.types.is_nested(field.type)
    ]


def _scalar_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        pass
    import pyarrow as pa

    if pa.types.is_struct(scalar.type):
        return {name: _scalar_value(scalar[name]) for name in scalar}
    if pa.types.is_map(scalar.type):
        return [(_scalar_value(pair["key"]), _scalar_value(pair["value"])) for pair in scalar.values]
    if pa.types.is_nested(scalar.type):
        return column_values(scalar.values)
    number, width = scalar.value, scalar.type.bit_width // 8
    limit = _LIMITS.get(width)
    if number == limit:
        return "infinity"
    if limit is not None and number in (-limit, -limit - 1):
        return "-infinity"
    return f"{number} {getattr(scalar.type, 'unit', 'days')}"
