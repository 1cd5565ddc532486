"""Comparison of JSON values bit for bit: shortest round-trip doubles differ exactly if their bits differ."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterator, Mapping
from typing import Any

import orjson


def state_digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a state as the log writes it: sorted keys, no spaces."""
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


def float_bits(values: tuple[Any, ...]) -> bytes:
    """Return numbers, booleans and None as bytes, with each float as its IEEE-754 bits."""
    # Version 2 shares no object, so equal bits are equal bytes.
    return marshal.dumps(values, 2)


def canonical_json(value: Any) -> str:
    """Return a value as JSON text with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def json_equal(one: Any, other: Any) -> bool:
    """Return True if two JSON values are equal bit for bit, in any order of keys."""
    return canonical_json(one) == canonical_json(other)


def json_diff(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the innermost paths at which two JSON values differ, such as `changes.0.after`."""
    if json_equal(old, new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from json_diff(old.get(key), new.get(key), f"{path}.{key}".strip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from json_diff(one, other, f"{path}.{at}".strip("."))
    else:
        yield path, old, new
