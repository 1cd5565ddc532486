"""Comparing JSON values to the last bit: shortest round-trip doubles differ exactly where their bits do."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterator, Mapping
from typing import Any

import orjson


def state_digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of a lossless state as the log writes it: sorted keys, no spaces."""
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


def float_bits(values: tuple[Any, ...]) -> bytes:
    """Numbers, booleans and None as bytes in which each double stands as its own IEEE-754 bits."""
    return marshal.dumps(values, 2)  # version 2 shares no object, so equal bits are equal bytes


def canonical_json(value: Any) -> str:
    """A value as JSON text with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def json_equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same to the last bit, in whatever order their keys stand."""
    return canonical_json(one) == canonical_json(other)


def json_diff(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The innermost places where two JSON values differ, as `changes.0.after`."""
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
