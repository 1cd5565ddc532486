"""Functions that make untrusted text safe for a terminal or a spreadsheet."""

from __future__ import annotations

import json
import re

_NOT_PLAIN_ASCII = re.compile(r"[^\x20-\x7e\t\n]")


def escape_formula(text: str) -> str:
    """Return the text of a cell so that no spreadsheet runs it as a formula. Numbers stay numbers."""
    if text[:1] not in ("=", "+", "-", "@"):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text


def escape_control_characters(text: str) -> str:
    """Return *text* with control characters escaped as in JSON, so that JSON output stays valid."""
    return _NOT_PLAIN_ASCII.sub(
        lambda match: match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1], text
    )
