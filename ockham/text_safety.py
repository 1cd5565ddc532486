"""Text of strangers on its way to a terminal or a spreadsheet."""

from __future__ import annotations

import json
import re

_MAYBE_UNSEEN = re.compile(r"[^\x20-\x7e\t\n]")


def escape_formula(text: str) -> str:
    """A cell that a spreadsheet would run as a formula, as text; a number stays one."""
    if text[:1] not in ("=", "+", "-", "@"):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text


def escape_control_characters(text: str) -> str:
    """Lines as they may reach a terminal: a control character is written as JSON writes it, so that JSON stays itself."""
    return _MAYBE_UNSEEN.sub(
        lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text
    )
