"""Check of the front matter against `schemas/odr.v1.schema.json`: every error with its line."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from ockham.errors import suggest_name
from ockham.odr.front_matter import KeyPath
from ockham.odr.record import DecisionRecord
from ockham.record import schema

_CODES = {
    "required": "ODR101",
    "additionalProperties": "ODR102",
    "type": "ODR103",
    "enum": "ODR104",
    "const": "ODR104",
    "pattern": "ODR105",
    "format": "ODR106",
}
# Limit per location: computing hints for forty thousand keys takes seconds.
_HINTS = 20
_PATTERN_DESCRIPTIONS = {
    "^ODR-[0-9]{4}$": "looks like ODR-0001",
    "^C[1-9][0-9]{0,2}$": "looks like C1",
    "^[0-9a-f]{64}$": "is 64 hex digits",
    "^sha256:[0-9a-f]{64}$": "is sha256: and 64 hex digits",
    "^[0-9a-f]{8}[0-9a-f-]{0,28}$": "is a decision ID, or 8 digits or more of its beginning",
    "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$": (
        "is an event ID, as written by `ockham odr register`"
    ),
    "^[a-z0-9][a-z0-9._-]{0,63}$": "is a run ID: a-z, 0-9, '.', '_' and '-', at most 64",
    "^[a-z0-9][a-z0-9-]{0,39}$": "is a tag: a-z, 0-9 and '-', at most 40",
}
# Only the evidence has such rules.
_ALTERNATIVES = {
    "oneOf": "needs `candidate`, or the list `candidates`, and not both",
    "not": "has both `baseline` and `baselines`; name one run, or a list",
}
# Frequent words and signs, and the accepted ones that they mean.
_SYNONYMS = {
    "=<": "<=",
    "=>": ">=",
    "≤": "<=",
    "≥": ">=",
    "=": "==",
    "approved": "accepted",
    "declined": "rejected",
    "deprecated": "retired",
    "replaced": "superseded",
    "warning": "warn",
    "median": "mean",
}
_OR = re.compile(r"\W+")


@functools.cache
def _validator() -> Any:
    return jsonschema_rs.Draft202012Validator(schema.load_schema("odr"), validate_formats=True)


def check_schema(record: DecisionRecord) -> None:
    """Add a finding for every schema error of the front matter."""
    if record.front is None or not isinstance(record.front.values, dict):
        return
    infinite = set(_not_finite(record.front.values, ()))
    for path in infinite:
        record.add_finding_at(
            "ODR502", f"{_name(path)} is not a finite number", path, _constraint(record, path)
        )
    seen: set[tuple[KeyPath, str]] = set()
    for fault in _validator().iter_errors(record.front.values):
        path = tuple(fault.instance_path)
        code = _CODES.get(fault.kind.name, "ODR109")
        # One word about a wrong type, not a second one from the enum.
        typed = (path, "ODR103") in seen
        if path not in infinite and not typed:
            _note(record, code, path, fault)
        seen.add((path, code))


def _note(record: DecisionRecord, code: str, path: KeyPath, error: Any) -> None:
    constraint = _constraint(record, path)
    if code == "ODR101":
        record.add_finding_at(
            code, f"the key {error.kind.property!r} is missing{_path_suffix(path)}", path, constraint
        )
    elif code == "ODR102":
        known = _known(path)
        for at, key in enumerate(error.kind.unexpected):
            hint = suggest_name(str(key), known) if at < _HINTS else ""
            message = f"unknown key {key!r:.60}{_path_suffix(path)}{hint}"
            record.add_finding_at(code, message, (*path, key), constraint)
    else:
        record.add_finding_at(code, f"{_name(path)} {_message(error)}", path, constraint)


def _message(error: Any) -> str:
    message, kind = str(error.message), error.kind
    given, _, rest = message.partition(" is not of type ")
    if kind.name == "type":
        return (
            f"is {given:.60}, not of type {_OR.sub(' or ', rest).removeprefix(' or ').removesuffix(' or ')}"
        )
    if kind.name in {"enum", "const"}:
        options = kind.options if kind.name == "enum" else [kind.expected_value]
        given = str(error.instance)
        known = ", ".join("null" if option is None else str(option) for option in options)
        return f"is {given!r:.60}; accepted: {known}{_suggestion(given, options)}"
    if kind.name == "pattern":
        expected = _PATTERN_DESCRIPTIONS.get(kind.pattern, f"must match {kind.pattern}")
        return f"is {error.instance!r:.80}; it {expected}"
    if kind.name in _ALTERNATIVES:
        return _ALTERNATIVES[kind.name]
    if kind.name == "format":
        return f"is {error.instance!r:.60}, which is not a date in the form YYYY-MM-DD"
    return message if len(message) <= 160 else f"{message[:60]} ... {message[-80:]}"


def _suggestion(given: str, options: list[Any]) -> str:
    """Return the accepted value that a word resembles, or that it usually means."""
    known = {str(option).casefold(): str(option) for option in options if option is not None}
    known |= {word: name for word, name in _SYNONYMS.items() if name in known.values()}
    # `KEEP (1 waived until 2027-01-31)` begins with an accepted word.
    first = [word for word in given.casefold().split()[:1] if word in known]
    close = first or difflib.get_close_matches(given[:60].casefold(), known, n=1)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


def _known(path: KeyPath) -> list[str]:
    """Return the keys of the schema at a path."""
    part: Mapping[str, Any] = schema.load_schema("odr")
    root = part
    for key in path:
        part = part["items"] if isinstance(key, int) else part["properties"][key]
        # `#/$defs/side`
        part = root["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return list(part["properties"])


def _not_finite(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, (*path, index))


def _constraint(record: DecisionRecord, path: KeyPath) -> str:
    """Return the ID of the constraint that contains a path."""
    if len(path) < 2 or path[0] != "constraints":
        return ""
    return next((c.id for c in record.claims.constraints if c.position == path[1]), "")


def _name(path: KeyPath) -> str:
    return (
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        or "the front matter"
    )


def _path_suffix(path: KeyPath) -> str:
    return f" in {_name(path)}" if path else ""
