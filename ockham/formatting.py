"""Values as text: cells of tables, strict JSON, and the current UTC date."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from typing import Any


def today() -> dt.date:
    """Return the current date in UTC."""
    return dt.datetime.now(dt.UTC).date()


def to_strict_json(value: Any) -> Any:
    """Return *value* as strict JSON: non-finite numbers and times as strings, Arrow maps as objects."""
    # DuckDB returns a literal such as 1.5 as a Decimal.
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return _format_nonfinite(value)
    if isinstance(value, (dt.datetime, dt.date)):
        return _format_time(value)
    if isinstance(value, dict):
        return {str(key): to_strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        # Arrow returns a map as a list of pairs.
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return {str(key): to_strict_json(item) for key, item in value}
        return [to_strict_json(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def format_cell(value: Any) -> str:
    """Return *value* as the text of one cell, with control characters escaped. None becomes empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dt.datetime, dt.date)):
        return _format_time(value)
    if isinstance(value, (list, dict, tuple)):
        value = json.dumps(to_strict_json(value), ensure_ascii=False)
    text = repr(value) if isinstance(value, float) else str(value)
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _format_nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _format_time(value: dt.datetime | dt.date) -> str:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value.isoformat()
