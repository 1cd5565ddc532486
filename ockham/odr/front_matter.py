"""Front matter of a record: YAML 1.2 as plain values, with the location and exact text of each scalar.

The values are built from the parser's events, not by a loader. A date therefore remains a string
(`2026-13-45` is a finding and not a ValueError), the second of two equal keys has a line, an alias cannot
expand, and `+0.40` keeps its two digits. Scalars follow the core schema of YAML 1.2: `no` is a string, `0o7`
is 7, `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

MAX_DEPTH = 16
KeyPath = tuple[str | int, ...]
_INT = re.compile(r"[-+]?[0-9]{1,300}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,250}|0o[0-7]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}


class SourceLocation(NamedTuple):
    """Location of a key and its value in the file, counted from 1, and the text of a scalar as written."""

    line: int
    column: int
    text: str


class FrontMatter(NamedTuple):
    """Parsed values, and the location of every key and list item by its path."""

    values: Any
    places: dict[KeyPath, SourceLocation]

    def place(self, path: KeyPath) -> SourceLocation:
        """Return the location of a path, or of the nearest existing parent."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, SourceLocation(1, 1, ""))


class FrontMatterError(Exception):
    """The front matter is not valid YAML for a record. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int = 1) -> None:
        self.message, self.line, self.column = message, line, column
        super().__init__(message)


def parse_front_matter(
    text: str, first_line: int, is_text: Callable[[KeyPath], bool] = lambda _: False
) -> FrontMatter:
    """Parse the YAML between the two `---`.

    Args:
        text: The lines.
        first_line: Number of the first line in the file.
        is_text: Returns True if the scalar at a path is a string even if it resembles a number.

    Raises:
        FrontMatterError: If it is not YAML, contains a duplicate key, or uses anchors or tags.

    """
    builder = _Builder(first_line, is_text)
    try:
        events = YAML(typ="safe").parse(text)
        values = builder.document(iter(events))
    except (YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise _front_error(error, first_line) from None
    return FrontMatter(values, builder.places)


class _Builder:
    """Builds values from the parser's events."""

    def __init__(self, first_line: int, is_text: Callable[[KeyPath], bool]) -> None:
        self.places: dict[KeyPath, SourceLocation] = {}
        self._first, self._is_text = first_line, is_text

    def document(self, events: Iterator[Any]) -> Any:
        next(events)
        event = next(events)
        if type(event).__name__ == "StreamEndEvent":
            return None
        values = self._value(next(events), events, ())
        next(events)
        event = next(events)
        if type(event).__name__ != "StreamEndEvent":
            raise self._error(event, "a second YAML document; the front matter is one")
        return values

    def _value(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise self._error(event, "anchors and aliases (& and *) are not accepted: write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._error(event, f"the tag {event.tag} is not accepted: write a plain value")
        if len(path) > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} deep")
        if kind == "MappingStartEvent":
            return self._mapping(events, path)
        if kind == "SequenceStartEvent":
            return self._sequence(events, path)
        self._check_text(event)
        plain = event.implicit[0] and not self._is_text(path)
        return parse_scalar(event.value) if plain else event.value

    def _mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = getattr(event, "value", None)
            if key is None or getattr(event, "anchor", None) or getattr(event, "tag", None) is not None:
                raise self._error(event, "a key must be a plain word")
            self._check_text(event)
            if key in values:
                before = self.places[(*path, key)].line
                raise self._error(event, f"duplicate key {key!r:.60} (first in line {before})")
            values[key] = None
            value = next(events)
            self._note((*path, key), event, value)
            values[key] = self._value(value, events, (*path, key))
        return values

    def _sequence(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        values: list[Any] = []
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            here = (*path, len(values))
            self._note(here, event, event)
            values.append(self._value(event, events, here))
        return values

    def _note(self, path: KeyPath, key: Any, value: Any) -> None:
        mark, text = key.start_mark, getattr(value, "value", "")
        self.places[path] = SourceLocation(
            self._first + mark.line,
            mark.column + 1,
            text if isinstance(text, str) else "",
        )

    def _check_text(self, event: Any) -> None:
        """Reject half of a surrogate pair. The C parser rejects it, the Python parser does not."""
        if _SURROGATE.search(event.value):
            raise self._error(event, "half a surrogate pair is no character")

    def _error(self, event: Any, message: str) -> FrontMatterError:
        return FrontMatterError(message, self._first + event.start_mark.line, event.start_mark.column + 1)


def parse_scalar(text: str) -> Any:
    """Return a plain scalar by the core schema of YAML 1.2: number, boolean, null or string."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def _front_error(error: Exception, first_line: int) -> FrontMatterError:
    if isinstance(error, FrontMatterError):
        return error
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error) or type(error).__name__
    message = " ".join(str(problem).split("\n")[0].split())[:200]
    return FrontMatterError(message, first_line + (mark.line if mark else 0), mark.column + 1 if mark else 1)
