"""Functions that make untrusted text safe for a terminal or a spreadsheet."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_NOT_PLAIN_ASCII = re.compile(r"[^\x20-\x7e\t\n]")


def is_path_text(text: str) -> bool:
    """Return True if the text of an option can only be a path: it has a separator, or ends with an extension.

    Every other text is a name, also if a file of that name exists. Otherwise, a file in the working folder
    could replace a preset or an encoding.
    """
    return "/" in text or os.sep in text or Path(text).suffix != "" or text in (".", "..")


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
